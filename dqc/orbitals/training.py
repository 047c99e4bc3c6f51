"""Minimising the energy of neural orbitals: a linear layer solved by the SCF, the others by steps.

Each step proposes parameters and solves the self-consistent field in the functions they make. A Gauss-Newton
step is kept if the energy fell on the same grid, one of a first-order optimiser in any case. Every few steps
the grid is turned, so that no network learns its points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from dqc.density import density_matrix
from dqc.integrals.ao import all_shells, ao_indices, ao_values
from dqc.molecule import Molecule
from dqc.orbitals import gauss_newton
from dqc.orbitals.expectation import expectation, orbitals_on, slope, spheres, system_on
from dqc.orbitals.neural import Neural, Orbitals, Parameters, nuclei_of
from dqc.orbitals.poisson import asymmetry
from dqc.orbitals.quadrature import LEVELS, Quadrature, placed, quadrature, rotation
from dqc.orbitals.solution import NeuralSolution
from dqc.scf import scf
from dqc.solution import History, Solution
from dqc.system import System, build
from dqc.types import pytree, replace
from dqc.xc.functional import Functional

START_BASIS = "def2-svp"  # of the field whose orbitals the linear layer starts from
FIELD_TOLERANCE = 1e-6  # of the linear layer
TURN = 3  # steps on one grid
FINER = 2  # levels between the grid of the minimisation and that of the final energy
DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-5, 1e3


class Problem(NamedTuple):
    """What stays the same from step to step."""

    xc: Functional
    grid: Quadrature
    coarse: Quadrature  # of the Gauss-Newton matrix
    final: tuple[Quadrature, Quadrature]
    optimizer: optax.GradientTransformation | None  # of first order; None for Gauss-Newton steps


@pytree
class State:
    """Everything that one step hands to the next: what a checkpoint holds."""

    orbitals: Orbitals
    mo_energy: Float[Array, "s i"]
    energy: Float[Array, ""]  # on the present grid
    gradient: Parameters
    damping: Float[Array, ""]  # of Gauss-Newton steps
    optimizer: Any  # the state of another optimiser
    rotation: Float[Array, "x x"]  # of the present grid
    key: Array
    began: Float[Array, ""]  # the energy when the grid was turned
    step: Int[Array, ""]
    converged: Bool[Array, ""]
    history: History


def prepare(
    molecule: Molecule,
    xc: Functional,
    network: Neural,
    grid: int,
    seed: int,
    optimizer: optax.GradientTransformation | None = None,
    **field: Any,
) -> tuple[Problem, State]:
    """The problem, and the state before the first step: orbitals of an SCF in ``START_BASIS``, projected.

    ``field`` are options of :func:`dqc.scf`, for that start. Raises ``ValueError`` for what cannot be
    computed so.
    """
    _check(molecule, grid)
    numbers, coords = molecule.numbers, molecule.coords
    system = build(molecule, START_BASIS, xc, grid=1, ecp=None)
    start = scf(system, xc, **field)
    f = start.occupations
    key, one, two, three = jax.random.split(jax.random.key(seed), 4)
    nuclei = nuclei_of(numbers, jnp.asarray(coords))
    omegas = xc.needs.operators[1:]
    levels = [quadrature(coords, numbers, level, omegas) for level in (grid, grid + FINER - 1, grid + FINER)]
    levels[1:] = [placed(g, g.coords, rotation(k)) for g, k in zip(levels[1:], (two, three), strict=True)]
    problem = Problem(xc, levels[0], quadrature(coords, numbers, 0), (levels[1], levels[2]), optimizer)
    parameters, turned = network.init(one, nuclei), rotation(key)
    nothing, zero = jnp.full(0, jnp.nan), jnp.zeros(())
    blank = jnp.zeros((f.shape[0], len(numbers) * network.functions, f.shape[1]))
    orbitals = Orbitals(parameters, nuclei, blank, f, network)
    memory = None if optimizer is None else optimizer.init(parameters)
    state = State(
        orbitals, f, zero, parameters, jnp.asarray(DAMPING), memory, turned,
        jax.random.key_data(key), zero, jnp.zeros((), int), jnp.asarray(False), History(nothing, nothing),
    )  # fmt: skip
    first = placed(levels[0], nuclei.coords, turned)
    made = system_on(orbitals, first)
    state = _solved(problem, state, made, projected(first, made, system, start))
    return problem, _recorded(replace(state, began=state.energy))


def _check(molecule: Molecule, grid: int) -> None:
    known = range(1, len(LEVELS) - FINER)
    if grid not in known:
        raise ValueError(
            f"grid={grid!r} is not one of {', '.join(map(str, known))}, the levels that "
            "leave finer grids for the final energy."
        )
    if max(molecule.numbers) > 36:
        raise ValueError(
            "Neural orbitals hold all electrons, up to krypton: there are no effective core potentials."
        )


def descend(problem: Problem, state: State, steps: int, tolerance: float) -> Iterator[State]:
    """The states of a minimisation, from this one on, until it is converged or at ``steps``.

    ``tolerance``, hartree, bounds the fall of the energy during the TURN steps on one grid of what is
    converged.
    """
    yield state
    while int(state.step) < steps and not bool(state.converged):
        state = _advanced(problem, state, tolerance)
        yield state


def _advanced(problem: Problem, state: State, tolerance: float) -> State:
    """One step, and after some of them another grid."""
    state = step(problem, state)
    if int(state.step) % TURN == 0:
        state = turned(problem, replace(state, converged=abs(state.began - state.energy) < tolerance))
    return _recorded(state)


def step(problem: Problem, state: State) -> State:
    """One step on the present grid; under ``jax.vmap`` one of each of several molecules of one shape."""
    state = _gauss_newton(problem, state) if problem.optimizer is None else _first_order(problem, state)
    return replace(state, step=state.step + 1)


def _gauss_newton(problem: Problem, state: State) -> State:
    """Propose, solve, keep or refuse: the energy of the new state is never higher on its grid."""
    coarse = placed(problem.coarse, state.orbitals.nuclei.coords, state.rotation)
    change, promised = gauss_newton.step(
        state.orbitals, state.mo_energy, coarse, state.gradient, state.damping
    )
    tried = _solved(problem, _changed(state, change))
    gain = state.energy - tried.energy
    ratio = gain / jnp.maximum(promised, 1e-12)
    factor = jnp.where(ratio > 0.5, 1.0 / 3.0, jnp.where(ratio > 0.2, 1.0, 4.0))
    kept = jax.tree.map(lambda new, old: jnp.where(gain > 0.0, new, old), tried, state)
    return replace(kept, damping=jnp.clip(state.damping * factor, LEAST_DAMPING, MOST_DAMPING))


def _first_order(problem: Problem, state: State) -> State:
    assert problem.optimizer is not None
    change, memory = problem.optimizer.update(state.gradient, state.optimizer, state.orbitals.parameters)
    return _solved(problem, replace(_changed(state, change), optimizer=memory))


def _changed(state: State, change: Parameters) -> State:
    parameters = jax.tree.map(jnp.add, state.orbitals.parameters, change)
    return replace(state, orbitals=replace(state.orbitals, parameters=parameters))


def turned(problem: Problem, state: State) -> State:
    """The same network, its linear layer solved anew on a turned grid; ``jax.vmap`` as in :func:`step`."""
    key, this = jax.random.split(jax.random.wrap_key_data(state.key))
    state = _solved(problem, replace(state, rotation=rotation(this), key=jax.random.key_data(key)))
    return replace(state, began=state.energy)


def _solved(
    problem: Problem, state: State, system: System | None = None, guess: Float[Array, "s n n"] | None = None
) -> State:
    """The linear layer, the energy and its gradient for the state's parameters on its grid."""
    orbitals, f = state.orbitals, state.orbitals.occupations
    grid = placed(problem.grid, orbitals.nuclei.coords, state.rotation)
    if system is None:
        system = system_on(orbitals, grid)
    guess = density_matrix(orbitals.C, f) if guess is None else guess
    solution = scf(system, problem.xc, occupations=f, guess=guess, tolerance=FIELD_TOLERANCE)
    orbitals = replace(orbitals, C=solution.mo_coeff[:, :, : f.shape[1]])
    energy, gradient = slope(orbitals, grid, problem.xc)
    levels = solution.mo_energy[:, : f.shape[1]]
    return replace(state, orbitals=orbitals, mo_energy=levels, energy=energy, gradient=gradient)


