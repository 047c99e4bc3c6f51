"""One iteration of the self-consistent field: DIIS and, where that stalls, direct minimisation, on two grids.

Most iterations are on a coarse grid, whose Fock matrix is corrected by what it lacked where the grid itself
was last evaluated, F_coarse(P) + F(P_0) - F_coarse(P_0). That is right to first order, so the grid needs to
be evaluated a few times only, until its own residual is small: iterated defect correction (Stetter 1978,
doi:10.1007/BF01432879).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dqc import diis, minimiser
from dqc.density import density_matrix
from dqc.energy import Energies, fock
from dqc.guess import starting_orbitals
from dqc.implicit import eigenvectors
from dqc.linalg import diagonalize, orthogonalizer
from dqc.occupations import fermi
from dqc.solution import History
from dqc.system import System
from dqc.types import pytree, replace

DIIS_SIZE = 8
COARSE_RESIDUAL = 1e-2  # per square root of the electrons: the uncorrected coarse grid serves down to here
COARSE_SHARE = 1e-3  # the corrected one down to this share of the grid's residual
COARSE_ITERATIONS = 12  # at most between two on the grid
WORTHWHILE = 0.3  # of the grid's residual before: what is left where the coarse grid has helped
STALLED = 10  # iterations without a better residual, after which direct minimisation takes over
DAMPED_ABOVE = 0.1  # the residual above which damping applies


class Method(NamedTuple):
    """What shapes the compiled program."""

    max_iterations: int
    smeared: bool
    guess: str | None
    unrolled: bool
    direct: bool


@pytree
class Controls:
    """Numbers that steer the iterations."""

    tolerance: Float[Array, ""]  # of the residual
    level_shift: Float[Array, ""]  # of the virtual orbitals, hartree
    damping: Float[Array, ""]  # share of the old Fock matrix
    smearing: Float[Array, ""]  # k T, hartree


@pytree
class Correction:
    """What makes the coarse grid right to first order: E_coarse(P) + tr(matrix P) + constant."""

    matrix: Float[Array, "s n n"]
    constant: Float[Array, ""]


@pytree
class State:
    """Everything that one iteration hands to the next."""

    orbitals: Float[Array, "s n k"]  # to evaluate next, or, once converged, evaluated
    occupations: Float[Array, "s i"]
    entropy: Float[Array, ""]  # -T S of the occupations
    fock: Float[Array, "s n n"]  # of the orbitals evaluated last
    energies: Energies
    residual: Float[Array, ""]
    best: Float[Array, ""]  # lowest residual on the grid so far
    stalled: Int[Array, ""]  # iterations since then
    lowest: Float[Array, ""]  # energy on the grid so far; direct minimisation would start there
    iteration: Int[Array, ""]
    coarse: Bool[Array, ""]  # whether the next iteration is on the coarse grid
    enough: Float[Array, ""]  # the residual that ends the iterations there
    waited: Int[Array, ""]  # iterations there since the last on the grid: 0 after one on the grid
    correction: Correction
    direct: Bool[Array, ""]
    converged: Bool[Array, ""]
    pulay: diis.DIIS
    descent: minimiser.Descent
    history: History


def unfinished(method: Method, state: State) -> Bool[Array, ""]:
    """Whether there is an iteration left to do, and need for it."""
    return ~state.converged & (state.iteration < method.max_iterations)


def on_coarse(method: Method, state: State) -> Bool[Array, ""]:
    """Whether the coarse grid is next; the last iteration of all is on the grid."""
    return state.coarse & (state.iteration < method.max_iterations - 1)


def start(method: Method, system: System, occupations, density, moments) -> tuple[Array, State]:
    """Orthonormal functions X, in which errors are written, and the state before the first iteration."""
    X = orthogonalizer(system.overlap)
    n, k = X.shape
    spins = occupations.shape[0]
    guess = density if method.guess is None else method.guess
    orbitals = starting_orbitals(system, X, spins, guess, moments)
    zero, infinite = jnp.zeros(()), jnp.asarray(jnp.inf, float)
    unseen = jnp.full(method.max_iterations, jnp.nan, float)
    return X, State(
        orbitals=orbitals,
        occupations=occupations,
        entropy=zero,
        fock=jnp.zeros((spins, n, n)),
        energies=Energies(*[zero] * 7),
        residual=infinite,
        best=infinite,
        lowest=infinite,
        stalled=jnp.zeros((), int),
        iteration=jnp.zeros((), int),
        coarse=jnp.asarray(system.coarse is not None),
        # A density that is given is better than what an uncorrected coarse grid would make of it.
        enough=infinite if method.guess is None else COARSE_RESIDUAL * jnp.sqrt(occupations.sum()),
        waited=jnp.zeros((), int),
        correction=Correction(jnp.zeros((spins, n, n)), zero),
        direct=jnp.asarray(False),
        converged=jnp.asarray(False),
        pulay=diis.start(DIIS_SIZE, spins, n, k),
        descent=minimiser.start(orbitals),
        history=History(unseen, unseen),
    )


def coarse_step(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """Evaluate the orbitals on the corrected coarse grid; then propose others, or hand these to the grid."""
    C, f = filled(state)
    F, energies = fock(system, xc, C, f, system.coarse)
    matrix, constant = state.correction.matrix, state.correction.constant
    change = jnp.vdot(matrix, density_matrix(C, f)) + constant
    state, error = _evaluated(system, X, state, F + matrix, replace(energies, xc=energies.xc + change))
    waited = state.waited + 1
    end = (state.residual < state.enough) | (waited >= COARSE_ITERATIONS)
    state = replace(state, waited=waited, coarse=~end)
    diagonalise = partial(_diagonalise, method, system, controls, X, error)
    return jax.lax.cond(end, lambda s: s, diagonalise, state)


def step(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """Evaluate the orbitals on the grid; then, unless they are converged, propose the next ones."""
    state, error = evaluate(system, xc, controls, X, state)
    return propose(method, system, controls, X, error, state)


def evaluate(system: System, xc, controls: Controls, X, state: State) -> tuple[State, Float[Array, "s k k"]]:
    """The state with what its orbitals give on the grid, and their error."""
    before = state
    F, energies = fock(system, xc, *filled(state), system.grid)
    state, error = _evaluated(system, X, state, F, energies)
    better = state.residual < state.best
    lower = (state.energies.total < state.lowest) & ~state.direct
    state = replace(
        state,
        best=jnp.minimum(state.residual, state.best),
        lowest=jnp.where(lower, state.energies.total, state.lowest),
        descent=replace(state.descent, orbitals=jnp.where(lower, state.orbitals, state.descent.orbitals)),
        stalled=jnp.where(better, 0, state.stalled + 1 + before.waited),
        converged=state.residual < controls.tolerance,
        waited=jnp.zeros((), int),
        coarse=jnp.asarray(False),
    )
    if system.coarse is not None:
        state = _corrected(system, controls, X, before, state)
    return state, error


def propose(method: Method, system: System, controls: Controls, X, error, state: State) -> State:
    """The next orbitals, unless these are converged."""
    return jax.lax.cond(
        state.converged, lambda s: s, partial(_propose, method, system, controls, X, error), state
    )


def _corrected(system: System, controls: Controls, X, before: State, state: State) -> State:
    """The state after an evaluation on the grid, of orbitals that the coarse grid may have seen just before.

    Then the correction takes the difference in, and so do all Fock matrices and errors that DIIS holds.
    """
    C, f = filled(state)
    seen = before.waited > 0
    difference = jnp.where(seen, state.fock - before.fock, 0.0)
    constant = state.energies.total - before.energies.total - jnp.vdot(difference, density_matrix(C, f))
    old = before.correction
    return replace(
        state,
        correction=Correction(old.matrix + difference, old.constant + jnp.where(seen, constant, 0.0)),
        pulay=diis.shifted(state.pulay, difference, commutator(system, X, difference, C, f)),
        coarse=seen
        & (before.waited < COARSE_ITERATIONS)
        & (state.residual < WORTHWHILE * before.best)
        & ~state.converged,
        enough=jnp.maximum(COARSE_SHARE * state.residual, 0.3 * controls.tolerance),
    )


def filled(state: State) -> tuple[Float[Array, "s n i"], Float[Array, "s i"]]:
    """The orbitals that have occupations, and these."""
    return state.orbitals[:, :, : state.occupations.shape[1]], state.occupations


def _evaluated(system: System, X, state: State, F, energies: Energies) -> tuple[State, Float[Array, "s k k"]]:
    """The state with what its orbitals gave, and their error."""
    energies = replace(energies, smearing=state.entropy)
    error = commutator(system, X, F, *filled(state))
    residual = jnp.linalg.norm(error) / jnp.sqrt(2.0)
    t, history = state.iteration, state.history
    state = replace(
        state,
        fock=F,
        energies=energies,
        residual=residual,
        iteration=t + 1,
        history=History(history.energy.at[t].set(energies.total), history.residual.at[t].set(residual)),
    )
    return state, error


def _propose(method: Method, system: System, controls: Controls, X, error, state: State) -> State:
    """The next orbitals, by DIIS and diagonalisation or by a step of direct minimisation."""
    direct = state.direct | (state.stalled >= (0 if method.direct else STALLED))
    if method.smeared:
        direct = jnp.asarray(False)
    state = jax.lax.switch(
        direct.astype(int) + state.direct,
        (partial(_diagonalise, method, system, controls, X, error), _start_descent, _descend),
        state,
    )
    return replace(state, coarse=state.coarse & ~direct)


def _diagonalise(method: Method, system: System, controls: Controls, X, error, state: State) -> State:
    C, f = filled(state)
    S, one_spin = system.overlap, f / (3 - f.shape[0])
    pulay, F = diis.extrapolate(state.pulay, state.fock, error)
    mixed = controls.damping * (state.residual > DAMPED_ABOVE) * (state.iteration > 1)
    F = (1.0 - mixed) * F + mixed * state.pulay.focks[(state.pulay.count - 1) % DIIS_SIZE]
    occupied = density_matrix(S @ C, one_spin)
    F = F + controls.level_shift * (S - occupied)
    energies, orbitals = diagonalize(jax.lax.stop_gradient(F) if method.unrolled else F, X)
    occupations, entropy = state.occupations, state.entropy
    if method.smeared:
        occupations, entropy = fermi(energies, occupations.sum(1), controls.smearing)
    if method.unrolled:
        orbitals = eigenvectors(F, S, energies, orbitals, occupations)
    return replace(state, orbitals=orbitals, pulay=pulay, occupations=occupations, entropy=entropy)


def _start_descent(state: State) -> State:
    """Return to the orbitals of lowest energy, where direct minimisation starts."""
    return replace(state, orbitals=state.descent.orbitals, direct=jnp.asarray(True))


def _descend(state: State) -> State:
    """A step of direct minimisation."""
    gradient, curvature = minimiser.orbital_gradient(state.orbitals, state.fock, state.occupations)
    descent, orbitals = minimiser.advance(
        state.descent, state.orbitals, state.energies.total, gradient, curvature
    )
    return replace(state, descent=descent, orbitals=orbitals)


def commutator(
    system: System,
    X,
    F: Float[Array, "s n n"],
    orbitals: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
) -> Float[Array, "s k k"]:
    """X^T (F P S - S P F) X, which vanishes at self-consistency."""
    S = system.overlap
    half = jnp.einsum("nk,sni,si->ski", X, F @ orbitals, occupations)
    product = half @ (X.T @ S @ orbitals).transpose(0, 2, 1)
    return product - product.transpose(0, 2, 1)
