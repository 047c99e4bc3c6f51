"""The Coulomb potential of densities on atomic grids: a multicentre Poisson solver.

A density is split by Becke's partition, each part expanded in spherical harmonics about its atom, and the
radial equation of each harmonic solved by its Green function; the potential of every part is then
interpolated to all points. Becke, Dickson (1988), doi:10.1063/1.455005. Linear in the density, and nothing
else: its transpose is JAX's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.orbitals.harmonics import solid_harmonics
from dqc.orbitals.quadrature import Quadrature, harmonic_degrees, interpolation, node_of, radius


def potential(grid: Quadrature, rho: Float[Array, "k a w u"]) -> Float[Array, "k a w u"]:
    """V(r) = int rho(r') / |r - r'| dr' on the points, hartree/e, for each of k densities.

    Under the operator erf(omega r)/r where that is what ``grid.green`` belongs to. Exact but for the
    expansion's end at ``grid.lmax`` and the grids; symmetric only up to these.
    """
    parts = moments(grid, rho)
    Y = solid_harmonics(grid.lmax, grid.directions)
    own = jnp.einsum("uy,kawy->kawu", Y, parts)
    atoms = range(grid.coords.shape[0])
    pairs = np.array([(A, B) for A in atoms for B in atoms if A != B])
    if not len(pairs):
        return own

    def add(V: Array, pair: Array) -> tuple[Array, None]:
        A, B = pair
        points = grid.points[B]
        return V.at[:, B].add(elsewhere(grid, A, parts[:, A], points)), None

    return jax.lax.scan(add, own, jnp.asarray(pairs))[0]


def moments(grid: Quadrature, rho: Float[Array, "k a w u"]) -> Float[Array, "k a w y"]:
    """The radial functions V_lm(r_w) of the potential of each atom's part of the density."""
    Y = solid_harmonics(grid.lmax, grid.directions)
    scaled = 4.0 * jnp.pi * grid.solid_angle[:, None] * Y
    expansion = jnp.einsum("kawu,uy->kawy", rho * grid.share, scaled)
    green = grid.green[..., harmonic_degrees(grid), :, :]
    solve = "yvw,kawy->kavy" if green.ndim == 3 else "ayvw,kawy->kavy"
    return jnp.einsum(solve, green, expansion) * (grid.scale**2)[:, None, None]


def elsewhere(
    grid: Quadrature, A: Array, part: Float[Array, "k w y"], points: Float[Array, "b u x"]
) -> Float[Array, "k b u"]:
    """The potential of atom A's part at points that are not its own."""
    l = harmonic_degrees(grid)
    table = part.transpose(1, 2, 0).reshape(part.shape[1], -1)
    end = radius(grid.nodes[-1])

    def row(points: Float[Array, "u x"]) -> Float[Array, "k u"]:
        r = points - grid.coords[A]
        distance = jnp.sqrt((r * r).sum(-1))
        Y = solid_harmonics(grid.lmax, r / distance[:, None])
        x = distance / grid.scale[A]
        inside = jnp.clip(x, radius(grid.nodes[0]), end)
        radial = interpolation(grid.nodes, node_of(inside)) @ table
        # Beyond the last sphere there is no charge: r^(-l-1).
        Y = Y * (inside / jnp.maximum(x, inside))[:, None] ** (l + 1)
        return jnp.einsum("uy,uyk->ku", Y, radial.reshape(*Y.shape, -1))

    return jax.lax.map(row, points).transpose(1, 0, 2)


def weighted_potential(grid: Quadrature, rho: Float[Array, "k a w u"]) -> Float[Array, "k a w u"]:
    """d/d rho of 1/2 sum_g w rho V[rho]: the symmetric part of w V, a linear map that is its own
    transpose."""
    V, transposed = potential(grid, rho), jax.linear_transpose(lambda x: potential(grid, x), rho)
    return 0.5 * (grid.weights * V + transposed(grid.weights * rho)[0])


def hartree(grid: Quadrature, rho: Float[Array, "a w u"]) -> Float[Array, ""]:
    """1/2 sum_g w rho V[rho], hartree."""
    return 0.5 * jnp.vdot(grid.weights * rho, potential(grid, rho[None])[0])


def asymmetry(grid: Quadrature, rho: Float[Array, "a w u"]) -> Float[Array, ""]:
    """sum_(A<B) |E_AB - E_BA| of the interactions of the atoms' parts: zero for an exact solver, hartree."""
    a = grid.coords.shape[0]
    one = jnp.eye(a)[:, :, None, None] * rho * 1.0
    V = potential(grid, one)  # of the part that atom A's points carry
    E = 0.5 * jnp.einsum("bwu,abwu->ab", grid.weights * rho, V)
    return 0.5 * jnp.abs(E - E.T).sum()
