"""Atomic grids as products of radii and directions, on which neural orbitals live and the Poisson equation
is solved.

Radii are r = scale exp(t - exp(-t)) at equidistant t: the trapezoidal rule converges exponentially for what
decays exponentially in r, and interpolation in t needs no boundary conditions.
Takahasi, Mori (1974), doi:10.2977/prims/1195192451; Mitani (2011), doi:10.1007/s00214-011-0985-x.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import ive

from dqc.grid import angular_points, becke_share, bragg_radii
from dqc.orbitals.harmonics import degrees
from dqc.types import pytree, replace

FIRST, LAST = -2.3, 3.4  # t of the first and the last radius: 5e-6 and 29, in units of the scale
STENCIL = 8  # nodes of the local interpolation
SUBDIVISIONS = 12  # Gauss-Legendre points between two nodes, for the radial integrals
FREQUENCIES = 48  # Gauss-Legendre points of the Gaussians that make erf(omega r)/r

# radii, directions, and the highest l of the Poisson solver, by level
LEVELS = (
    (24, 50, 5),
    (40, 146, 9),
    (50, 194, 11),
    (60, 302, 14),
    (70, 434, 17),
    (80, 590, 20),
    (96, 770, 23),
)


@pytree
class Quadrature:
    """A molecule's grid: ``w`` spheres of ``u`` points around each atom, and the radial Green functions.

    ``green`` holds r' integrals of 4 pi / (2 l + 1) r_<^l / r_>^(l + 1) against the interpolation of a
    function from its values on the radii, in units of the scale; ``attenuated`` those of erf(omega r)/r, atom
    by atom, for each of the ``omegas``.
    """

    coords: Float[Array, "a x"]  # nuclei, bohr
    charges: Float[Array, " a"]
    radii: Float[Array, " a"]  # Bragg-Slater radii of Becke's partition, bohr
    scale: Float[Array, " a"]  # of the radial grids, bohr
    nodes: Float[Array, " w"]  # t
    directions: Float[Array, "u x"]
    solid_angle: Float[Array, " u"]  # weights on the unit sphere, of sum 1
    share: Float[Array, "a w u"]  # Becke's
    weights: Float[Array, "a w u"]  # share included, bohr^3
    green: Float[Array, "l w w"] | Float[Array, "a l w w"]
    omegas: Float[Array, " o"]  # 1/bohr, ascending
    attenuated: Float[Array, "o a l w w"]

    def operators(self) -> list[tuple[Float[Array, ""], Quadrature]]:
        """omega, and the grid whose ``green`` belongs to erf(omega r)/r: first 1/r, with omega = 0."""
        none = replace(self, omegas=self.omegas[:0], attenuated=self.attenuated[:0])
        long_range = zip(self.omegas, self.attenuated, strict=True)
        return [(jnp.zeros(()), none), *((omega, replace(none, green=g)) for omega, g in long_range)]

    @property
    def distance(self) -> Float[Array, "a w"]:
        """The radii of the spheres, bohr."""
        return self.scale[:, None] * radius(self.nodes)

    @property
    def offset(self) -> Float[Array, "a w u x"]:
        """The points relative to their atoms, bohr."""
        return self.distance[:, :, None, None] * self.directions

    @property
    def points(self) -> Float[Array, "a w u x"]:
        return self.coords[:, None, None] + self.offset

    def attraction(self, points: Float[Array, "*b x"]) -> Float[Array, "*b"]:
        """-sum_A Z_A / |r - R_A|, hartree."""
        separation = jnp.sqrt(((points[..., None, :] - self.coords) ** 2).sum(-1))
        return -(self.charges / separation).sum(-1)

    @property
    def lmax(self) -> int:
        return int(self.green.shape[-3]) - 1


def quadrature(
    coords: Float[np.ndarray, "a x"] | Float[Array, "a x"],
    numbers: tuple[int, ...],
    level: int,
    omegas: tuple[float, ...] = (),
) -> Quadrature:
    """The grid of a molecule at a level of ``LEVELS``, with the operators erf(omega r)/r beside 1/r."""
    spheres, points, lmax = LEVELS[level]
    scale = [1.0 if z <= 2 else 0.7 for z in numbers]
    attenuated = [[green_functions(spheres, lmax, omega * x) for x in scale] for omega in omegas]
    shape = (len(omegas), len(numbers), lmax + 1, spheres, spheres)
    nodes = np.linspace(FIRST, LAST, spheres)
    directions, solid_angle = angular_points(points)
    grid = Quadrature(
        coords=jnp.asarray(coords, float),
        charges=jnp.asarray(numbers, float),
        radii=jnp.asarray(bragg_radii(numbers)),
        scale=jnp.asarray(scale),
        nodes=jnp.asarray(nodes),
        directions=jnp.asarray(directions),
        solid_angle=jnp.asarray(solid_angle),
        share=jnp.zeros((len(numbers), spheres, points)),
        weights=jnp.zeros((len(numbers), spheres, points)),
        green=jnp.asarray(green_functions(spheres, lmax)),
        omegas=jnp.asarray(omegas, float),
        attenuated=jnp.asarray(attenuated, float).reshape(shape),
    )
    return placed(grid, grid.coords, jnp.eye(3))


@jax.jit
def placed(grid: Quadrature, coords: Float[Array, "a x"], rotation: Float[Array, "x x"]) -> Quadrature:
    """The grid around nuclei at ``coords``, its directions turned: the quadrature that orbitals cannot
    learn."""
    grid = replace(grid, coords=coords, directions=grid.directions @ rotation)
    a, w, u = grid.share.shape
    atom = jnp.repeat(jnp.arange(a), w)

    def sphere(args: tuple[Array, Array]) -> Float[Array, " u"]:
        b, points = args
        return becke_share(points, jnp.full(u, b), coords, grid.radii)

    share = jax.lax.map(sphere, (atom, grid.points.reshape(a * w, u, 3))).reshape(a, w, u)
    step = grid.nodes[1] - grid.nodes[0]
    jacobian = step * grid.distance**3 * (1.0 + jnp.exp(-grid.nodes))
    weights = 4.0 * pi * share * jacobian[:, :, None] * grid.solid_angle
    return replace(grid, share=share, weights=weights)


def rotation(key: Array) -> Float[Array, "x x"]:
    """A random rotation, uniform: the orthogonal factor of a Gaussian matrix."""
    Q, R = jnp.linalg.qr(jax.random.normal(key, (3, 3), float))
    Q = Q * jnp.sign(jnp.diagonal(R))
    return Q * jnp.sign(jnp.linalg.det(Q))


def radius(t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """exp(t - exp(-t))."""
    return jnp.exp(t - jnp.exp(-t))


def node_of(r: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The t of a radius, by Newton's method for t - exp(-t) = ln r, from below, where it is monotonic."""
    y = jnp.log(r)
    t = jnp.where(y < 0.0, -jnp.log1p(jnp.maximum(-y, 0.0)), y)
    for _ in range(6):
        z = jnp.exp(-t)
        t = t - (t - z - y) / (1.0 + z)
    return t


