"""The r2SCAN meta-GGA (doi:10.1021/acs.jpclett.0c02405 and its supplement), hartree/bohr^3."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide, log1p
from dqc.xc.lda import pw92_per_electron, uniform_exchange
from dqc.xc.pbe import GAMMA, t_squared
from dqc.xc.scan import (
    H0X,
    MU,
    alpha_uniform,
    beta_of_rs,
    eps_lda0,
    eps_zero,
    g_c,
    g_x,
    h1_x,
    inverse_fourth_root,
)
from dqc.xc.variables import RS, Channel, Total, Variables, phi

# f(alpha) on 0 <= alpha <= 2.5 as a polynomial, ascending powers (Table S1)
F_X = (
    1.0,
    -0.667,
    -0.4445555,
    -0.663086601049,
    1.451297044490,
    -0.887998041597,
    0.234528941479,
    -0.023185843322,
)
F_C = (1.0, -0.64, -0.4352, -1.535685604549, 3.061560252175, -1.915710236206, 0.516884468372, -0.051848879792)


def _slope_at_one(f: tuple[float, ...]) -> float:
    return sum(i * c for i, c in enumerate(f))


def switch(alpha: Array, f: tuple[float, ...], c1, c2, d) -> Array:
    """f(alpha): exp(-c_1 alpha/(1 - alpha)) below 0, the polynomial to 2.5, -d exp(c_2/(1 - alpha)) above."""
    below, above = alpha < 0.0, alpha > 2.5
    left = jnp.exp(c1 * (1.0 - divide(1.0, 1.0 - jnp.where(below, alpha, 0.0))))
    right = -d * jnp.exp(divide(c2, 1.0 - jnp.where(above, alpha, 2.5)))
    a = jnp.where(below | above, 0.0, alpha)
    middle = f[7] * a + f[6]
    for c in f[5::-1]:
        middle = middle * a + c
    return jnp.where(below, left, jnp.where(above, right, middle))


def r2scan_exchange(
    v: Channel, *, c1=0.667, c2=0.8, d=1.24, k1=0.065, eta=0.001, dp2=0.361
) -> Float[Array, " g"]:
    """r2SCAN exchange, F = {h_x^1 + f(alpha_bar) [h_x^0 - h_x^1]} g_x(s), Eqs. S6-S12:
    alpha_bar = (tau - tau_W)/(tau_unif + eta tau_W), h_x^1 of x = [C_eta C_2 exp(-p^2/d_p2^4) + mu] p."""
    p = v.s2
    alpha = divide(v.T - 5.0 / 3.0 * p, 1.0 + 5.0 / 3.0 * eta * p)
    c_eta = 20.0 / 27.0 + 5.0 / 3.0 * eta
    c_2 = -_slope_at_one(F_X) * (1.0 - H0X)
    x = (c_eta * c_2 * jnp.exp(-p * p / dp2**4) + MU) * p
    h1 = h1_x(x, k1)
    return uniform_exchange(v) * (h1 + switch(alpha, F_X, c1, c2, d) * (H0X - h1)) * g_x(p)


def _lsda(t: Total) -> tuple[Array, Array, Array, Array]:
    """eps^LSDA0 = eps^LDA0 G_c, eps^LSDA1 = eps_PW92, and their derivatives in r_s."""

    def zero(rs):
        return eps_lda0(rs, jnp.sqrt(rs)) * g_c(t)

    def one(rs):
        return pw92_per_electron(t._replace(r=rs / RS))

    ones = jnp.ones_like(t.rs)
    return (*jax.jvp(zero, (t.rs,), (ones,)), *jax.jvp(one, (t.rs,), (ones,)))


def r2scan_correlation(v: Variables, *, c1=0.64, c2=1.5, d=0.7, eta=0.001, dp2=0.361) -> Float[Array, " g"]:
    """r2SCAN correlation, e = n {eps_1 + f(alpha_bar) [eps_0 - eps_1]}, Eqs. S24-S34, with
    eps_1 = eps_PW92 + gamma phi^3 ln{1 + w_1 [1 - (1 + 4 (y - Delta y))^(-1/4)]}."""
    t = v.total
    p, p2, d_s = t.s2, phi(t) * phi(t), alpha_uniform(t)
    gamma_phi3 = GAMMA * p2 * phi(t)
    lsda0, slope0, lsda1, slope1 = _lsda(t)
    w1 = jnp.expm1(-divide(lsda1, gamma_phi3))
    y = beta_of_rs(t.rs) / GAMMA * t_squared(t, p2)
    bracket = 20.0 * t.rs * (slope0 - slope1) - 45.0 * eta * (lsda0 - lsda1)
    dy = _slope_at_one(F_C) / 27.0 * divide(bracket, gamma_phi3 * d_s) * p * jnp.exp(-p * p / dp2**4)
    eps1 = lsda1 + gamma_phi3 * log1p(w1 * (1.0 - inverse_fourth_root(divide(y - dy, w1))))
    eps0 = eps_zero(t, eps_lda0(t.rs, jnp.sqrt(t.rs)))
    alpha = divide(t.T - 5.0 / 3.0 * p, d_s + 5.0 / 3.0 * eta * p)
    return t.n * (eps1 + switch(alpha, F_C, c1, c2, d) * (eps0 - eps1))
