"""The SCAN meta-GGA (doi:10.1103/PhysRevLett.115.036402 and its supplement), hartree/bohr^3.

The pieces that r2SCAN shares take their arguments explicitly.
"""

from __future__ import annotations

from math import sqrt

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide, log1p
from dqc.xc.lda import pw92_per_electron, uniform_exchange
from dqc.xc.pbe import BETA, GAMMA, t_squared
from dqc.xc.variables import TWO_CBRT, Channel, Total, Variables, f_zeta, one_minus_zeta2, phi, zeta2

MU = 10.0 / 81.0
H0X = 1.174
A1 = 4.9479
CHI_INFINITY = 0.12802585262625815
B1C, B2C, B3C = 0.0285764, 0.0889, 0.125541
G_C = 2.363


def g_x(p: Array) -> Array:
    """g_x(s) = 1 - exp(-a_1 s^(-1/2)), with p = s^2; flat to all orders at p = 0."""
    far = p > 1e-9
    s = jnp.sqrt(jnp.where(far, p, 1.0))
    return 1.0 - jnp.where(far, jnp.exp(-divide(A1, jnp.sqrt(s))), 0.0)


def h1_x(x: Array, k1) -> Array:
    """h_x^1 = 1 + k_1 - k_1/(1 + x/k_1)."""
    return 1.0 + divide(k1 * x, k1 + x)


def switch(alpha: Array, c1, c2, d) -> Array:
    """f(alpha) = exp(-c_1 alpha/(1 - alpha)) below alpha = 1, -d exp(c_2/(1 - alpha)) above, Eq. 9."""
    below, above = alpha < 1.0 - 1.0 / 128.0, alpha > 1.0 + 1.0 / 128.0
    left = divide(1.0, 1.0 - jnp.where(below, alpha, 0.0))
    right = divide(1.0, 1.0 - jnp.where(above, alpha, 2.0))
    left = jnp.exp(c1 * (1.0 - left))
    right = -d * jnp.exp(c2 * right)
    return jnp.where(below, left, jnp.where(above, right, 0.0))


def scan_exchange(v: Channel, *, c1=0.667, c2=0.8, d=1.24, k1=0.065) -> Float[Array, " g"]:
    """SCAN exchange, F = {h_x^1 + f(alpha) [h_x^0 - h_x^1]} g_x(s), Eqs. 4-9 of the supplement."""
    p = v.s2
    alpha = v.T - 5.0 / 3.0 * p
    b2 = sqrt(5913 / 405000)
    b1 = 511 / 13500 / (2.0 * b2)
    b4 = MU**2 / k1 - 1606 / 18225 - b1**2
    o = 1.0 - alpha
    w = b1 * p + b2 * o * jnp.exp(-0.5 * o * o)
    h1 = h1_x(MU * p + b4 * p * p * jnp.exp(-b4 / MU * p) + w * w, k1)
    return uniform_exchange(v) * (h1 + switch(alpha, c1, c2, d) * (H0X - h1)) * g_x(p)


def alpha_uniform(t: Total) -> Array | float:
    """tau_unif(zeta)/tau_unif(0) = [(1 + zeta)^(5/3) + (1 - zeta)^(5/3)] / 2."""
    if t.closed:
        return 1.0
    za, zb = t.fractions
    return 0.5 * (za * t.up * t.up + zb * t.dn * t.dn)


def inverse_fourth_root(y: Array) -> Array:
    """(1 + 4 y)^(-1/4)."""
    return divide(1.0, jnp.sqrt(jnp.sqrt(1.0 + 4.0 * y)))


def eps_lda0(rs: Array, root: Array) -> Array:
    """eps_c^LDA0 = -b_1c / (1 + b_2c r_s^(1/2) + b_3c r_s)."""
    return -divide(B1C, 1.0 + B2C * root + B3C * rs)


def g_c(t: Total) -> Array | float:
    """G_c(zeta) = {1 - 2.363 (2^(1/3) - 1) f(zeta)} (1 - zeta^12); exactly zero at zeta = 1."""
    if t.closed:
        return 1.0
    z2 = zeta2(t)
    z4 = z2 * z2
    one_minus_z12 = one_minus_zeta2(t) * (1.0 + z2) * (1.0 + z4 + z4 * z4)
    return (1.0 - G_C * (TWO_CBRT - 1.0) * f_zeta(t)) * one_minus_z12


def eps_zero(t: Total, lda0: Array) -> Array:
    """eps_c^0 = (eps_c^LDA0 + H_0) G_c, H_0 = b_1c ln{1 + w_0 [1 - g_inf(s)]}."""
    w0 = jnp.expm1(-lda0 / B1C)
    h0 = B1C * log1p(w0 * (1.0 - inverse_fourth_root(CHI_INFINITY * t.s2)))
    return (lda0 + h0) * g_c(t)


def beta_of_rs(rs: Array) -> Array:
    """beta(r_s) = 0.066725 (1 + 0.1 r_s)/(1 + 0.1778 r_s)."""
    return BETA * divide(1.0 + 0.1 * rs, 1.0 + 0.1778 * rs)


def scan_correlation(v: Variables, *, c1=0.64, c2=1.5, d=0.7) -> Float[Array, " g"]:
    """SCAN correlation, e = n {eps_1 + f(alpha) [eps_0 - eps_1]}, Eqs. 16-30 of the supplement,
    with eps_1 = eps_PW92 + gamma phi^3 ln{1 + w_1 [1 - (1 + 4 A t^2)^(-1/4)]}."""
    t = v.total
    p2 = phi(t) * phi(t)
    gamma_phi3 = GAMMA * p2 * phi(t)
    lsda = pw92_per_electron(t)
    w1 = jnp.expm1(-divide(lsda, gamma_phi3))
    y = divide(beta_of_rs(t.rs) / GAMMA * t_squared(t, p2), w1)
    eps1 = lsda + gamma_phi3 * log1p(w1 * (1.0 - inverse_fourth_root(y)))
    eps0 = eps_zero(t, eps_lda0(t.rs, jnp.sqrt(t.rs)))
    alpha = divide(t.T - 5.0 / 3.0 * t.s2, alpha_uniform(t))
    return t.n * (eps1 + switch(alpha, c1, c2, d) * (eps0 - eps1))
