"""Generalised gradient approximations to exchange: one spin channel, hartree/bohr^3.

Each is -C_X n_s^(4/3) F(s), from E_x[n_up, n_dn] = (E_x[2 n_up] + E_x[2 n_dn]) / 2.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.xc.elementary import arcsinh_ratio, divide
from dqc.xc.lda import C_X, uniform_exchange
from dqc.xc.variables import Channel

MU_PBE = 0.2195149727645171  # beta pi^2 / 3


def pbe(v: Channel, *, kappa=0.804, mu=MU_PBE) -> Float[Array, " g"]:
    """PBE exchange, F = 1 + kappa - kappa/(1 + mu s^2/kappa) (doi:10.1103/PhysRevLett.77.3865, Eq. 14)."""
    x = mu * v.s2
    return uniform_exchange(v) * (1.0 + divide(kappa * x, kappa + x))


def revpbe(v: Channel, *, kappa=1.245, mu=MU_PBE) -> Float[Array, " g"]:
    """revPBE exchange: PBE's with kappa = 1.245 (doi:10.1103/PhysRevLett.80.890)."""
    return pbe(v, kappa=kappa, mu=mu)


def rpbe(v: Channel, *, kappa=0.804, mu=MU_PBE) -> Float[Array, " g"]:
    """RPBE exchange, F = 1 + kappa (1 - exp(-mu s^2/kappa)) (doi:10.1103/PhysRevB.59.7413, Eq. 15)."""
    return uniform_exchange(v) * (1.0 - kappa * jnp.expm1(-mu * v.s2 / kappa))


def b88_enhancement(v: Channel, beta, gamma) -> Float[Array, " g"]:
    """F = 1 + (beta/C_X) x^2/(1 + gamma beta x arcsinh x), x = |grad n_s|/n_s^(4/3)."""
    return 1.0 + divide(beta / C_X * v.x2, 1.0 + gamma * beta * v.x2 * arcsinh_ratio(v.x2))


def b88(v: Channel, *, beta=0.0042, gamma=6.0) -> Float[Array, " g"]:
    """Becke's 1988 exchange (doi:10.1103/PhysRevA.38.3098, Eq. 8)."""
    return uniform_exchange(v) * b88_enhancement(v, beta, gamma)
