"""``minimise``: the energy's minimum by descent, for neural orbitals and for LCAO coefficients alike."""

from __future__ import annotations

from typing import Any

import optax

from dqc.molecule import Molecule
from dqc.orbitals.neural import Neural
from dqc.orbitals.solution import NeuralSolution
from dqc.orbitals.training import descend, finish, prepare
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.xc.functional import Functional

STEPS = 60  # of a network
ITERATIONS = 500  # of LCAO coefficients
GRID = 2
OF_THE_START = ("occupations", "unrestricted", "moments", "guess")  # options of the SCF before the network
TOLERANCE = 5e-6  # hartree, fall of the energy in three steps of a network


def minimise(
    what: Molecule | System,
    xc: Functional,
    *,
    orbitals: Neural | None = None,
    grid: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    **field: Any,
) -> Solution | NeuralSolution:
    """Minimise E[{phi_i}], <phi_i|phi_j> = delta_ij, over the orbitals themselves.

    A ``Molecule`` comes with ``orbitals``, a network that is them (:class:`dqc.orbitals.Neural`): without a
    basis set the minimum tends to the complete-basis limit. Its first layers take at most ``steps`` steps
    (60) of Gauss and Newton, or of an ``optimizer`` of optax's, from parameters drawn with ``seed``, on
    quadratures of level ``grid`` (1 to 4; 2), and are converged when three steps change the energy by less
    than ``tolerance`` hartree (5e-6). The energy returned is that on a finer grid.

    A ``System`` comes without: its LCAO coefficients, after at most a dozen DIIS iterations on the coarse
    grid, are rotated by L-BFGS to a minimum near by, until the orbital gradient is
    below ``tolerance`` (1e-5), in at most ``steps`` evaluations (500); the result is that of
    :func:`dqc.scf`, differentiable in the same ways.

    ``field`` are further options of :func:`dqc.scf`: ``occupations``, ``unrestricted``, ``moments``,
    ``guess``. Raises ``ValueError`` for a ``Molecule`` without ``orbitals``, a ``System`` with ``orbitals``,
    ``grid`` or ``optimizer``, and elements beyond krypton.
    """
    if isinstance(what, System):
        if orbitals is not None or grid is not None or optimizer is not None:
            raise ValueError(
                "A System has its orbitals and grid already, and L-BFGS: leave out orbitals= and grid=, and "
                "optimizer=, or give the Molecule."
            )
        if tolerance is not None:
            field["tolerance"] = tolerance
        return scf(what, xc, direct=True, max_iterations=steps or ITERATIONS, **field)
    if not isinstance(what, Molecule):
        raise ValueError(f"{type(what).__name__} given, a Molecule or a System (dqc.build) is expected.")
    if not isinstance(orbitals, Neural):
        raise ValueError(
            "A Molecule needs orbitals=dqc.orbitals.Neural(...) to be minimised; for LCAO coefficients "
            "give a System (dqc.build)."
        )
    if unknown := sorted(set(field) - set(OF_THE_START)):
        raise ValueError(
            f"{', '.join(unknown)} cannot be given for neural orbitals, which take {', '.join(OF_THE_START)}."
        )
    steps = STEPS if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1.")
    grid = GRID if grid is None else grid
    problem, state = prepare(what, xc, orbitals, grid, seed, optimizer, **field)
    *_, state = descend(problem, state, steps, TOLERANCE if tolerance is None else tolerance)
    return finish(problem, state)
