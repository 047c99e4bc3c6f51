"""Self-interaction of one electron, where E_x[n] = -E_H[n], E_c[n] = 0 and v_H + v_xc = 0 for every n.

On densities in closed form no system is needed; on a molecule's (H2+, HeH2+) an orbital of a system is.
Perdew, Zunger (1981), doi:10.1103/PhysRevB.23.5048.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammainc, gammaincc
from jaxtyping import Array, Float

from dqc.energy import energies, fock
from dqc.system import System
from dqc.types import pytree
from dqc.xc.features import Features
from dqc.xc.functional import Functional

RADIAL, ANGULAR, WAVES = 240, 24, 200  # points of the quadratures in r, cos(theta) and k


@pytree
class OneElectron:
    """A normalised density |phi|^2 on quadrature points, and its electrostatics."""

    rho: Float[Array, " g"]
    grad: Float[Array, "x g"]
    tau: Float[Array, " g"]
    weights: Float[Array, " g"]
    potential: Float[Array, " g"]  # v_H, hartree
    wave: Float[Array, " v"]  # k, bohr^-1
    spectrum: Float[Array, " v"]  # quadrature weight times mean over directions of |n(k)|^2 / pi

    def coulomb(self, omega: float = 0.0) -> Float[Array, ""]:
        """E_H, or with erf(omega r)/r for 1/r where omega > 0: int n(k)^2 exp(-k^2/4 omega^2) dk / pi."""
        if not omega:
            return 0.5 * jnp.vdot(self.weights, self.rho * self.potential)
        return jnp.vdot(self.spectrum, jnp.exp(-((self.wave / (2.0 * omega)) ** 2)))


def hydrogenic(charge: float = 1.0, shell: Literal["1s", "2s", "2p"] = "1s") -> OneElectron:
    """The density of an orbital of a nucleus of this charge; E_H = 5/16, 77/1024, 501/5120 of it."""
    Z = float(charge)
    if shell not in _SHELLS:
        raise ValueError(f"shell={shell!r} is not one of {', '.join(_SHELLS)}.")
    orbital, potential, form = _SHELLS[shell]

    def phi(x: Float[Array, " x"]) -> Float[Array, ""]:
        return Z**1.5 * orbital(Z * x, jnp.linalg.norm(Z * x))

    return _on_points(
        phi,
        lambda r, cosine: Z * potential(Z * r, cosine),
        lambda k: form(k / Z),
        1.0 / Z,
        angular=shell == "2p",
    )


def gaussian(exponent: float) -> OneElectron:
    """n = (2 a / pi)^(3/2) exp(-2 a r^2), exponent a in bohr^-2; E_H = sqrt(a / pi)."""
    a = float(exponent)
    return _on_points(
        lambda x: (2.0 * a / pi) ** 0.75 * jnp.exp(-a * jnp.vdot(x, x)),
        lambda r, _: erf(sqrt(2.0 * a) * r) / r,
        lambda k: jnp.exp(-(k**2) / (4.0 * a)),
        1.0 / sqrt(a),
    )


# In units of the nuclear charge: phi(x, r), v_H(r, cos theta), mean over directions of |n(k)|^2.
_SHELLS: dict[str, tuple[Callable, Callable, Callable]] = {
    "1s": (
        lambda x, r: jnp.exp(-r) / sqrt(pi),
        lambda r, _: 1.0 / r - jnp.exp(-2.0 * r) * (1.0 / r + 1.0),
        lambda k: (1.0 + k**2 / 4.0) ** -4,
    ),
    "2s": (
        lambda x, r: (1.0 - r / 2.0) * jnp.exp(-r / 2.0) / sqrt(8.0 * pi),
        lambda r, _: 1.0 / r - jnp.exp(-r) * (1.0 / r + 0.75 + r / 4.0 + r**2 / 8.0),
        lambda k: ((1.0 - 3.0 * k**2 + 2.0 * k**4) / (1.0 + k**2) ** 4) ** 2,
    ),
    "2p": (
        lambda x, r: x[2] * jnp.exp(-r / 2.0) / sqrt(32.0 * pi),
        lambda r, cosine: (
            1.0 / r
            - jnp.exp(-r) * (1.0 / r + 0.75 + r / 4.0 + r**2 / 24.0)
            + (1.5 * cosine**2 - 0.5) * (12.0 * gammainc(7.0, r) / r**3 + r**2 * gammaincc(2.0, r) / 60.0)
        ),
        lambda k: ((1.0 - k**2) ** 2 + (4.0 * k**2) ** 2 / 5.0) / (1.0 + k**2) ** 8,
    ),
}


def _on_points(
    phi: Callable, potential: Callable, form: Callable, size: float, angular: bool = False
) -> OneElectron:
    """Gauss-Legendre quadrature over r and k in (0, infinity), and over cos(theta) in (0, 1)."""
    r, w = _half_line(RADIAL, size)
    cosine, share = np.polynomial.legendre.leggauss(ANGULAR) if angular else (np.ones(1), np.full(1, 2.0))
    cosine, share = (0.5 * (cosine + 1.0), 0.5 * share) if angular else (cosine, 0.5 * share)
    R, C = (x.ravel() for x in np.meshgrid(r, cosine, indexing="ij"))
    points = jnp.asarray(np.stack([R * np.sqrt(1.0 - C**2), 0.0 * R, R * C], axis=1))
    values, slopes = jax.vmap(jax.value_and_grad(phi))(points)
    k, v = _half_line(WAVES, 1.0 / size)
    return OneElectron(
        rho=values**2,
        grad=2.0 * (values[:, None] * slopes).T,
        tau=0.5 * (slopes**2).sum(1),
        weights=jnp.asarray(np.outer(4.0 * pi * r**2 * w, share).ravel()),
        potential=potential(jnp.asarray(R), jnp.asarray(C)),
        wave=jnp.asarray(k),
        spectrum=jnp.asarray(v) * form(jnp.asarray(k)) / pi,
    )


def _half_line(number: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(number)
    return scale * (1.0 + x) / (1.0 - x), scale * 2.0 * w / (1.0 - x) ** 2


def self_interaction(xc: Functional, density: OneElectron, zeta: float = 1.0) -> Float[Array, ""]:
    """E_xc + E_H of one electron, hartree, with the fractions (1 +- zeta)/2 of it in either spin.

    Exactly zero for every zeta: other values than 1 are fractional spins, at fixed density.
    """
    shares = jnp.asarray([1.0 + zeta, 1.0 - zeta]) / 2.0
    features = Features(
        rho=shares[:, None] * density.rho,
        grad=shares[:, None, None] * density.grad,
        tau=shares[:, None] * density.tau,
        exchange_density=-0.5 * shares[:, None] ** 2 * density.rho * density.potential,
    )
    E = jnp.vdot(density.weights, xc(features)) + density.coulomb()
    for omega, a in xc.exchange().items():
        E = E - a * jnp.sum(shares**2) * density.coulomb(omega)
    return E


def one_electron(xc: Functional, densities: Sequence[OneElectron]) -> Float[Array, ""]:
    """mean over densities of ((E_xc + E_H) / E_H)^2, dimensionless."""
    errors = [self_interaction(xc, n) / n.coulomb() for n in densities]
    return jnp.mean(jnp.stack(errors) ** 2)


def orbital_self_interaction(system: System, xc: Functional, orbital: Float[Array, " n"]) -> Float[Array, ""]:
    """E_xc + E_H of one electron in an orbital (by its AO coefficients, normalised), hartree."""
    E = energies(system, xc, *_alone(orbital))
    return E.coulomb + E.exact_exchange + E.xc


def orbital_potential(system: System, xc: Functional, orbital: Float[Array, " n"]) -> Float[Array, ""]:
    """int n (v_H + v_xc)^2 dr / E_H^2, dimensionless, zero for the exact functional.

    By the residual r = (J + V_xc) c of the Fock matrix, as r^T S^-1 r: (v_H + v_xc) phi projected on the
    basis, which any functional has, with exact exchange or the kinetic-energy density too.
    """
    alone = _alone(orbital)
    F, E = fock(system, xc, *alone, system.grid)
    r = (F[0] - system.kinetic - system.nuclear) @ orbital
    return jnp.vdot(r, jnp.linalg.solve(system.overlap, r)) / E.coulomb**2


def _alone(orbital: Float[Array, " n"]) -> tuple[Float[Array, "s n i"], Float[Array, "s i"]]:
    return jnp.stack([orbital, orbital])[:, :, None], jnp.asarray([[1.0], [0.0]])
