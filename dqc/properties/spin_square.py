"""The expectation value of the squared total spin."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.solution import Solution
from dqc.system import System


def spin_square(system: System, solution: Solution) -> Float[Array, ""]:
    """<S^2> = M (M + 1) + N_b - tr(P_a S P_b S) with M = (N_a - N_b) / 2, for one determinant.

    A restricted solution gives zero. Szabo, Ostlund, *Modern Quantum Chemistry*, equation (2.271).
    """
    if solution.density_matrix.shape[0] == 1:
        return jnp.zeros(())
    P_a, P_b = solution.density_matrix @ system.overlap
    N_a, N_b = jnp.trace(P_a), jnp.trace(P_b)
    M = (N_a - N_b) / 2
    return M * (M + 1) + N_b - jnp.vdot(P_a, P_b.T)
