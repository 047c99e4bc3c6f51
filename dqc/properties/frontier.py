"""The frontier orbitals."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.solution import Solution


class Frontier(NamedTuple):
    """Energies of the highest occupied and the lowest unoccupied orbital of either spin, hartree."""

    homo: Float[Array, ""]
    lumo: Float[Array, ""]

    @property
    def gap(self) -> Float[Array, ""]:
        """LUMO less HOMO."""
        return self.lumo - self.homo


def frontier(solution: Solution) -> Frontier:
    """An orbital counts as occupied where it holds more than half of what it could.

    Where none is occupied the HOMO is -inf; where none is empty the LUMO is +inf.
    """
    levels, held = solution.mo_energy, solution.occupations
    room = 3 - levels.shape[0]
    held = jnp.pad(held, ((0, 0), (0, levels.shape[1] - held.shape[1])))
    occupied = held > room / 2
    return Frontier(
        homo=jnp.max(jnp.where(occupied, levels, -jnp.inf)),
        lumo=jnp.min(jnp.where(occupied, jnp.inf, levels)),
    )
