"""The self-consistent field: options, the loop, and the solution with its derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc import iterations
from dqc.density import density_matrix
from dqc.guess import GUESSES
from dqc.implicit import differentiable
from dqc.iterations import Controls, Method, State
from dqc.linalg import canonicalize
from dqc.response import Response, no_response
from dqc.solution import Solution
from dqc.system import System, check_needs
from dqc.types import replace
from dqc.xc.functional import Functional


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
    :func:`dqc.guess.starting_orbitals`). ``tolerance`` bounds the norm of the orbital gradient, and
    the residual of the response's equations over their right-hand side; the energy's error is of its
    square, that of a derivative of the energy, of the density and of its derivatives of itself.
    ``max_iterations`` counts those on the coarse grid as well; the last is always on the grid.
    ``direct=True`` minimises the energy directly; DIIS finds a start on the coarse grid alone
    (:func:`dqc.minimise`).
    Nothing raises when it does not converge: see ``Solution.converged``. Raises ``ValueError`` where
    ``system`` lacks what ``xc`` needs.

    The solution is differentiable, forward and reverse and repeatedly, by the implicit function theorem
    (:mod:`dqc.response`); under smearing, second derivatives exist for the energy alone. Its gradient
    with respect to ``response`` is a report on the linear equations that a reverse pass solved.
    ``adjoint="unrolled"`` differentiates the iterations themselves instead, all ``max_iterations`` of
    them, each evaluated again in a reverse pass. Their derivative lags behind them: in a direction that
    lowers the symmetry it may still be wrong when they end.
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
    while bool(iterations.unfinished(method, state)):
        on_coarse = bool(iterations.on_coarse(method, state))
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
        X, state = iterations.start(method, jax.lax.stop_gradient(system), occupations, density, moments)
        state = _unrolled(method, system, xc, controls, X, state)
        return _solution(method, controls, X, state, report)
    fixed = jax.lax.stop_gradient((system, xc, occupations, density, moments))
    X, state = iterations.start(method, fixed[0], *fixed[2:])
    arguments = (*fixed[:2], controls, X)

    def to_the_grid(state: State) -> State:
        if system.coarse is not None:
            on_coarse = partial(iterations.coarse_step, method, *arguments)
            state = jax.lax.while_loop(partial(iterations.on_coarse, method), on_coarse, state)
        return iterations.step(method, *arguments, state)

    state = jax.lax.while_loop(partial(iterations.unfinished, method), to_the_grid, state)
    return _finish(method, system, xc, controls, X, state, occupations, report)


def _unrolled(method: Method, system: System, xc, controls: Controls, X, state: State) -> State:
    """The same iterations as a scan, of which a reverse pass keeps the states and evaluates energies again.

    It does not diagonalise again: what round-off decides, signs and turns between degenerate orbitals, has
    to be that of the orbitals whose cotangents come back.
    """

    def step(state: State, _: None) -> tuple[State, None]:
        wanted = iterations.unfinished(method, state)

        @jax.checkpoint
        def evaluated(state: State) -> tuple[State, Array]:
            evaluate, k = partial(iterations.evaluate, system, xc, controls, X), X.shape[1]
            nothing = jnp.zeros((len(state.fock), k, k))
            return jax.lax.cond(wanted, evaluate, lambda s: (s, nothing), state)

        state, error = evaluated(state)
        return iterations.propose(method, system, controls, X, error, state), None

    return jax.lax.scan(step, state, length=method.max_iterations)[0]


def _finish(
    method: Method, system: System, xc, controls: Controls, X, state: State, occupations, report: Response
) -> Solution:
    """The solution of a finished state, with its derivatives by implicit differentiation."""
    sol = _solution(method, controls, X, state, report)
    return differentiable(system, xc, sol, occupations, controls.tolerance)


_jitted_start, _jitted_coarse, _jitted_step, _jitted_finish = (
    jax.jit(f, static_argnums=0) for f in (iterations.start, iterations.coarse_step, iterations.step, _finish)
)


def _solution(method: Method, controls: Controls, X, state: State, report: Response) -> Solution:
    slots = state.occupations.shape[1]
    f = jnp.pad(state.occupations, ((0, 0), (0, X.shape[1] - slots)))
    mo_energy, mo_coeff = canonicalize(state.fock, state.orbitals, f)
    return Solution(
        energy=state.energies.total,
        energies=state.energies,
        density_matrix=density_matrix(*iterations.filled(state)),
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
