"""Orbitals and the electron density on points of one's choice, to plot or to integrate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.integrals.ao import all_shells, ao_indices, ao_values
from dqc.solution import Solution
from dqc.system import System

BATCH = 1024  # points evaluated at a time


@jax.jit
def orbitals_on(system: System, solution: Solution, points: Float[Array, "g x"]) -> Float[Array, "s g k"]:
    """psi_sk(r) = sum_p phi_p(r) C_spk of the orbitals of ``mo_coeff``, in bohr^(-3/2); points in bohr."""
    return _on_points(system, solution.mo_coeff, points)


@jax.jit
def density_on(system: System, solution: Solution, points: Float[Array, "g x"]) -> Float[Array, "s g"]:
    """rho_s(r) = sum_pq phi_p(r) P_spq phi_q(r), in electrons/bohr^3; points in bohr.

    The one row of a restricted solution holds the electrons of both spins. The sum over rows is the
    density, and of two rows the first less the second is the spin density.
    """
    n = system.overlap.shape[0]
    ao = _on_points(system, jnp.eye(n)[None], points)[0]
    return jnp.einsum("gp,spq,gq->sg", ao, solution.density_matrix, ao)


def _on_points(system: System, coefficients: Array, points: Array) -> Float[Array, "s g k"]:
    shells = all_shells(system.basis)
    index = ao_indices(system.basis, shells)
    rows = coefficients.at[:, index].get(mode="fill", fill_value=0.0)

    def one(point: Float[Array, " x"]) -> Float[Array, "s k"]:
        ao = ao_values(system.basis, system.coords, shells, point[None], order=0)[0, 0]
        return jnp.einsum("m,smk->sk", ao, rows)

    return jax.lax.map(one, points, batch_size=BATCH).transpose(1, 0, 2)
