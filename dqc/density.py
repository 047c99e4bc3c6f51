"""Density features on chunks of grid points, from orbitals and their occupations.

A density matrix is given by a factor of it, P_s = sum_i C_si f_si C_si^T, with real f of any sign. For
one spin row (restricted) both spins have P/2 each.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.derivatives import linear
from dqc.xc.features import Features
from dqc.xc.functional import Rung


def density_matrix(
    orbitals: Float[Array, "s n i"], occupations: Float[Array, "s i"]
) -> Float[Array, "s n n"]:
    """P_s = sum_i C_si f_si C_si^T."""
    return jnp.einsum("sni,si,smi->snm", orbitals, occupations, orbitals)


def spin_rows(
    ao: Float[Array, "d c m"],
    orbitals: Float[Array, "s m i"],
    occupations: Float[Array, "s i"],
    rung: Rung,
) -> tuple[Float[Array, "s c"], Float[Array, "s x c"] | None, Float[Array, "s c"] | None]:
    """rho, its gradient and tau (None above the rung) of the electrons of one spin, for each spin row.

    rho = sum f phi^2, grad rho = 2 sum f phi grad phi, tau = 1/2 sum f |grad phi|^2.
    """
    spins, m, slots = orbitals.shape
    derivatives = 1 if rung == "lda" else 4
    points = ao.shape[1]
    columns = orbitals.transpose(1, 0, 2).reshape(m, spins * slots)
    psi = linear(_on_points, _from_points, ao[:derivatives], columns)
    psi = psi.reshape(derivatives, points, spins, slots)
    weight = occupations / (3 - spins)
    scaled = psi[0] * weight
    ones = jnp.ones(slots, psi.dtype)  # a product with it is several times faster on CPUs than a sum
    rho = ((scaled * psi[0]) @ ones).T
    if rung == "lda":
        return rho, None, None
    grad = 2.0 * jnp.stack([((scaled * along) @ ones).T for along in psi[1:]], axis=1)
    if rung == "gga":
        return rho, grad, None
    return rho, grad, 0.5 * ((weight * sum(along * along for along in psi[1:])) @ ones).T


def _on_points(ao: Float[Array, "d c m"], columns: Float[Array, "m k"]) -> Float[Array, "d c k"]:
    d, c, m = ao.shape
    return (ao.reshape(d * c, m) @ columns).reshape(d, c, -1)


def _from_points(ct: Float[Array, "d c k"], columns: Float[Array, "m k"]) -> Float[Array, "d c m"]:
    """The transpose of :func:`_on_points`, with the points of a plane side by side in memory.

    So the AOs' own derivatives read it. JAX's transpose would put them a row of AOs apart.
    """
    return jnp.stack([columns @ plane.T for plane in ct]).transpose(0, 2, 1)


def exchange_row(
    G: Float[Array, "s c n"], orbitals: Float[Array, "s n i"], values: Float[Array, "s c i"]
) -> Float[Array, "s c"]:
    """Exact exchange of one spin per volume, e(g) = -1/2 sum_ij f_i f_j phi_i phi_j(g) V_ij(g).

    ``values`` are f_i phi_i(g), and G_r(g) = sum_i f_i phi_i(g) V_ri(g) with V the potential of a product.
    """
    return -0.5 * jnp.einsum("scr,sri,sci->sc", G, orbitals, values)


def features(
    rho: Float[Array, "s c"],
    grad: Float[Array, "s x c"] | None,
    tau: Float[Array, "s c"] | None,
    exchange: Float[Array, "s c"] | None = None,
) -> Features:
    """Features with two spins, from one or two spin rows."""
    spins = rho.shape[0]

    def both(row: Array | None) -> Array | None:
        return None if row is None else jnp.broadcast_to(row, (2, *row.shape[1:]))

    return Features(*(both(row) for row in (rho, grad, tau, exchange)), spins == 1)  # type: ignore
