"""The forces on the nuclei."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from dqc.implicit import differentiable
from dqc.nuclei import follow
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.xc.functional import Functional


def forces(
    system: System, xc: Functional, solution: Solution | None = None, **options: Any
) -> Float[Array, "a x"]:
    """F = -dE/dR of the self-consistent energy, hartree/bohr; the grid moves with the nuclei.

    Without a ``solution`` the equations are solved first, with the ``options`` of :func:`dqc.scf` and,
    if none is given, a tolerance of 1e-6: the forces' error is about that of the orbitals. A solution
    that has not converged has forces NaN. Differentiable by ``xc``. Pulay (1969),
    doi:10.1080/00268976900100941; Johnson, Gill, Pople (1993), doi:10.1063/1.464906.
    """
    if solution is None:
        solution = scf(system, xc, **({"tolerance": 1e-6} | options))
    return _forces(system, xc, solution)


@jax.jit
def _forces(system: System, xc: Functional, solution: Solution) -> Float[Array, "a x"]:
    def energy(coords: Float[Array, "a x"]) -> Float[Array, ""]:
        return differentiable(follow(system, coords), xc, solution).energy

    return -jax.grad(energy)(system.coords)
