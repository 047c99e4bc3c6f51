"""The forces on the nuclei."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from dqc.implicit import differentiable
from dqc.nuclei import checked, follow_on_device, follow_on_host
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.types import replace
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
    coords = checked(system, system.coords)
    if solution is None:
        solution = scf(system, xc, **({"tolerance": 1e-6} | options))
    direct, slopes = _slopes(system, xc, solution)
    return -direct - _through_integrals(system, coords, slopes)


# Two programs: the large one without calls to the host, so that it can be kept in the compilation cache.
@jax.jit
def _slopes(system: System, xc: Functional, solution: Solution) -> tuple[Array, dict[str, Any]]:
    """dE/dR through all but the integrals, and dE by the integrals."""

    def energy(coords: Float[Array, "a x"], integrals: dict[str, Any]) -> Float[Array, ""]:
        moved = replace(follow_on_device(system, coords), **integrals)
        return differentiable(moved, xc, solution).energy

    integrals = {name: getattr(system, name) for name in ("overlap", "kinetic", "nuclear", "repulsion")}
    return jax.grad(energy, (0, 1))(system.coords, integrals)


@jax.jit
def _through_integrals(
    system: System, coords: Float[Array, "a x"], slopes: dict[str, Any]
) -> Float[Array, "a x"]:
    def integrals(coords: Float[Array, "a x"]) -> dict[str, Any]:
        moved = follow_on_host(system, coords)
        return {name: moved[name] for name in slopes}

    return jax.vjp(integrals, coords)[1](slopes)[0]
