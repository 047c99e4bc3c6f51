"""Short-range exchange for range-separated hybrids: B88 attenuated after Iikura, and omega-PBE.

The long range of the split 1/r = erfc(omega r)/r + erf(omega r)/r is left to exact exchange.
"""

from __future__ import annotations

from math import factorial, pi

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc
from jaxtyping import Array, Float

from dqc.xc.elementary import divide, log, log1p
from dqc.xc.gga import b88_enhancement
from dqc.xc.lda import C_X, uniform_exchange
from dqc.xc.variables import Channel


def polynomial(x: Array, coefficients: list[float]) -> Array:
    """sum_n coefficients_n x^n by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


_ATTENUATION = [0.0] + [  # attenuation as a series in q
    4
    / 3
    * (-1) ** (m + 1)
    * (2 / (factorial(m) * (2 * m + 1)) - 1 / factorial(m + 1) - 0.5 / factorial(m + 2))
    for m in range(1, 16)
]


def attenuation(q: Float[Array, " g"]) -> Float[Array, " g"]:
    """Short-range part of LDA exchange as a function of q = (k/omega)^2, Eq. 9 of doi:10.1063/1.1383587:

    1 - (4/3) [sqrt(pi) erf(y)/y + (e - e/(2 q) - 1/2)/q], y = sqrt(q), e = exp(-q) - 1; near q/9 at small q.
    """
    small = q < 0.5
    far = jnp.where(small, 1.0, q)
    y, e = jnp.sqrt(far), jnp.expm1(-far)
    closed = 1.0 - 4.0 / 3.0 * (pi**0.5 * divide(erf(y), y) + divide(e - 0.5 * divide(e, far) - 0.5, far))
    return jnp.where(small, polynomial(jnp.where(small, q, 0.0), _ATTENUATION), closed)


def short_range_b88(v: Channel, *, beta=0.0042, gamma=6.0, omega=0.2) -> Float[Array, " g"]:
    """B88 exchange of erfc(omega r)/r: F times :func:`attenuation` with k = k_F/sqrt(F)
    (doi:10.1063/1.1383587, Eqs. 9-11; doi:10.1016/j.cplett.2004.06.011)."""
    F = b88_enhancement(v, beta, gamma)
    k2 = divide(4.5 * pi / C_X * (v.c * v.c), F)
    return uniform_exchange(v) * F * attenuation(k2 / omega**2)


# The PBE exchange hole of Ernzerhof and Perdew (doi:10.1063/1.476928), and the expansion
# erfc(u) = exp(-b u^2) sum_i a_i u^i of Heyd and Scuseria (doi:10.1063/1.1668634)
A, B, C, D, E = 1.0161144, -0.37170836, -0.077215461, 0.57786348, -0.051955731
HA1, HA2, HA3, HA4, HA5 = 0.00979681, 0.0410834, 0.187440, 0.00120824, 0.0347188
FC1, FC2 = 6.4753871, 0.47965830
EG_SMALL = [-0.02628417880, -0.07117647788, 0.08534541323]  # E G(s) in s^2 below s = 0.08
ERFC_B, ERFC_B_LARGE, W_LARGE = 1.455915450052607, 2.0, 14.0
ERFC_A = (
    -1.128223946706117,
    1.452736265762971,
    -1.243162299390327,
    0.971824836115601,
    -0.568861079687373,
    0.246880514820192,
    -0.065032363850763,
    0.008401793031216,
)
S_MAX = 8.572844


def _scaled_s(s2: Array) -> tuple[Array, Array]:
    """s and s^2, bent by s - ln(1 + exp(s - s_max)) from s = 1 on: the hole is valid below s_max = 8.57."""
    s = jnp.sqrt(jnp.where(s2 > 1e-12, s2, 1.0))
    s = jnp.where(s2 > 1e-12, s, 0.0)
    bent = jnp.minimum(s, 15.0)
    bent = jnp.where(s > 15.0, S_MAX, bent - log1p(jnp.exp(bent - S_MAX)))
    return jnp.where(s < 1.0, s, bent), jnp.where(s < 1.0, s2, bent * bent)


def _hole(s: Array, s2: Array) -> tuple[Array, Array, Array]:
    """s^2 H(s), C (1 + s^2 F(s)) and E (1 + s^2 G(s)) of the hole."""
    s4 = s2 * s2
    H = divide(s2 * (HA1 + HA2 * s2), 1.0 + s4 * (HA3 + HA4 * s + HA5 * s2))
    s2H = s2 * H
    CF = C * (1.0 + s2 * (FC1 * H + FC2))
    small = s2 < 0.0064
    z = 2.25 / A * jnp.where(small, 1.0, s2H)
    d = D + s2H
    root = jnp.sqrt(d)
    scaled = jnp.exp(z) * erfc(jnp.sqrt(z))
    normalised = -(6.0 * CF * d + d * d * (4.0 * B + 8.0 * A * d)) / 15.0
    normalised = normalised - 0.8 * pi**0.5 * (d * d * d * root) * (1.0 - A**0.5 * scaled)
    # the hole is normalised: the second line is E + s^2 E G
    return s2H, CF, jnp.where(small, E + s2 * polynomial(s2, EG_SMALL), normalised)


def _continued_fraction(h: float, levels: int) -> tuple[list[float], list[float]]:
    """Numerator and denominator, in u = 1/x, of the fraction of x^h e^x Gamma(1 - h, x):
    1/(1 + h u - h u^2/(1 + (h + 2) u - 2 (h + 1) u^2/(1 + ...)))."""
    top, bottom = np.ones(1), np.asarray([1.0, h + 2.0 * levels])
    for k in range(levels, 0, -1):
        head = np.polynomial.polynomial.polymul([1.0, h + 2.0 * (k - 1)], bottom)
        tail = np.polynomial.polynomial.polymul([0.0, 0.0, k * (h + k - 1.0)], top)
        top, bottom = bottom, np.polynomial.polynomial.polysub(head, tail)
    return list(top), list(bottom)


_X_SPLIT, _LEVELS = 3.0, 26
_Q7, _Q8 = _continued_fraction(3.5, _LEVELS), _continued_fraction(4.0, _LEVELS)
_EIN = [0.0] + [(-1) ** (n + 1) / (n * factorial(n)) for n in range(1, 28)]


def _moments(x: Array) -> list[Array]:
    """Q_k(x) = int_0^inf v^(k/2 - 1) e^-v / (1 + v/x) dv / Gamma(k/2), k = 1 ... 8.

    Q_1 = sqrt(pi x) e^x erfc(sqrt x), Q_2 = x e^x E_1(x), 1 - Q_k = k Q_(k+2) / (2 x): upwards where x is
    small, downwards from a continued fraction where it is large, so that nothing cancels.
    """
    near = x < _X_SPLIT
    y = jnp.where(near, x, 1.0)
    e = jnp.exp(y)
    root = jnp.sqrt(y)
    low = [pi**0.5 * root * e * erfc(root), y * e * (polynomial(y, _EIN) - np.euler_gamma - log(y))]
    for k in range(1, 7):
        low.append(2.0 / k * y * (1.0 - low[k - 1]))
    u = divide(1.0, jnp.where(near, _X_SPLIT, x))
    high = [divide(polynomial(u, q[0]), polynomial(u, q[1])) for q in (_Q7, _Q8)]
    for k in range(6, 0, -1):
        high.insert(0, 1.0 - 0.5 * k * u * high[1])
    return [jnp.where(near, a, b) for a, b in zip(low, high, strict=False)]


def _coulomb_part(w: Array, s2H: Array) -> Array:
    """int dy/y [exp(-D y^2) - 1/(1 + 4 A y^2/9)] exp(-s^2 H y^2) erfc(w y), with the expansion of erfc."""
    inside = w < W_LARGE
    a = s2H + jnp.where(inside, ERFC_B, ERFC_B_LARGE) * (w * w)
    x = 2.25 / A * a
    Q = _moments(x)
    total = 0.5 * (divide(Q[1], x) - log1p(divide(D, a)))
    ra, rd = divide(1.0, jnp.sqrt(a)), divide(1.0, jnp.sqrt(a + D))
    wa = jnp.where(inside, w, 0.0) * ra
    wd = jnp.where(inside, w, 0.0) * rd
    gammas = (pi**0.5, 1.0, pi**0.5 / 2.0, 1.0, 0.75 * pi**0.5, 2.0, 1.875 * pi**0.5, 6.0)
    pa, pd = wa, wd
    for ea, gamma, q in zip(ERFC_A, gammas, Q, strict=False):
        total = total + 0.5 * ea * gamma * (pd - pa * q)
        pa, pd = pa * wa, pd * wd
    return total


def short_range_wpbe(v: Channel, *, omega=0.4) -> Float[Array, " g"]:
    """omega-PBE exchange of erfc(omega r)/r, F = -(8/9) int y J_PBE(s, y) erfc(omega y/k_F) dy
    (doi:10.1063/1.1564060, Eqs. 6-8; doi:10.1063/1.1668634, appendix), with chi = w/sqrt(d + w^2):

    B (1 - chi)/(2 d) + C_F (1 - chi)^2 (1 + chi/2)/(2 d^2) + E_G (1 - chi)^3 (1 + 9 chi/8 + 3 chi^2/8)/d^3
    for the terms without a singularity, after doi:10.1063/1.2921797, Eq. 43.
    """
    w = divide(omega, (6.0 * pi**2) ** (1 / 3) * v.c)
    s, s2 = _scaled_s(v.s2)
    s2H, CF, EG = _hole(s, s2)
    d = D + s2H
    R = jnp.sqrt(d + w * w)
    chi = divide(w, R)
    f = divide(1.0, R * (R + w))  # (1 - chi)/d
    smooth = 0.5 * B * f + 0.5 * CF * (f * f) * (1.0 + 0.5 * chi)
    smooth = smooth + EG * (f * f * f) * (1.0 + chi * (1.125 + 0.375 * chi))
    return uniform_exchange(v) * (-8.0 / 9.0) * (A * _coulomb_part(w, s2H) + smooth)