@jax.jit
def projected(
    grid: Quadrature, functions: System, system: System, solution: Solution
) -> Float[Array, "s n n"]:
    """The density matrix, in the functions, of another system's orbitals, by least squares on the grid."""
    slots = solution.occupations.shape[1]
    shells = all_shells(system.basis)
    index = ao_indices(system.basis, shells)
    rows = solution.mo_coeff[:, index, :slots]
    assert functions.grid is not None
    block = functions.grid.blocks[0]
    assert block.ao is not None

    def sphere(total: Array, each: tuple) -> tuple[Array, None]:
        points, weights, chi = each
        ao = ao_values(system.basis, system.coords, shells, points, order=0)[0]
        return total + jnp.einsum("cn,c,cm,smi->sni", chi, weights, ao, rows), None

    start = jnp.zeros((rows.shape[0], functions.overlap.shape[0], slots))
    right, _ = jax.lax.scan(sphere, start, (spheres(grid), block.weights, block.ao[:, 0]))
    S = functions.overlap
    C = jnp.linalg.solve(S + 1e-8 * jnp.eye(S.shape[0]), right)
    return density_matrix(C, solution.occupations)


def finish(problem: Problem, state: State) -> NeuralSolution:
    """The solution: energies on two grids that the network has not seen, the finer of which counts."""
    orbitals, (coarser, finer) = state.orbitals, problem.final
    rough, fine = (expectation(orbitals, grid, problem.xc) for grid in (coarser, finer))
    return NeuralSolution(
        energy=fine.total,
        energies=fine,
        energy_error=jnp.abs(fine.total - rough.total) + _asymmetry(orbitals, coarser),
        mo_coeff=orbitals.C,
        mo_energy=state.mo_energy,
        occupations=orbitals.occupations,
        parameters=orbitals.parameters,
        nuclei=orbitals.nuclei,
        grid=finer,
        converged=state.converged,
        residual=state.history.residual[-1],
        iterations=state.step,
        history=state.history,
        network=orbitals.network,
    )


def _recorded(state: State) -> State:
    """The state, with its energy and the norm of its gradient in the history."""
    residual = np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(state.gradient)))
    energies, residuals = state.history.energy, state.history.residual
    history = History(jnp.append(energies, state.energy), jnp.append(residuals, residual))
    return replace(state, history=history)


@jax.jit
def _asymmetry(orbitals: Orbitals, grid: Quadrature) -> Float[Array, ""]:
    """What the Coulomb operator lacks in symmetry for the orbitals' density, hartree."""
    psi = orbitals_on(orbitals, grid)[:, 0]
    rho = (psi**2 * orbitals.occupations.reshape(-1)).sum(-1)
    return asymmetry(grid, rho.reshape(grid.weights.shape))
