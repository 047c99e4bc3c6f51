"""What a training ends with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from dqc.storage import save
from dqc.training.anchor import FISHER, FUNCTIONAL
from dqc.training.objective import mean_absolute
from dqc.xc.files import described
from dqc.xc.functional import Functional


@dataclass(frozen=True)
class Errors:
    """Errors of self-consistent reaction energies before and after, kcal/mol; NaN where a field failed."""

    names: tuple[str, ...]
    values: Float[np.ndarray, " q"] = field(repr=False)  # the reference, kcal/mol
    before: Float[np.ndarray, "*b"] = field(repr=False)  # (members, reactions)
    after: Float[np.ndarray, "*b"] = field(repr=False)

    @property
    def mae(self) -> tuple[float, float]:
        """Mean absolute errors before and after, of all members."""
        return float(mean_absolute(self.before).mean()), float(mean_absolute(self.after).mean())


@dataclass(frozen=True)
class Trained:
    """The trained functionals, one for each member, and how they came about."""

    functionals: tuple[Functional, ...]
    errors: dict[str, Errors]  # of "train" and, where there are any, "validation" and "test"
    history: list[dict[str, Any]] = field(repr=False)  # a record for each epoch
    fisher: Functional = field(repr=False)  # of the first member: see :func:`dqc.training.anchor`

    def save(self, directory: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Write functional.safetensors (and functional-1... of further members), and the Fisher information.

        With each functional goes a record: what this is ``about``, the epochs, and the mean absolute errors.
        """
        folder = Path(directory)
        record = dict(about or {}) | {
            "epochs": len(self.history),
            "mean absolute errors before and after, kcal/mol": {k: e.mae for k, e in self.errors.items()},
        }
        save(self.fisher, folder / FISHER, record)
        for number, xc in enumerate(self.functionals):
            name = FUNCTIONAL if number == 0 else f"{Path(FUNCTIONAL).stem}-{number}{Path(FUNCTIONAL).suffix}"
            save(xc, folder / name, record)

    @property
    def functional(self) -> Functional:
        """The trained functional; of an ensemble the first."""
        return self.functionals[0]

    @property
    def failed(self) -> dict[str, int]:
        """In how many epochs the field of a molecule did not converge, by its name."""
        counts: dict[str, int] = {}
        for record in self.history:
            for name in record["failed"]:
                counts[name] = counts.get(name, 0) + 1
        return counts


def stacked(members: Sequence[Functional]) -> Functional:
    """Functionals of one structure as one, with a leading axis on every leaf.

    Raises ``ValueError`` where their structures differ.
    """
    forms = [(jax.tree.structure(xc), [np.shape(x) for x in jax.tree.leaves(xc)]) for xc in members]
    if any(form != forms[0] for form in forms):
        raise ValueError("the members of an ensemble differ in more than their parameters")
    stack: Functional = jax.tree.map(lambda *x: jax.numpy.stack(x), *members)
    return stack


def fingerprint(members: Sequence[Functional]) -> str:
    """A digest of functionals and of all their parameters."""
    leaves = [np.asarray(x).tolist() for x in jax.tree.leaves(list(members))]
    text = json.dumps([[described(xc) for xc in members], leaves])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unstacked(xcs: Functional) -> tuple[Functional, ...]:
    """The members."""
    count = jax.tree.leaves(xcs)[0].shape[0]
    return tuple(jax.tree.map(lambda x, k=k: x[k], xcs) for k in range(count))
