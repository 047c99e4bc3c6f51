"""Local density approximations: energies per volume (hartree/bohr^3) of the uniform electron gas."""

from __future__ import annotations

from math import pi

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide, log, log1p
from dqc.xc.variables import Channel, Total, Variables, f_zeta, one_minus_zeta2, zeta2

C_X = 0.75 * (6.0 / pi) ** (1 / 3)  # exchange of one spin channel: e = -C_X n_s^(4/3)
F2_ZERO = 8.0 / (9.0 * (2.0 ** (4 / 3) - 2.0))  # f''(0)


def uniform_exchange(v: Channel) -> Float[Array, " g"]:
    """LDA exchange of one spin channel: e = -(3/4) (6/pi)^(1/3) n_s^(4/3) (doi:10.1017/S0305004100016108)."""
    c2 = v.c * v.c
    return -C_X * (c2 * c2)


def slater(v: Channel) -> Float[Array, " g"]:
    """LDA exchange, see :func:`uniform_exchange`."""
    return uniform_exchange(v)


def _g(rs: Array, root: Array, a, alpha1, beta1, beta2, beta3, beta4) -> Array:
    """Eq. 10 of doi:10.1103/PhysRevB.45.13244 with p = 1: G = -2 a (1 + alpha1 rs) ln[1 + 1/(2 a Q)]."""
    q = 2.0 * a * root * (beta1 + root * (beta2 + root * (beta3 + root * beta4)))
    return -2.0 * a * (1.0 + alpha1 * rs) * log1p(divide(1.0, q))


PW92_ALPHA1 = (0.21370, 0.20548, 0.11125)
PW92_BETA1 = (7.5957, 14.1189, 10.357)
PW92_BETA2 = (3.5876, 6.1977, 3.6231)
PW92_BETA3 = (1.6382, 3.3662, 0.88026)
PW92_BETA4 = (0.49294, 0.62517, 0.49671)
PW92_A = (0.0310907, 0.01554535, 0.0168869)  # one digit more than in Table I, as in the later papers


def pw92_unpolarised(rs: Array, root: Array) -> Array:
    """Correlation energy per electron at zeta = 0, with the constants used by PBE and its descendants."""
    return _g(rs, root, PW92_A[0], PW92_ALPHA1[0], PW92_BETA1[0], PW92_BETA2[0], PW92_BETA3[0], PW92_BETA4[0])


def pw92_polarised(rs: Array, root: Array) -> Array:
    """Correlation energy per electron at zeta = 1, with the constants used by PBE and its descendants."""
    return _g(rs, root, PW92_A[1], PW92_ALPHA1[1], PW92_BETA1[1], PW92_BETA2[1], PW92_BETA3[1], PW92_BETA4[1])


def pw92_per_electron(
    t: Total,
    a=PW92_A,
    alpha1=PW92_ALPHA1,
    beta1=PW92_BETA1,
    beta2=PW92_BETA2,
    beta3=PW92_BETA3,
    beta4=PW92_BETA4,
    fz20=F2_ZERO,
) -> Float[Array, " g"]:
    """eps = e_0 + [(e_1 - e_0) zeta^4 - a_c (1 - zeta^4)/f''(0)] f(zeta), Eq. 8 of
    doi:10.1103/PhysRevB.45.13244, where G_2 = -a_c."""
    rs = t.rs
    root = jnp.sqrt(rs)
    e0 = _g(rs, root, a[0], alpha1[0], beta1[0], beta2[0], beta3[0], beta4[0])
    if t.closed:
        return e0
    e1 = _g(rs, root, a[1], alpha1[1], beta1[1], beta2[1], beta3[1], beta4[1])
    minus_ac = _g(rs, root, a[2], alpha1[2], beta1[2], beta2[2], beta3[2], beta4[2])
    z2 = zeta2(t)
    one_minus_z4 = one_minus_zeta2(t) * (1.0 + z2)
    return e0 + f_zeta(t) * ((e1 - e0) * (z2 * z2) - minus_ac * one_minus_z4 / fz20)


