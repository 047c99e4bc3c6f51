"""Errors of functionals on a data set, by self-consistent energies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.data.journal import Journal
from dqc.data.sets import Reactions
from dqc.training.molecules import Molecules
from dqc.training.objective import Table
from dqc.training.result import fingerprint, stacked
from dqc.training.systems import prepare
from dqc.xc.functional import Functional


@dataclass(frozen=True)
class Evaluation:
    """Errors of reaction energies, of each member of an ensemble or of one functional, kcal/mol."""

    names: tuple[str, ...]
    values: Float[np.ndarray, " q"] = field(repr=False)  # the reference
    each: Float[np.ndarray, "*b"] = field(repr=False)  # (members, reactions); NaN where a field failed
    failed: tuple[str, ...]  # molecules without a converged field

    @property
    def errors(self) -> Float[np.ndarray, " q"]:
        """Of the mean over the members."""
        return self.each.mean(0)

    @property
    def spread(self) -> Float[np.ndarray, " q"]:
        """The standard deviation over the members: an estimate of the uncertainty."""
        return self.each.std(0)

    def _present(self) -> np.ndarray:
        found = self.errors[np.isfinite(self.errors)]
        return found if len(found) else np.full(1, np.nan)

    @property
    def mean(self) -> float:
        """The mean signed error, over the reactions that have one."""
        return float(self._present().mean())

    @property
    def mae(self) -> float:
        """The mean absolute error."""
        return float(np.abs(self._present()).mean())

    @property
    def rmse(self) -> float:
        """The root of the mean square error."""
        return float(np.sqrt((self._present() ** 2).mean()))

    @property
    def worst(self) -> tuple[str, float]:
        """The reaction with the largest error, and that."""
        at = int(np.argmax(np.where(np.isfinite(self.errors), np.abs(self.errors), -1.0)))
        return self.names[at], float(self.errors[at])


def evaluate(
    xc: Functional | Sequence[Functional],
    data: Reactions,
    *,
    journal: Journal | None = None,
    scf: dict[str, Any] | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    **build: Any,
) -> Evaluation:
    """The errors of a functional, or of the mean of an ensemble, on the reactions of a data set.

    Options are those of :func:`dqc.train`. Energies that the ``journal`` holds are not computed again.
    """
    members = list(xc) if isinstance(xc, Sequence) else [xc]
    level = json.dumps([fingerprint(members), sorted(build.items()), sorted((scf or {}).items())])
    energies: dict[str, list[float]] = {}
    for name, molecule in data.molecules.items():
        found = journal and journal.find(molecule, level)
        if found:
            energies[name] = found["energies"]
    missing = {name: m for name, m in data.molecules.items() if name not in energies}
    if missing:
        prepared = prepare(missing, members[0], **build)
        molecules = Molecules(prepared, len(members), tuple(sorted((scf or {}).items())))
        xcs = stacked(members)
        for index, chunk in enumerate(progress(prepared.chunks)):
            field = molecules.solved(xcs, index, None)
            usable = np.where(np.asarray(field.converged), np.asarray(field.energy), np.nan)
            for lane, name in enumerate(chunk.names):
                energies[name] = usable[:, lane].tolist()
                if journal:
                    journal.add(name, missing[name], level, {"energies": energies[name]})
    names = tuple(data.molecules)
    values = np.array([energies[name] for name in names]).T
    table = Table.of(data.reactions, names)
    usable = np.isfinite(values)
    return Evaluation(
        names=table.names,
        values=table.values * HARTREE_IN_KCAL_PER_MOL,
        each=table.errors(values, usable),
        failed=tuple(names[k] for k in np.flatnonzero(~usable.all(0))),
    )