def interpolation(nodes: Float[Array, " w"], t: Float[Array, " u"]) -> Float[Array, "u w"]:
    """Rows that interpolate from values on the nodes by the polynomial through the STENCIL nearest ones."""
    w = nodes.shape[0]
    place = (t - nodes[0]) / (nodes[1] - nodes[0])
    first = jnp.clip(jnp.floor(place).astype(int) - STENCIL // 2 + 1, 0, w - STENCIL)
    x = place - first
    columns = jnp.arange(w)
    rows = jnp.zeros((t.shape[0], w), t.dtype)
    for k in range(STENCIL):
        others = [j for j in range(STENCIL) if j != k]
        value = jnp.prod(jnp.stack([(x - j) / (k - j) for j in others]), axis=0)
        rows = rows + jnp.where(columns == (first + k)[:, None], value[:, None], 0.0)
    return rows


@lru_cache(maxsize=32)
def green_functions(spheres: int, lmax: int, omega: float = 0.0) -> np.ndarray:
    """G_l[n, m] = int 4 pi/(2 l + 1) g_l(r, r') h_m(r') r'^2 dr' with r = r_n and h_m cardinal functions.

    g_l = r_<^l / r_>^(l+1) for 1/r, and :func:`attenuated_kernel` for erf(omega r)/r. Integrated piece by
    piece between the nodes, so that the kink at r' = r_n does no harm.
    """
    nodes = np.linspace(FIRST, LAST, spheres)
    step = nodes[1] - nodes[0]
    x, weight = np.polynomial.legendre.leggauss(SUBDIVISIONS)
    fine = (nodes[:-1, None] + 0.5 * step * (x + 1.0)).ravel()
    cardinal = np.asarray(interpolation(jnp.asarray(nodes), jnp.asarray(fine)))
    log_fine, log_node = fine - np.exp(-fine), (nodes - np.exp(-nodes))[:, None]
    measure = np.tile(0.5 * step * weight, spheres - 1) * np.exp(3.0 * log_fine) * (1.0 + np.exp(-fine))
    if omega:
        kernel = attenuated_kernel(lmax, np.exp(log_node), np.exp(log_fine), omega)
    else:
        larger, ratio = np.maximum(log_node, log_fine), -np.abs(log_node - log_fine)
        kernel = np.stack([np.exp(l * ratio - larger) for l in range(lmax + 1)])
    degree = np.arange(lmax + 1)[:, None, None]
    return (4.0 * pi / (2 * degree + 1) * kernel * measure) @ cardinal


def attenuated_kernel(lmax: int, r: np.ndarray, s: np.ndarray, omega: float) -> np.ndarray:
    """The radial functions of erf(omega |r - s|)/|r - s| = sum_l g_l(r, s) P_l(cos), l = 0..lmax.

    g_l = (2 l + 1) 2/sqrt(pi) int_0^omega exp(-u^2 (r - s)^2) [exp(-x) i_l(x)] du with x = 2 u^2 r s: the
    Gaussian integral of the operator, and Rayleigh's expansion of a Gaussian in modified spherical Bessel
    functions (DLMF 10.60.9, with imaginary argument).
    """
    node, weight = np.polynomial.legendre.leggauss(FREQUENCIES)
    total = np.zeros((lmax + 1, *np.broadcast_shapes(r.shape, s.shape)))
    for u, du in zip(0.5 * omega * (node + 1.0), 0.5 * omega * weight, strict=True):
        bessel = _scaled_bessel(lmax, 2.0 * u * u * r * s)
        total += 2.0 / sqrt(pi) * du * np.exp(-((u * (r - s)) ** 2)) * bessel
    return (2 * np.arange(lmax + 1)[:, None, None] + 1) * total


def _scaled_bessel(lmax: int, x: np.ndarray) -> np.ndarray:
    """exp(-x) i_l(x) for l = 0..lmax and x > 0, by ratios i_l/i_(l-1), downward from the last one."""
    below, last = ive(lmax - 0.5, x), ive(lmax + 0.5, x)
    tiny = below < 1e-200
    ratios = [np.where(tiny, x / (2 * lmax + 1), last / np.where(tiny, 1.0, below))]
    for l in range(lmax - 1, 0, -1):
        ratios.append(x / (2 * l + 1 + x * ratios[-1]))
    return np.cumprod(np.stack([-np.expm1(-2.0 * x) / (2.0 * x), *ratios[::-1]]), axis=0)


def harmonic_degrees(grid: Quadrature) -> Int[np.ndarray, " y"]:
    """The l of each harmonic of the Poisson solver."""
    return degrees(grid.lmax)
