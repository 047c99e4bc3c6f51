"""The forces on the nuclei."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    checked(system, system.coords)
    if solution is None:
        solution = scf(system, xc, **({"tolerance": 1e-6} | options))
    (direct, overlap), rest = _at_once(_on_grid, _off_grid, system, xc, solution)
    return -direct - rest - _through_integrals(system, overlap)


def _at_once(first: Callable[..., Any], second: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """What two functions make of the arguments: at the same time, unless these are traced."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(args)):
        return first(*args), second(*args)
    with ThreadPoolExecutor(1) as other:
        later = other.submit(second, *args)
        return first(*args), later.result()


# The large program is without calls to the host, so that it can be kept in the compilation cache.
@jax.jit
def _on_grid(system: System, xc: Functional, solution: Solution) -> tuple[Array, dict[str, Any]]:
    """dE/dR through all but the integrals, and dE by the overlap."""

    def energy(coords: Float[Array, "a x"], overlap: Float[Array, "n n"]) -> Float[Array, ""]:
        moved = replace(follow_on_device(system, coords), overlap=overlap)
        return differentiable(moved, xc, solution).energy

    direct, overlap = jax.grad(energy, (0, 1))(system.coords, system.overlap)
    return direct, {"overlap": overlap}


def _off_grid(system: System, xc: Functional, solution: Solution) -> Float[Array, "a x"]:
    """dE/dR through the integrals whose factors in the energy are known without the grid."""
    return _through_integrals(system, _by_integrals(system, xc, solution))


@jax.jit
def _by_integrals(system: System, xc: Functional, solution: Solution) -> dict[str, Any]:
    def energy(integrals: dict[str, Any]) -> Float[Array, ""]:
        return differentiable(replace(system, **integrals), xc, solution).energy

    return jax.grad(energy)({name: getattr(system, name) for name in ("kinetic", "nuclear", "repulsion")})


@jax.jit
def _through_integrals(system: System, slopes: dict[str, Any]) -> Float[Array, "a x"]:
    """What dE by some integrals makes of their motion: libcint on the host."""

    def integrals(coords: Float[Array, "a x"]) -> dict[str, Any]:
        moved = follow_on_host(system, coords)
        return {name: moved[name] for name in slopes}

    return jax.vjp(integrals, system.coords)[1](slopes)[0]
