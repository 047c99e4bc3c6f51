"""The derivatives of a converged solution: one set of rules for every field of it.

The energy is stationary, so its first derivative is taken at fixed orbitals and solves nothing; all other
fields, and every second derivative, follow the orbitals by their response.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.density import density_matrix
from dqc.derivatives import attach, trust
from dqc.energy import energies, fock
from dqc.linalg import levels_of_sets
from dqc.occupations import fermi
from dqc.response import Rotation, Smearing, no_response, root, rotation, smearing
from dqc.solution import Solution
from dqc.system import System
from dqc.types import replace
from dqc.xc.functional import Functional


def differentiable(
    system: System,
    xc: Functional,
    solution: Solution,
    occupations: Float[Array, "s i"] | None = None,
    tolerance: Float[Array, ""] | None = None,
) -> Solution:
    """The same solution, with derivatives by ``system``, ``xc`` and, if these were given, ``occupations``.

    ``tolerance`` is that of the response, relative; by default the orbitals' own residual.
    """
    fixed = jax.lax.stop_gradient(solution)
    T = fixed.temperature
    if T is not None or occupations is None:
        occupations = fixed.occupations
    C, e, F = _finite(fixed)
    f = jax.lax.stop_gradient(occupations)
    chart = rotation(C, e, f) if T is None else smearing(C, e, f, T)
    moving = (system, xc, occupations)
    rough = None if system.coarse is None else partial(_field, True)
    y, report = root(
        partial(_field, False),
        rough,
        chart,
        F,
        _accuracy(fixed, tolerance),
        solution.response,
        system.overlap,
        *moving,
    )
    energy = attach(fixed.energy, _total, *moving, held=(chart, y))
    names = ("energies", "density_matrix", "fock", "mo_coeff", "mo_energy", "occupations")
    fields = {name: getattr(fixed, name) for name in names}
    fields = attach(fields, _fields, T, chart, y, *moving)
    fields = trust(fixed.converged, fields | {"energy": energy})
    return replace(fixed, response=report, **fields)


def _accuracy(solution: Solution, tolerance: Float[Array, ""] | None) -> Float[Array, ""]:
    """Of the response, relative: not better than the orbitals that it is about were asked to be."""
    asked = solution.residual if tolerance is None else tolerance
    return jnp.where(solution.converged, jnp.clip(asked, 1e-11, 1e-5), 1e-5)


def _finite(solution: Solution) -> tuple[Array, Array, Array]:
    """Orbitals, levels and Fock matrix where derivatives are finite, even those to be multiplied by zero."""
    found = solution.mo_coeff, solution.mo_energy, solution.fock
    finite = jnp.stack([jnp.isfinite(x).all() for x in found]).all()
    n, k = found[0].shape[1:]
    # Shorter than one: the eigenvalues of the overlap matrix of n AOs add up to n.
    plain = jnp.eye(n, k) / jnp.sqrt(n), jnp.arange(k), 0.0
    C, e, F = (jnp.where(finite, x, jnp.asarray(y, x.dtype)) for x, y in zip(found, plain, strict=True))
    return C, e, F


def _field(
    coarse: bool, orbitals: Float[Array, "s n i"], system: System, xc: Functional, occupations: Array
) -> Float[Array, "s n n"]:
    """The Fock matrix of orbitals, on the grid or on the coarse one."""
    return fock(system, xc, orbitals, occupations, system.coarse if coarse else system.grid)[0]


def _total(chart: Any, y: Array, system: System, xc: Functional, occupations: Array) -> Float[Array, ""]:
    return energies(system, xc, chart.moved(y, system.overlap), occupations, keep=False).total


def _fields(
    temperature: Float[Array, ""] | None,
    chart: Rotation | Smearing,
    y: Array,
    system: System,
    xc: Functional,
    occupations: Float[Array, "s i"],
) -> dict[str, Any]:
    """What follows from the rotation y: under smearing the occupations as well."""
    C = chart.moved(y, system.overlap)
    F, terms = fock(system, xc, C, occupations, system.grid)
    frame = chart.frame(y, system.overlap)
    in_frame = frame.transpose(0, 2, 1) @ F @ frame
    if temperature is None:
        f = jnp.pad(occupations, ((0, 0), (0, frame.shape[2] - occupations.shape[1])))
        levels, entropy = levels_of_sets(in_frame, frame, jax.lax.stop_gradient(f)), terms.smearing
        filled, mo_coeff = occupations, frame
    else:
        levels = jnp.diagonal(in_frame, axis1=1, axis2=2)
        filled, entropy = fermi(levels, occupations.sum(1), temperature)
        mo_coeff = jnp.nan * frame
    return {
        "energies": replace(terms, smearing=entropy),
        "density_matrix": density_matrix(C, occupations),
        "fock": F,
        "mo_coeff": mo_coeff,
        "mo_energy": levels,
        "occupations": filled,
    }


def eigenvectors(
    F: Float[Array, "s n n"],
    S: Float[Array, "n n"],
    levels: Float[Array, "s k"],
    orbitals: Float[Array, "s n k"],
    occupations: Float[Array, "s i"],
) -> Float[Array, "s n k"]:
    """Solutions C of F C = S C e, given, with derivatives by F and S that are blind to degeneracy.

    C turns between orbitals of different occupation only, which is all that C f C^T depends on.
    """
    chart = rotation(orbitals, levels, jax.lax.stop_gradient(occupations))
    round_off = jnp.asarray(100 * jnp.finfo(F.dtype).eps)
    y, _ = root(_given_field, None, chart, F, round_off, no_response(), S, F)
    return chart.frame(y, S)


def _given_field(orbitals: Float[Array, "s n i"], F: Float[Array, "s n n"]) -> Float[Array, "s n n"]:
    return F
