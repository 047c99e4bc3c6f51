"""PBE correlation, and the pieces of it that later functionals use."""

from __future__ import annotations

from math import log as ln
from math import pi

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide, log1p
from dqc.xc.lda import pw92_per_electron, pw92_polarised
from dqc.xc.variables import RS, TWO_CBRT, Channel, Total, Variables, phi

BETA = 0.06672455060314922
GAMMA = (1.0 - ln(2.0)) / pi**2
T2 = pi / (16.0 * (3.0 * pi**2) ** (1 / 3))  # t^2 = T2 |grad n|^2 / (phi^2 n^(7/3))


def t_squared(t: Total, phi2: Array | float) -> Float[Array, " g"]:
    """t^2 = [|grad n| / (2 phi k_s n)]^2, k_s = sqrt(4 k_F / pi) (doi:10.1103/PhysRevLett.77.3865)."""
    return divide(T2 * t.x2 * t.c, phi2)


def gradient_term(eps: Array, t2: Array, gamma_phi3: Array | float, b: Array | float) -> Array:
    """H = gamma phi^3 ln[1 + (beta/gamma) t^2 (1 + A t^2)/(1 + A t^2 + A^2 t^4)], Eq. 7 of
    doi:10.1103/PhysRevLett.77.3865; A = b/w, b = beta/gamma, w = exp(-eps/(gamma phi^3)) - 1."""
    w = jnp.expm1(-divide(eps, gamma_phi3))
    y = divide(b * t2, w)  # A t^2
    return gamma_phi3 * log1p(divide(w * y * (1.0 + y), 1.0 + y + y * y))


def pbe_per_electron(t: Total, beta=BETA, gamma=GAMMA) -> Float[Array, " g"]:
    """PBE correlation energy per electron: PW92 plus :func:`gradient_term`."""
    p = phi(t)
    p2 = p * p
    eps = pw92_per_electron(t)
    return eps + gradient_term(eps, t_squared(t, p2), gamma * (p2 * p), beta / gamma)


def pbe_per_electron_polarised(v: Channel, beta=BETA, gamma=GAMMA) -> Float[Array, " g"]:
    """PBE correlation energy per electron of one spin channel alone, eps(n_s, 0)."""
    rs = RS / v.c
    p = 1.0 / TWO_CBRT  # phi(1)
    eps = pw92_polarised(rs, jnp.sqrt(rs))
    t2 = T2 * v.x2 * v.c / p**2
    return eps + gradient_term(eps, t2, gamma * p**3, beta / gamma)


def pbe_correlation(v: Variables, *, beta=BETA, gamma=GAMMA) -> Float[Array, " g"]:
    """PBE correlation per volume, n (eps_PW92 + H) (doi:10.1103/PhysRevLett.77.3865, Eqs. 3-8)."""
    return v.total.n * pbe_per_electron(v.total, beta, gamma)
