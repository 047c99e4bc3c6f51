"""Lee-Yang-Parr correlation in the form without second derivatives."""

from __future__ import annotations

from math import pi

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import divide
from dqc.xc.variables import Variables

C_F = 0.3 * (3.0 * pi**2) ** (2 / 3)


def lyp(v: Variables, *, a=0.04918, b=0.132, c=0.2533, d=0.349) -> Float[Array, " g"]:
    """LYP correlation per volume, Eq. 2 of doi:10.1016/0009-2614(89)87234-3:

    e = -4 a/(1 + d n^(-1/3)) n_a n_b/n - a b omega {n_a n_b [2^(11/3) C_F (n_a^(8/3) + n_b^(8/3))
        + (47 - 7 delta)/18 s - (5/2 - delta/18) (s_aa + s_bb) - (delta - 11)/9 (n_a s_aa + n_b s_bb)/n]
        - 2/3 n^2 s + (2/3 n^2 - n_a^2) s_bb + (2/3 n^2 - n_b^2) s_aa},
    omega = exp(-c n^(-1/3)) n^(-11/3)/(1 + d n^(-1/3)), delta = c n^(-1/3) + d n^(-1/3)/(1 + d n^(-1/3)).
    """
    t = v.total
    q = divide(1.0, 1.0 + d * t.r)
    delta = (c + d * q) * t.r
    screening = a * b * jnp.exp(-c * t.r) * q
    x2 = t.x2  # the braces are divided by n^(14/3)
    if t.closed:
        return -t.n * (a * q + screening * (C_F - x2 * (3.0 + 7.0 * delta) / 72.0))
    za, zb = t.fractions
    ya, yb = 0.5 * za, 0.5 * zb  # n_a/n, n_b/n
    yab = ya * yb
    u2, d2 = t.up * t.up, t.dn * t.dn
    ua, ub = (u2 * u2) * (u2 * u2), (d2 * d2) * (d2 * d2)  # (1 + zeta)^(8/3), (1 - zeta)^(8/3)
    xa, xb = (
        2.0 ** (-8 / 3) * u * s.x2 for u, s in zip((ua, ub), v.channels, strict=False)
    )  # |grad n_s|^2/n^(8/3)
    inner = 2.0 * C_F * (ua + ub) + (47.0 - 7.0 * delta) / 18.0 * x2
    inner = inner - (2.5 - delta / 18.0) * (xa + xb) - (delta - 11.0) / 9.0 * (ya * xa + yb * xb)
    outer = 2.0 / 3.0 * (xa + xb - x2) - ya * ya * xb - yb * yb * xa
    return -t.n * (4.0 * a * q * yab + screening * (yab * inner + outer))
