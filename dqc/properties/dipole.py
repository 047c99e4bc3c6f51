"""The electric dipole moment."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.solution import Solution
from dqc.system import System


def dipole(system: System, solution: Solution) -> Float[Array, " x"]:
    """mu = sum_a Z_a R_a - tr(P r), in e bohr, about the origin of the coordinates.

    Of an ion the dipole moment depends on that origin.
    """
    nuclei = system.charges @ system.coords
    return nuclei - jnp.einsum("xpq,spq->x", system.dipole, solution.density_matrix)
