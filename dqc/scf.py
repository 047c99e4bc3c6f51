"""The self-consistent field: DIIS and, where that stalls, direct minimisation, on two grids.

Most iterations are on a coarse grid, whose Fock matrix is corrected by what it lacked where the grid itself
was last evaluated, F_coarse(P) + F(P_0) - F_coarse(P_0). That is right to first order, so the grid needs to
be evaluated a few times only, until its own residual is small: iterated defect correction (Stetter 1978,
doi:10.1007/BF01432879).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dqc import diis, minimiser
from dqc.density import density_matrix
from dqc.energy import Energies, fock
from dqc.guess import GUESSES, starting_orbitals
from dqc.implicit import differentiable, eigenvectors
from dqc.linalg import canonicalize, diagonalize, orthogonalizer
from dqc.occupations import fermi
from dqc.response import Response, no_response
from dqc.solution import History, Solution
from dqc.system import System, check_needs
from dqc.types import pytree, replace
from dqc.xc.functional import Functional

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
    lowest: Float[
        Array, ""
    ]  # energy on the grid so far, of orbitals from which direct minimisation would start
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


def scf(
    system: System,
    xc: Functional,
    occupations: Float[Array, "s i"] | None = None,
    smearing: float | None = None,
    guess: str | Float[Array, "s n n"] = "sap",
    unrestricted: bool | None = None,
    level_shift: float = 0.0,
    damping: float = 0.0,
    moments: Float[Array, " a"] | None = None,
    max_iterations: int = 150,
    tolerance: float = 1e-5,
    adjoint: Literal["implicit", "unrolled"] = "implicit",
    response: Response | None = None,
    direct: bool = False,
) -> Solution:
    """Solve the Kohn-Sham (or Hartree-Fock) equations F C = S C e self-consistently.

    ``occupations`` are the numbers of electrons in the lowest orbitals, any real ones, one row
    (restricted) or two (alpha, beta); by default the system's own. ``smearing`` is an electronic
    temperature k T in hartree (Fermi-Dirac; the energy is then the free energy E - T S).
    ``unrestricted=True`` splits a closed shell into two spins. ``guess`` is ``"sap"``, ``"sad"``, ``"core"``
    or a density matrix, and ``moments`` the spin on each atom at the start (see
    :func:`dqc.guess.starting_orbitals`). ``tolerance`` bounds the norm of the orbital gradient; the
    energy's error is of its square, that of a derivative of the energy and of the density of itself.
    ``max_iterations`` counts those on the coarse grid as well; the last is always on the grid.
    ``direct=True`` minimises the energy directly; DIIS finds a start on the coarse grid alone
    (:func:`dqc.minimise`).
    Nothing raises when it does not converge: see ``Solution.converged``. Raises ``ValueError`` where
    ``system`` lacks what ``xc`` needs.

    The solution is differentiable, forward and reverse and repeatedly, by the implicit function theorem
    (:mod:`dqc.response`); under smearing, second derivatives exist for the energy alone. Its gradient
    with respect to ``response`` is a report on the linear equations that a reverse pass solved.
    ``adjoint="unrolled"`` differentiates the iterations themselves instead, all ``max_iterations`` of
    them, each evaluated again in a reverse pass. Their derivative lags behind them: it wants a tolerance
    near 1e-11, and in a direction that lowers the symmetry it may still be wrong when they end.
    """
    arguments = _prepare(
        system, xc, occupations, smearing, guess, unrestricted, level_shift, damping, moments,
        max_iterations, tolerance, adjoint, response, direct,
    )  # fmt: skip
    return _solve(*arguments)


def iterate(system: System, xc: Functional, **options: Any) -> Iterator[State | Solution]:
    """The same as :func:`scf`, one iteration at a time: yields each ``State``, last the ``Solution``.

    An iteration was on the coarse grid where ``State.waited`` is not zero.
    """
    given = signature(scf).bind(system, xc, **options)
    given.apply_defaults()
    method, system, xc, controls, *start, report = _prepare(*given.arguments.values())
    X, state = _jitted_start(method, system, *start)
    step = method._replace(guess=None)  # which the step does not read: one program for every guess
    while bool(_unfinished(method, state)):
        on_coarse = bool(_on_coarse(method, state))
        state = (_jitted_coarse if on_coarse else _jitted_step)(step, system, xc, controls, X, state)
        yield state
    yield _jitted_finish(step, system, xc, controls, X, state, start[0], report)


def _prepare(
    system, xc, occupations, smearing, guess, unrestricted, level_shift, damping, moments,
    max_iterations, tolerance, adjoint, response, direct,
) -> tuple:  # fmt: skip
    """Check the options against the system, and sort them into static and traced ones."""
    check_needs(system, xc)
    if isinstance(guess, str) and guess not in GUESSES:
        raise ValueError(f"guess={guess!r} is not one of {', '.join(GUESSES)}, nor a density matrix.")
    if adjoint not in ("implicit", "unrolled"):
        raise ValueError(f"adjoint={adjoint!r} is neither 'implicit' nor 'unrolled'.")
    if adjoint == "unrolled" and smearing is not None:
        raise ValueError("adjoint='unrolled' differentiates given occupations only: leave out smearing=.")
    if direct and (smearing is not None or adjoint == "unrolled"):
        raise ValueError("direct=True minimises at given occupations: leave out smearing= and adjoint=.")
    if max_iterations < 1:
        raise ValueError(f"max_iterations={max_iterations} must be at least 1.")
    rows = jnp.asarray(system.occupations if occupations is None else occupations, float)
    if rows.ndim != 2 or rows.shape[0] not in (1, 2) or rows.shape[1] > system.overlap.shape[0]:
        raise ValueError(
            f"occupations of shape {rows.shape} should be (1, i) or (2, i) with i at most the "
            f"{system.overlap.shape[0]} orbitals of the basis."
        )
    density = None if isinstance(guess, str) else jnp.asarray(guess, float)
    if unrestricted is None and (moments is not None or (density is not None and density.shape[0] == 2)):
        unrestricted = True
    if unrestricted and rows.shape[0] == 1:
        rows = jnp.concatenate([rows, rows]) / 2
    if unrestricted is False and rows.shape[0] == 2:
        rows = rows.sum(0, keepdims=True)
    if smearing is not None:
        rows = jnp.pad(rows, ((0, 0), (0, system.overlap.shape[0] - rows.shape[1])))
    if moments is not None and rows.shape[0] == 1:
        raise ValueError("moments= need two spins: leave out unrestricted=False.")
    start = guess if isinstance(guess, str) else None
    method = Method(max_iterations, smearing is not None, start, adjoint == "unrolled", direct)
    controls = Controls(*(jnp.asarray(x, float) for x in (tolerance, level_shift, damping, smearing or 0.0)))
    moments = None if moments is None else jnp.asarray(moments, float)
    report = no_response() if response is None else response
    return method, system, xc, controls, rows, density, moments, report


@partial(jax.jit, static_argnums=0)
def _solve(method, system, xc, controls, occupations, density, moments, report) -> Solution:
    if method.unrolled:
        system = replace(system, coarse=None)
        X, state = _start(method, jax.lax.stop_gradient(system), occupations, density, moments)
        state = _unrolled(method, system, xc, controls, X, state)
        return _solution(method, controls, X, state, report)
    fixed = jax.lax.stop_gradient((system, xc, occupations, density, moments))
    X, state = _start(method, fixed[0], *fixed[2:])
    arguments = (*fixed[:2], controls, X)

    def to_the_grid(state: State) -> State:
        if system.coarse is not None:
            on_coarse = partial(_coarse_step, method, *arguments)
            state = jax.lax.while_loop(partial(_on_coarse, method), on_coarse, state)
        return _step(method, *arguments, state)

    state = jax.lax.while_loop(partial(_unfinished, method), to_the_grid, state)
    return _finish(method, system, xc, controls, X, state, occupations, report)


def _unrolled(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """The same iterations as a scan, of which a reverse pass keeps the states alone."""

    @jax.checkpoint
    def step(state: State, _: None) -> tuple[State, None]:
        go_on = partial(_step, method, system, xc, controls, X)
        return jax.lax.cond(_unfinished(method, state), go_on, lambda s: s, state), None

    return jax.lax.scan(step, state, length=method.max_iterations)[0]


def _unfinished(method: Method, state: State) -> Bool[Array, ""]:
    return ~state.converged & (state.iteration < method.max_iterations)


def _on_coarse(method: Method, state: State) -> Bool[Array, ""]:
    """Whether the coarse grid is next; the last iteration of all is on the grid."""
    return state.coarse & (state.iteration < method.max_iterations - 1)


def _start(method: Method, system: System, occupations, density, moments) -> tuple[Array, State]:
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


_jitted_start = jax.jit(_start, static_argnums=0)


def _coarse_step(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """Evaluate the orbitals on the corrected coarse grid; then propose others, or hand these to the grid."""
    C, f = _filled(state)
    F, energies = fock(system, xc, C, f, system.coarse)
    matrix, constant = state.correction.matrix, state.correction.constant
    change = jnp.vdot(matrix, density_matrix(C, f)) + constant
    state, error = _evaluated(system, X, state, F + matrix, replace(energies, xc=energies.xc + change))
    waited = state.waited + 1
    end = (state.residual < state.enough) | (waited >= COARSE_ITERATIONS)
    state = replace(state, waited=waited, coarse=~end)
    diagonalise = partial(_diagonalise, method, system, controls, X, error)
    return jax.lax.cond(end, lambda s: s, diagonalise, state)


_jitted_coarse = jax.jit(_coarse_step, static_argnums=0)


def _step(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """Evaluate the orbitals on the grid; then, unless they are converged, propose the next ones."""
    before = state
    F, energies = fock(system, xc, *_filled(state), system.grid)
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
    return jax.lax.cond(
        state.converged, lambda s: s, partial(_propose, method, system, controls, X, error), state
    )


_jitted_step = jax.jit(_step, static_argnums=0)


def _corrected(system: System, controls: Controls, X, before: State, state: State) -> State:
    """The state after an evaluation on the grid, of orbitals that the coarse grid may have seen just before.

    Then the correction takes the difference in, and so do all Fock matrices and errors that DIIS holds.
    """
    C, f = _filled(state)
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


def _filled(state: State) -> tuple[Float[Array, "s n i"], Float[Array, "s i"]]:
    """The orbitals that have occupations, and these."""
    return state.orbitals[:, :, : state.occupations.shape[1]], state.occupations


def _evaluated(system: System, X, state: State, F, energies: Energies) -> tuple[State, Float[Array, "s k k"]]:
    """The state with what its orbitals gave, and their error."""
    energies = replace(energies, smearing=state.entropy)
    error = commutator(system, X, F, *_filled(state))
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
    C, f = _filled(state)
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


def _finish(
    method: Method, system: System, xc, controls: Controls, X, state: State, occupations, report: Response
) -> Solution:
    """The solution of a finished state, with its derivatives by implicit differentiation."""
    return differentiable(system, xc, _solution(method, controls, X, state, report), occupations)


_jitted_finish = jax.jit(_finish, static_argnums=0)


def _solution(method: Method, controls: Controls, X, state: State, report: Response) -> Solution:
    slots = state.occupations.shape[1]
    f = jnp.pad(state.occupations, ((0, 0), (0, X.shape[1] - slots)))
    mo_energy, mo_coeff = canonicalize(state.fock, state.orbitals, f)
    return Solution(
        energy=state.energies.total,
        energies=state.energies,
        density_matrix=density_matrix(*_filled(state)),
        fock=state.fock,
        mo_coeff=mo_coeff,
        mo_energy=mo_energy,
        occupations=state.occupations,
        temperature=controls.smearing if method.smeared else None,
        converged=state.converged,
        residual=state.residual,
        iterations=state.iteration,
        history=state.history,
        response=report,
    )