def pw92(
    v: Variables,
    *,
    a=(0.031091, 0.015545, 0.016887),
    alpha1=PW92_ALPHA1,
    beta1=PW92_BETA1,
    beta2=PW92_BETA2,
    beta3=PW92_BETA3,
    beta4=PW92_BETA4,
    fz20=1.709921,
) -> Float[Array, " g"]:
    """Perdew-Wang correlation with the printed constants (doi:10.1103/PhysRevB.45.13244, Table I)."""
    return v.total.n * pw92_per_electron(v.total, a, alpha1, beta1, beta2, beta3, beta4, fz20)


def pw92_modified(
    v: Variables,
    *,
    a=PW92_A,
    alpha1=PW92_ALPHA1,
    beta1=PW92_BETA1,
    beta2=PW92_BETA2,
    beta3=PW92_BETA3,
    beta4=PW92_BETA4,
    fz20=F2_ZERO,
) -> Float[Array, " g"]:
    """Perdew-Wang correlation with one more digit in ``a``, as PBE's authors' code has it."""
    return v.total.n * pw92_per_electron(v.total, a, alpha1, beta1, beta2, beta3, beta4, fz20)


def _vwn_fit(log_x: Array, x: Array, a, b, c, x0) -> Array:
    """Eq. 4.4 of doi:10.1139/p80-159 in hartree:

    a {ln(x^2/X) + (2b/Q) atan(Q/(2x+b)) - (b x0/X(x0)) [ln((x-x0)^2/X) + (2(b+2x0)/Q) atan(Q/(2x+b))]},
    X = x^2 + b x + c, Q = sqrt(4c - b^2), x = sqrt(r_s).
    """
    Q = (4.0 * c - b * b) ** 0.5
    d = b * x0 / (x0 * x0 + b * x0 + c)
    log_X = log(x * (x + b) + c)
    angle = jnp.arctan(divide(Q, 2.0 * x + b))
    k = (2.0 * b - d * 2.0 * (b + 2.0 * x0)) / Q
    return a * (2.0 * log_x - log_X - d * (2.0 * log(x - x0) - log_X) + k * angle)


VWN_A = (0.0310907, 0.01554535, -1.0 / (6.0 * pi**2))


def vwn5(
    v: Variables,
    *,
    a=VWN_A,
    b=(3.72744, 7.06042, 1.13107),
    c=(12.9352, 18.0578, 13.0045),
    x0=(-0.10498, -0.32500, -0.0047584),
) -> Float[Array, " g"]:
    """VWN correlation, formula 5 (doi:10.1139/p80-159): Ceperley-Alder fit,
    eps = e_P + a_c f(zeta)/f''(0) (1 - zeta^4) + (e_F - e_P) f(zeta) zeta^4."""
    t = v.total
    x = jnp.sqrt(t.rs)
    log_x = log(x)
    paramagnetic = _vwn_fit(log_x, x, a[0], b[0], c[0], x0[0])
    if t.closed:
        return t.n * paramagnetic
    ferromagnetic = _vwn_fit(log_x, x, a[1], b[1], c[1], x0[1])
    stiffness = _vwn_fit(log_x, x, a[2], b[2], c[2], x0[2])
    z2 = zeta2(t)
    difference = (ferromagnetic - paramagnetic) * z2 * z2
    return t.n * (
        paramagnetic + f_zeta(t) * (difference + stiffness * one_minus_zeta2(t) * (1.0 + z2) / F2_ZERO)
    )


def vwn_rpa(
    v: Variables,
    *,
    a=VWN_A[:2],
    b=(13.0720, 20.1231),
    c=(42.7198, 101.578),
    x0=(-0.409286, -0.743294),
) -> Float[Array, " g"]:
    """VWN's fit to the random-phase approximation (doi:10.1139/p80-159), eps = e_P + f(zeta) (e_F - e_P)."""
    t = v.total
    x = jnp.sqrt(t.rs)
    log_x = log(x)
    paramagnetic = _vwn_fit(log_x, x, a[0], b[0], c[0], x0[0])
    if t.closed:
        return t.n * paramagnetic
    ferromagnetic = _vwn_fit(log_x, x, a[1], b[1], c[1], x0[1])
    return t.n * (paramagnetic + f_zeta(t) * (ferromagnetic - paramagnetic))
