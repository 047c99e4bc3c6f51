"""Densities by their dimensionless variables: the box (r_s, s, zeta, alpha) of pointwise conditions."""

from __future__ import annotations

from math import pi

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.types import pytree
from dqc.xc.features import Features
from dqc.xc.functional import Rung
from dqc.xc.variables import RS

R_S = (1e-4, 5.0)  # the box of arXiv:2303.01766, its zeta on both sides
S, ZETA, ALPHA = (0.0, 5.0), (-1.0, 1.0), (0.0, 5.0)
EXCHANGE = 0.75 * (9.0 / (4.0 * pi**2)) ** (1 / 3)  # eps_x(unpolarised uniform gas) = -EXCHANGE / r_s


@pytree
class Points:
    """Densities at single points: Wigner-Seitz radius (bohr), reduced gradient, polarisation, alpha."""

    r_s: Float[Array, " g"]
    s: Float[Array, " g"]
    zeta: Float[Array, " g"]
    alpha: Float[Array, " g"]


def features_at(points: Points) -> Features:
    """The features of densities whose two spins have the same s-direction, relative gradient and alpha.

    n = 3 / (4 pi r_s^3), n_s = n (1 +- zeta) / 2, grad n_s in the same proportion (zeta is uniform), and
    tau_s = |grad n_s|^2 / (8 n_s) + alpha tau_unif(n_s), whose sum is tau_W + alpha tau_unif(n, zeta).
    """
    n = (RS / points.r_s) ** 3
    share = 0.5 * jnp.stack([1.0 + points.zeta, 1.0 - points.zeta])
    gradient = 2.0 * (3.0 * pi**2) ** (1 / 3) * n ** (4 / 3) * points.s
    uniform = 0.3 * (6.0 * pi**2) ** (2 / 3) * share ** (5 / 3) * n ** (5 / 3)
    tau = share * gradient**2 / (8.0 * n) + points.alpha * uniform
    zero = jnp.zeros_like(n)
    along = jnp.stack([gradient, zero, zero])
    return Features(rho=share * n, grad=share[:, None] * along, tau=tau)


def sample(number: int = 2048, rung: Rung = "mgga") -> Points:
    """Points spread evenly over the box, without chance (r_s by its logarithm): for penalties.

    Additive recurrence with the generalised golden ratio of four dimensions.
    """
    ratio = 1.1673039782614187  # the root of x^5 = x + 1
    steps = ratio ** -np.arange(1.0, 5.0)
    u = np.mod(0.5 + steps[:, None] * np.arange(1, number + 1), 1.0)
    return _points(u, rung)


def lattice(rung: Rung = "mgga", sizes: tuple[int, int, int, int] = (16, 11, 9, 11)) -> Points:
    """A product of points along r_s (by its logarithm), s, zeta and alpha, edges included: for checks.

    On a rung that does not see s or alpha the lattice has one value of it.
    """
    seen = (True, rung in ("gga", "mgga"), True, rung == "mgga")
    axes = [np.linspace(0.0, 1.0, k if there else 1) for k, there in zip(sizes, seen, strict=True)]
    return _points(np.stack([u.ravel() for u in np.meshgrid(*axes, indexing="ij")]), rung)


def _points(u: np.ndarray, rung: Rung) -> Points:
    """Points of the box from coordinates in [0, 1]; s = 0 and alpha = 1 where the rung does not see them."""

    def between(bounds: tuple[float, float], u: np.ndarray) -> np.ndarray:
        return bounds[0] + (bounds[1] - bounds[0]) * u

    r_s = R_S[0] * (R_S[1] / R_S[0]) ** u[0]
    s = between(S, u[1]) if rung in ("gga", "mgga") else 0.0 * u[1]
    alpha = between(ALPHA, u[3]) if rung == "mgga" else np.ones_like(u[3])
    return Points(*(jnp.asarray(x) for x in (r_s, s, between(ZETA, u[2]), alpha)))
