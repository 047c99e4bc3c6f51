"""What the tests of trainings share: H2 in a small basis, compiled once for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax

import dqc
from dqc.data import Labels, Reaction, Reactions
from dqc.training import Loss, Stage, train
from dqc.training.result import Trained

# Two functions an atom, so that fields follow the functional.
SYSTEM: dict[str, Any] = {"basis": "6-31g", "grid": 0}
SCF = {"tolerance": 1e-9}
BONDS = {"H2": (1.4, -1.1745), "H2 far": (2.0, -1.1381), "H2 near": (1.1, -1.1501)}  # bohr, hartree


def bond(length: float) -> dqc.Molecule:
    return dqc.Molecule(["H", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, length]])


def hydrogen(*names: str, labels: dict[str, Labels] | None = None) -> Reactions:
    """The energies of H2 at these bond lengths, at all by default; they are of one shape."""
    chosen = names or tuple(BONDS)
    molecules = {name: bond(BONDS[name][0]) for name in chosen}
    reactions = tuple(Reaction(name, (name,), (1.0,), BONDS[name][1]) for name in chosen)
    return Reactions("hydrogen", molecules, reactions, labels or {})


def with_atom(data: Reactions) -> Reactions:
    """The same, and the energy of an atom, which is of a shape of its own."""
    atom = dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    reactions = (*data.reactions, Reaction("H", ("H",), (1.0,), -0.5))
    return replace(data, molecules=data.molecules | {"H": atom}, reactions=reactions)


def small(seed: int = 0) -> dqc.Functional:
    return dqc.neural("lda,pw", constraints=(), hidden=(4,), seed=seed)


def bent(seed: int = 0, xc: dqc.Functional | None = None, size: float = 0.1) -> dqc.Functional:
    """A functional that is not its parent any more: no gradient is zero by the start of its networks."""
    xc, rng = xc or small(seed), np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + size * rng.normal(size=x.shape), xc)


def trained(xc: Any, data: Reactions, stages: Any, loss: Loss | None = None, **options: Any) -> Trained:
    stages = [stages] if isinstance(stages, Stage) else stages
    return train(xc, data, stages, loss, **({"scf": SCF, "progress": False} | SYSTEM | options))


def flat(xc: Any) -> np.ndarray:
    """All parameters in a row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(xc)])


RATE = 1e-6  # gradients are in the thousands here


def descent(kind: str, epochs: int = 1, rate: float = RATE, **options: Any) -> Stage:
    """Plain gradient descent: the parameters move along the gradient, and tell it."""
    return Stage(kind, epochs, optimizer=optax.sgd(rate), **options)  # type: ignore[arg-type]


def gradient(xc: dqc.Functional, data: Reactions, kind: str, *loss: Loss, **options: Any) -> np.ndarray:
    """The gradient of one step of a training."""
    moved = trained(xc, data, descent(kind), *loss, **options).functional
    return (flat(xc) - flat(moved)) / RATE
