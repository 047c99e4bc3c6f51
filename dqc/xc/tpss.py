"""The TPSS meta-GGA (doi:10.1103/PhysRevLett.91.146401), hartree/bohr^3."""

from __future__ import annotations

from math import pi

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide
from dqc.xc.lda import uniform_exchange
from dqc.xc.pbe import BETA, pbe_per_electron, pbe_per_electron_polarised
from dqc.xc.variables import Channel, Total, Variables, counts, zeta2

XI2 = 1.0 / (4.0 * (3.0 * pi**2) ** (2 / 3))  # xi^2 = XI2 |grad zeta|^2 / n^(2/3)


def _at_least_weizsaecker(T: Array, s2: Array) -> Array:
    """tau/tau_unif, raised to tau_W/tau_unif = 5 s^2/3 where round-off took it below."""
    return jnp.where(5.0 / 3.0 * s2 <= T, T, 5.0 / 3.0 * s2)


def tpss_exchange(v: Channel, *, b=0.40, c=1.59096, e=1.537, kappa=0.804, mu=0.21951) -> Float[Array, " g"]:
    """TPSS exchange, F = 1 + kappa - kappa/(1 + x/kappa) with x of Eq. 10 and q_b of Eq. 7.

    With T = tau/tau_unif = alpha + 5p/3 one has 3z/5 = p/T, which leaves no root of p.
    """
    p = v.s2
    T = _at_least_weizsaecker(v.T, p)
    T = jnp.where(counts(T), T, 1.0)  # p = 0 as well then
    alpha_1 = T - 5.0 / 3.0 * p - 1.0
    y = divide(p, T)  # 3 z / 5
    z2 = 25.0 / 9.0 * y * y
    q = 0.45 * divide(alpha_1, jnp.sqrt(1.0 + b * (alpha_1 + 1.0) * alpha_1)) + 2.0 / 3.0 * p
    w = divide(1.0, 1.0 + z2)
    x = (10.0 / 81.0 + c * z2 * w * w) * p + 146.0 / 2025.0 * q * q
    x = x - 73.0 / 405.0 * q * p * jnp.sqrt(divide(0.5, T * T) + 0.5)
    root_e = e**0.5
    x = x + (10.0 / 81.0) ** 2 / kappa * p * p + 20.0 / 81.0 * root_e * y * y + e * mu * p * p * p
    u = divide(1.0, 1.0 + root_e * p)
    x = x * u * u
    return uniform_exchange(v) * (1.0 + divide(kappa * x, kappa + x))


def _c_of_zeta_xi(t: Total, channels: tuple[Channel, ...], c0) -> Array:
    """C(zeta, xi) = C(zeta, 0) / {1 + xi^2 [(1 + zeta)^(-4/3) + (1 - zeta)^(-4/3)]/2}^4, Eqs. 13 and 14."""
    up, dn = channels
    za, zb = t.fractions
    u2, d2 = t.up * t.up, t.dn * t.dn
    # |grad n_s|^2 / n^(8/3), and |grad zeta|^2 / n^(2/3) from them
    xa, xb = (2.0 ** (-8 / 3) * (u * u) * (u * u) * s.x2 for u, s in zip((u2, d2), channels, strict=False))
    xi2 = XI2 * (zb * zb * xa - za * zb * (t.x2 - xa - xb) + za * za * xb)
    both = up.live & dn.live
    # where one spin is empty the bracket is infinite, and C = 0 unless zeta is constant
    ua, ub = jnp.where(both, t.up, 1.0), jnp.where(both, t.dn, 1.0)
    bracket = 0.5 * (divide(1.0, ua * ua * ua * ua) + divide(1.0, ub * ub * ub * ub))
    d = divide(1.0, 1.0 + jnp.where(both, xi2 * bracket, 0.0))
    z2 = zeta2(t)
    c = c0[0] + z2 * (c0[1] + z2 * (c0[2] + z2 * c0[3]))
    return c * (d * d) * (d * d)


def tpss_correlation(v: Variables, *, beta=BETA, d=2.8, c0=(0.53, 0.87, 0.50, 2.26)) -> Float[Array, " g"]:
    """TPSS correlation, e = n eps [1 + d eps z^3] with z = tau_W/tau and the revised PKZB (Eqs. 11, 12)
    eps = eps_PBE (1 + C z^2) - (1 + C) z^2 sum_s (n_s/n) max(eps_PBE(n_s, 0), eps_PBE(n_a, n_b))."""
    t = v.total
    p = t.s2
    T = _at_least_weizsaecker(t.T, p)
    z = 5.0 / 3.0 * divide(p, jnp.where(counts(T), T, 1.0))
    z2 = z * z
    eps = pbe_per_electron(t, beta)
    alone = [pbe_per_electron_polarised(s, beta) for s in v.channels]
    if t.closed:
        c = c0[0]
        largest = jnp.where(alone[0] > eps, alone[0], eps)
    else:
        c = _c_of_zeta_xi(t, v.channels, c0)
        largest = jnp.zeros_like(eps)
        for y, s, a in zip(t.fractions, v.channels, alone, strict=True):
            largest = largest + 0.5 * y * jnp.where(s.live & (a > eps), a, eps)
    eps = eps * (1.0 + c * z2) - (1.0 + c) * z2 * largest
    return t.n * eps * (1.0 + d * eps * z2 * z)
