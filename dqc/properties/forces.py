"""The forces on the nuclei."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.derivatives import attach
from dqc.implicit import differentiable
from dqc.integrals.libcint_derivatives import half_the_threads
from dqc.nuclei import checked, follow_on_device, through_integrals
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.types import replace, traced
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
    on_grid, off_grid = _at_once(_on_grid, _off_grid, system, xc, solution)
    return -on_grid - off_grid


def _at_once(first: Callable[..., Any], second: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """What two functions make of the arguments: at the same time, unless these are traced."""
    if traced(args):
        return first(*args), second(*args)

    def beside() -> Any:
        with half_the_threads():
            return second(*args)

    with ThreadPoolExecutor(1) as other:
        later = other.submit(beside)
        return first(*args), later.result()


# Neither program calls the host, so that the compilation cache can keep both.
@jax.jit
def _on_grid(system: System, xc: Functional, solution: Solution) -> Float[Array, "a x"]:
    """dE/dR through all but the integrals."""

    def energy(coords: Float[Array, "a x"]) -> Float[Array, ""]:
        return differentiable(follow_on_device(system, coords), xc, solution).energy

    return jax.grad(energy)(system.coords)


def _off_grid(system: System, xc: Functional, solution: Solution) -> Float[Array, "a x"]:
    """dE/dR through the integrals."""
    return through_integrals(system, _by_integrals(system, xc, solution))


@jax.jit
def _by_integrals(system: System, xc: Functional, solution: Solution) -> dict[str, Any]:
    """dE by the integrals: values that need no grid, with derivatives that do."""
    gridless = replace(system, grid=None, coarse=None)
    names = ("kinetic", "nuclear", "repulsion")
    slopes = _by(names, gridless, xc, solution) | {"overlap": _by_overlap(solution)}
    return attach(slopes, partial(_by, (*names, "overlap")), system, xc, solution)


def _by(names: tuple[str, ...], system: System, xc: Functional, solution: Solution) -> dict[str, Any]:
    def energy(integrals: dict[str, Any]) -> Float[Array, ""]:
        return differentiable(replace(system, **integrals), xc, solution).energy

    return jax.grad(energy)({name: getattr(system, name) for name in names})


def _by_overlap(solution: Solution) -> Float[Array, "n n"]:
    """-W of orbitals C that stay orthonormal, W = 1/2 sum_s C (G f + f G) C^T with G = C^T F C.

    The energy-weighted density matrix: G is diagonal where the field has converged.
    """
    f = solution.occupations
    C = solution.mo_coeff[:, :, : f.shape[1]]
    G = C.transpose(0, 2, 1) @ solution.fock @ C
    half = 0.5 * jnp.einsum("sni,sij,sj,smj->nm", C, G, f, C)
    return -(half + half.T)
