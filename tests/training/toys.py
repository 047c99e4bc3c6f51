"""What the tests of trainings share: hydrogen in a small basis, compiled once for all of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

import dqc
from dqc.data import Labels, Reaction, Reactions
from dqc.training import Loss, Stage, train
from dqc.training.result import Trained

# Two functions an atom, so that fields follow the functional; one program for atoms, one for molecules.
SYSTEM: dict[str, Any] = {"basis": "6-31g", "grid": 0}
SCF = {"tolerance": 1e-9}
DEPTHS = {"H2": (1.4, 0.1745), "H2 far": (2.0, 0.134), "H2 near": (1.1, 0.146)}  # bohr, hartree


def atom() -> dqc.Molecule:
    return dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)


def bond(length: float) -> dqc.Molecule:
    return dqc.Molecule(["H", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, length]])


def hydrogen(*names: str, labels: dict[str, Labels] | None = None) -> Reactions:
    """The atomization energies of H2 at these bond lengths, of all by default."""
    chosen = names or tuple(DEPTHS)
    molecules = {"H": atom()} | {name: bond(DEPTHS[name][0]) for name in chosen}
    reactions = tuple(Reaction(name, (name, "H"), (-1.0, 2.0), DEPTHS[name][1]) for name in chosen)
    return Reactions("hydrogen", molecules, reactions, labels or {})


def small(seed: int = 0) -> dqc.Functional:
    return dqc.neural("pbe", hidden=(4,), seed=seed)


def bent(seed: int = 0, size: float = 0.3) -> dqc.Functional:
    """A functional that is not its parent any more: no gradient is zero by the start of its networks."""
    xc, rng = small(seed), np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + size * rng.normal(size=x.shape), xc)


def trained(xc: Any, data: Reactions, stages: Any, loss: Loss | None = None, **options: Any) -> Trained:
    stages = [stages] if isinstance(stages, Stage) else stages
    return train(xc, data, stages, loss, **({"scf": SCF, "progress": False} | SYSTEM | options))


def flat(xc: Any) -> np.ndarray:
    """All parameters in a row."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(xc)])


def descent(kind: str, epochs: int = 1, rate: float = 1.0, **options: Any) -> Stage:
    """Plain gradient descent: the parameters move by minus the gradient, and tell it."""
    return Stage(kind, epochs, optimizer=optax.sgd(rate), **options)  # type: ignore[arg-type]


def gradient(
    xc: dqc.Functional, data: Reactions, kind: str, loss: Loss | None = None, **options: Any
) -> np.ndarray:
    """The gradient of one step of a training."""
    return flat(xc) - flat(trained(xc, data, descent(kind), loss, **options).functional)
