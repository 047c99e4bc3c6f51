"""The variables of the papers, made once from the features, with the density clamped here and only here.

Where a density is below :func:`floor` it is replaced by 1 before any power or logarithm is taken, and
every contribution of that point (or of that spin channel) is replaced by zero afterwards. Value and all
derivatives are then finite on vacuum, for an empty spin channel and at full polarisation.
"""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dqc.xc.elementary import cbrt
from dqc.xc.features import Features

S2_SPIN = 1.0 / (4.0 * (6.0 * pi**2) ** (2 / 3))  # s^2 = S2_SPIN |grad n_s|^2 / n_s^(8/3)
S2_TOTAL = 1.0 / (4.0 * (3.0 * pi**2) ** (2 / 3))  # s^2 = S2_TOTAL |grad n|^2 / n^(8/3)
TAU_UNIFORM_SPIN = 0.3 * (6.0 * pi**2) ** (2 / 3)  # tau_unif = TAU_UNIFORM_SPIN n_s^(5/3)
TAU_UNIFORM_TOTAL = 0.3 * (3.0 * pi**2) ** (2 / 3)  # without its dependence on zeta
RS = (3.0 / (4.0 * pi)) ** (1 / 3)  # r_s = RS n^(-1/3)
TWO_CBRT = 2.0 ** (1 / 3)


def floor(dtype: jnp.dtype) -> float:
    """The density (electrons/bohr^3) below which a point or a spin channel counts as empty."""
    return 1e-16 if dtype == jnp.float64 else 1e-9


class Channel(NamedTuple):
    """One spin channel; n_s here is a spin density, and s, T are those of the density 2 n_s."""

    live: Bool[Array, " g"]  # the channel is not empty
    n: Float[Array, " g"]  # n_s, or 1 where it is empty
    c: Float[Array, " g"]  # n_s^(1/3)
    r: Float[Array, " g"]  # n_s^(-1/3)
    sigma: Float[Array, " g"] | None  # |grad n_s|^2
    s2: Float[Array, " g"] | None  # s^2
    T: Float[Array, " g"] | None  # tau / tau_unif; alpha = T - 5 s^2 / 3


class Total(NamedTuple):
    """Both spins together, for correlation. ``up`` is None when the shells are closed (zeta = 0)."""

    live: Bool[Array, " g"]
    n: Float[Array, " g"]  # n, or 1 where it is empty
    c: Float[Array, " g"]  # n^(1/3)
    r: Float[Array, " g"]  # n^(-1/3)
    rs: Float[Array, " g"]
    zeta: Float[Array, " g"] | None  # None when closed
    one_minus_zeta2: Float[Array, " g"] | None  # 1 - zeta^2 = 4 n_up n_dn / n^2
    up: Float[Array, " g"] | None  # (1 + zeta)^(1/3)
    dn: Float[Array, " g"] | None  # (1 - zeta)^(1/3)
    sigma: Float[Array, " g"] | None  # |grad n|^2
    s2: Float[Array, " g"] | None
    T: Float[Array, " g"] | None  # tau / tau_unif(zeta = 0)


class Variables(NamedTuple):
    """The spin channels (one of them when the shells are closed) and the total."""

    channels: tuple[Channel, ...]
    total: Total


def variables(features: Features) -> Variables:
    """Derived variables of the features.

    With ``closed_shell`` both rows are averaged, so that the derivatives with respect to the rows are
    those of the general path for tangents that are themselves closed-shell, shared equally.
    """
    rho, grad, tau = features.rho, features.grad, features.tau
    if features.closed_shell:
        half = channel(
            0.5 * (rho[0] + rho[1]),
            None if grad is None else _norm2(0.5 * (grad[0] + grad[1])),
            None if tau is None else 0.5 * (tau[0] + tau[1]),
        )
        return Variables((half,), _closed(half))
    a, b = (
        channel(rho[i], None if grad is None else _norm2(grad[i]), None if tau is None else tau[i])
        for i in (0, 1)
    )
    sigma = None if grad is None else _norm2(grad[0] + grad[1])
    return Variables((a, b), _open(rho, sigma, tau, a, b))


def _norm2(v: Float[Array, "x g"]) -> Float[Array, " g"]:
    return v[0] * v[0] + v[1] * v[1] + v[2] * v[2]


def channel(n: Array, sigma: Array | None, tau: Array | None) -> Channel:
    """The variables of one spin channel from its density, |gradient|^2 and kinetic energy density."""
    live = n > floor(n.dtype)
    n = jnp.where(live, n, 1.0)
    c, r = cbrt(n)
    r2 = r * r
    s2 = None if sigma is None else S2_SPIN * sigma * (r2 * r2) * (r2 * r2)
    T = None if tau is None else tau * (r2 * r2 * r) / TAU_UNIFORM_SPIN
    return Channel(live, n, c, r, sigma, s2, T)


def _closed(half: Channel) -> Total:
    n, c, r = 2.0 * half.n, TWO_CBRT * half.c, half.r / TWO_CBRT
    sigma = None if half.sigma is None else 4.0 * half.sigma
    return Total(half.live, n, c, r, RS * r, None, None, None, None, sigma, half.s2, half.T)


def _open(rho: Array, sigma: Array | None, tau: Array | None, a: Channel, b: Channel) -> Total:
    n = rho[0] + rho[1]
    live = n > floor(n.dtype)
    n = jnp.where(live, n, 1.0)
    c, r = cbrt(n)
    r2 = r * r
    r3 = r2 * r
    na, nb = (jnp.where(x.live, x.n, 0.0) for x in (a, b))
    up, dn = (jnp.where(x.live, TWO_CBRT * x.c * r, 0.0) for x in (a, b))
    s2 = None if sigma is None else S2_TOTAL * sigma * (r2 * r2) * (r2 * r2)
    T = None if tau is None else (tau[0] + tau[1]) * (r3 * r2) / TAU_UNIFORM_TOTAL
    return Total(live, n, c, r, RS * r, (na - nb) * r3, 4.0 * na * nb * (r3 * r3), up, dn, sigma, s2, T)


def f_zeta(t: Total) -> Float[Array, " g"]:
    """f(zeta) = [(1 + zeta)^(4/3) + (1 - zeta)^(4/3) - 2] / (2^(4/3) - 2), Eq. 9 of
    doi:10.1103/PhysRevB.45.13244."""
    up2, dn2 = t.up * t.up, t.dn * t.dn
    return (up2 * up2 + dn2 * dn2 - 2.0) / (2.0 ** (4 / 3) - 2.0)


def phi(t: Total) -> Float[Array, " g"] | float:
    """phi(zeta) = [(1 + zeta)^(2/3) + (1 - zeta)^(2/3)] / 2."""
    return 1.0 if t.up is None else 0.5 * (t.up * t.up + t.dn * t.dn)
