"""Fractional charges, fractional spins and the ionisation potential.

The energy of an open system is a straight line between integer numbers of electrons: Perdew, Parr, Levy,
Balduz (1982), doi:10.1103/PhysRevLett.49.1691. That of degenerate spin states is constant between them:
Cohen, Mori-Sanchez, Yang (2008), doi:10.1126/science.1158722; together they make a flat plane: Mori-Sanchez,
Cohen, Yang (2009), doi:10.1103/PhysRevLett.102.066403.

Occupations have the shape of :func:`dqc.scf`'s, with two rows. ``options`` are numbers and strings for it.
Every function is differentiable in ``xc``, self-consistent ones by the response of the field.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.energy import energies, fock
from dqc.losses.deviations import Deviations
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.types import traced
from dqc.xc.functional import Functional

SHARES = (0.25, 0.5, 0.75)
HYDROGEN, HYDRIDE = -0.5, -0.527751  # exact energies, hartree


def fields(system: System, xc: Functional, occupations: Float[Array, "q s i"], **options: Any) -> Solution:
    """Self-consistent fields of several occupations, one after the other, stacked along a first axis."""
    occupations = jnp.asarray(occupations, float)
    if traced((system, xc, occupations)):
        return _fields(tuple(sorted(options.items())), system, xc, occupations)
    # Outside of transformations the one program of scf serves any number of fields.
    found = [scf(system, xc, f, **options) for f in occupations]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


@partial(jax.jit, static_argnums=0)
def _fields(options: tuple, system: System, xc: Functional, occupations: Float[Array, "q s i"]) -> Solution:
    return jax.lax.map(lambda f: scf(system, xc, f, **dict(options)), occupations)


def _on_line(
    system: System,
    xc: Functional,
    fewer: Float[Array, "s i"],
    more: Float[Array, "s i"],
    shares: tuple[float, ...],
    options: dict[str, Any],
) -> tuple[Float[Array, " q"], Float[Array, "s i"], Solution, Array]:
    """Shares w with both ends, more - fewer, their fields, and which of those between can be judged."""
    w = jnp.asarray((0.0, *shares, 1.0), float)
    fewer, more = jnp.asarray(fewer, float), jnp.asarray(more, float)
    found = fields(system, xc, (1.0 - w)[:, None, None] * fewer + w[:, None, None] * more, **options)
    ends = found.converged[0] & found.converged[-1]
    return w, more - fewer, found, found.converged[1:-1] & ends


def fractional_charge(
    system: System,
    xc: Functional,
    fewer: Float[Array, "s i"],
    more: Float[Array, "s i"],
    shares: tuple[float, ...] = SHARES,
    **options: Any,
) -> Deviations:
    """E(w) - (1 - w) E(0) - w E(1) of self-consistent fields with occupations (1 - w) fewer + w more."""
    w, _, found, converged = _on_line(system, xc, fewer, more, shares, options)
    return Deviations(_bend(w, found.energy)[1:-1], converged)


def fractional_charge_at(
    system: System, xc: Functional, fewer: Solution, more: Solution, shares: tuple[float, ...] = SHARES
) -> Deviations:
    """The same at fixed densities, P(w) = (1 - w) P(0) + w P(1) of two solutions: no field is solved."""
    slots = [x.occupations.shape[1] for x in (fewer, more)]
    orbitals = [x.mo_coeff[:, :, :i] for x, i in zip((fewer, more), slots, strict=True)]
    C = jax.lax.stop_gradient(jnp.concatenate(orbitals, axis=2))

    def energy(w: Array) -> Float[Array, ""]:
        f = jnp.concatenate([(1.0 - w) * fewer.occupations, w * more.occupations], axis=1)
        return energies(system, xc, C, jax.lax.stop_gradient(f)).total

    w = jnp.asarray((0.0, *shares, 1.0), float)
    E = jax.lax.map(energy, w)
    error = _bend(w, E)[1:-1]
    return Deviations(error, jnp.broadcast_to(fewer.converged & more.converged, error.shape))


def janak(
    system: System,
    xc: Functional,
    fewer: Float[Array, "s i"],
    more: Float[Array, "s i"],
    shares: tuple[float, ...] = SHARES,
    **options: Any,
) -> Deviations:
    """dE/dw - (E(1) - E(0)), where dE/dw = sum_i df_i e_i: the frontier level is constant along the line.

    Janak (1978), doi:10.1103/PhysRevB.18.7165.
    """
    _, change, found, converged = _on_line(system, xc, fewer, more, shares, options)
    error = _frontier(found, change) - (found.energy[-1] - found.energy[0])
    return Deviations(error[1:-1], converged)


def ionization_potential(
    system: System,
    xc: Functional,
    cation: Float[Array, "s i"],
    neutral: Float[Array, "s i"],
    reference: float | None = None,
    **options: Any,
) -> Deviations:
    """e_HOMO + I of the neutral; I is E(cation) - E(neutral) of the functional, or the ``reference``.

    Zero for the exact functional: Almbladh, von Barth (1985), doi:10.1103/PhysRevB.31.3231.
    """
    states = [neutral] if reference is not None else [neutral, cation]
    f = jnp.stack([jnp.asarray(state, float) for state in states])
    found = fields(system, xc, f, **options)
    change = jnp.asarray(neutral, float) - jnp.asarray(cation, float)
    I = found.energy[-1] - found.energy[0] if reference is None else jnp.asarray(reference, float)
    return Deviations((_frontier(found, change)[0] + I)[None], found.converged.all()[None])


def _bend(w: Float[Array, " q"], E: Float[Array, " q"]) -> Float[Array, " q"]:
    """E(w) less the line between its ends."""
    return E - (1.0 - w) * E[0] - w * E[-1]


def _frontier(found: Solution, change: Float[Array, "s i"]) -> Float[Array, " q"]:
    levels = found.mo_energy[:, :, : change.shape[1]]
    return jnp.einsum("si,qsi->q", change, levels)


def curvature(system: System, xc: Functional, solution: Solution, change: Float[Array, "s i"]) -> Array:
    """d2E/dw2 at fixed orbitals as the occupations change by ``w change``, hartree; zero when exact.

    For one orbital it is <phi phi| 1/r + f_xc |phi phi>, by one derivative of the Fock matrix.
    """
    change = jnp.asarray(change, float)
    C = solution.mo_coeff[:, :, : change.shape[1]]
    f = jnp.pad(solution.occupations, ((0, 0), (0, change.shape[1] - solution.occupations.shape[1])))

    def slope(w: Array) -> Float[Array, ""]:
        F, _ = fock(system, xc, C, f + w * change, system.grid)
        return jnp.einsum("si,spi,spq,sqi->", change, C, F, C)

    return jax.jvp(slope, (jnp.zeros(()),), (jnp.ones(()),))[1]


def flat_plane(
    system: System,
    xc: Functional,
    spins: Float[Array, "q 2"],
    neutral: float = HYDROGEN,
    anion: float = HYDRIDE,
    **options: Any,
) -> Deviations:
    """E(n_up, n_down) - E_exact of one s orbital with n_up and n_down electrons, in hydrogen by default.

    E_exact is N E(1) for N = n_up + n_down up to 1, and (2 - N) E(1) + (N - 1) E(2) above.
    """
    spins = jnp.asarray(spins, float)
    N = spins.sum(1)
    plane = jnp.where(N <= 1.0, N * neutral, (2.0 - N) * neutral + (N - 1.0) * anion)
    found = fields(system, xc, spins[:, :, None], **options)
    return Deviations(found.energy - plane, found.converged)


def fractional_spin(
    system: System,
    xc: Functional,
    pure: Float[Array, "s i"],
    mixed: Float[Array, "s i"],
    reference: float | None = None,
    **options: Any,
) -> Deviations:
    """E(mixed) - E(pure) of an ensemble of degenerate spin states, say [[1/2], [1/2]] and [[1], [0]] for H.

    With a ``reference`` energy (hartree) in place of E(pure), only the ensemble's field is solved.
    """
    states = [mixed] if reference is not None else [mixed, pure]
    found = fields(system, xc, jnp.stack([jnp.asarray(state, float) for state in states]), **options)
    exact = found.energy[-1] if reference is None else jnp.asarray(reference, float)
    return Deviations((found.energy[0] - exact)[None], found.converged.all()[None])
