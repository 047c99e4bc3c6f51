"""The loss of a training step, from the energies and errors of molecules.

    L = w_E mean_r ((sum_i c_ri E_i - v_r) / unit)^2 + sum_t w_t mean_i error_t,i + sum_p w_p penalty_p

over the reactions r and the molecules i whose fields have converged; energies in kcal/mol. Its derivative is
sum_i (dL/dE_i) dE_i/dtheta and so on, from the derivatives of each molecule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Array, Float

from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.data import Reaction
from dqc.losses.one_electron import hydrogenic, one_electron
from dqc.names import nearest
from dqc.training.terms import TERMS, Term, stationarity
from dqc.xc.constraints import CONDITIONS, penalty
from dqc.xc.functional import Functional

Penalty = Callable[[Functional], Float[Array, ""]]


@dataclass(frozen=True)
class Loss:
    """What is minimised: the weight of each part. An error of 1 weighs like 1 kcal/mol of an energy.

    ``density`` (bohr^-3), ``dipole`` (debye), ``forces`` (eV/angstrom) and ``ionisation`` (eV, of the HOMO
    against minus the vertical ionisation energy) are errors of self-consistent fields against labels;
    ``stationarity`` (kcal/mol) is that of fixed fields against self-consistency. ``penalties`` are names,
    ``"one_electron"``, ``"recommended"`` or those of :data:`dqc.constraints.CONDITIONS`, or functions of the
    functional under names of their own; ``own`` are further errors of fields under names of their own, as
    functions (system, functional, field, None) -> error.
    """

    energy: float = 1.0
    density: float = 0.0
    dipole: float = 0.0
    forces: float = 0.0
    ionisation: float = 0.0
    stationarity: float = 0.0
    penalties: Mapping[str, float | tuple[float, Penalty]] = field(default_factory=dict)
    own: Mapping[str, tuple[float, Term]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights().items():
            if not (np.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {name} is {weight}: it should be zero or positive")
        for name, entry in self.penalties.items():
            if not isinstance(entry, tuple):
                _penalty(name)  # raises for a name that is none

    def weights(self) -> dict[str, float]:
        """The weight of every part."""
        named = {name: getattr(self, name) for name in ("energy", *TERMS, "stationarity")}
        own = {name: weight for name, (weight, _) in self.own.items()}
        penalties = {
            name: entry[0] if isinstance(entry, tuple) else entry for name, entry in self.penalties.items()
        }
        return named | own | penalties

    def labelled(self) -> tuple[str, ...]:
        """The labels that it compares with."""
        return tuple(name for name in TERMS if getattr(self, name))

    def terms(self, labels: Sequence[str], responding: bool) -> tuple[tuple[str, Term], ...]:
        """The errors of fields of molecules with these labels, self-consistent or fixed ones."""
        if not responding:
            return (("stationarity", stationarity),) if self.stationarity else ()
        own = tuple((name, term) for name, (weight, term) in self.own.items() if weight)
        return tuple((name, TERMS[name]) for name in self.labelled() if name in labels) + own

    def penalty_functions(self) -> dict[str, Penalty]:
        """The penalties, as functions of the functional."""
        entries = self.penalties.items()
        return {name: entry[1] if isinstance(entry, tuple) else _penalty(name) for name, entry in entries}


def _penalty(name: str) -> Penalty:
    if name == "one_electron":
        densities = [hydrogenic(1.0, shell) for shell in ("1s", "2s", "2p")]
        return partial(one_electron, densities=densities)
    if name != "recommended" and name not in CONDITIONS:
        known = ("one_electron", "recommended", *CONDITIONS)
        raise ValueError(f"no penalty {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return partial(penalty, names=name if name == "recommended" else (name,))


@dataclass(frozen=True)
class Table:
    """Reactions as a matrix over molecules."""

    names: tuple[str, ...]
    coefficients: Float[np.ndarray, "q a"]
    values: Float[np.ndarray, " q"]  # hartree

    @classmethod
    def of(cls, reactions: Sequence[Reaction], molecules: Sequence[str]) -> Table:
        """The reactions, over molecules in this order."""
        place = {name: k for k, name in enumerate(molecules)}
        matrix = np.zeros((len(reactions), len(molecules)))
        for row, reaction in zip(matrix, reactions, strict=True):
            for name, c in zip(reaction.molecules, reaction.coefficients, strict=True):
                row[place[name]] += c
        return cls(
            tuple(r.name for r in reactions), matrix, np.array([r.value for r in reactions], dtype=float)
        )

    def only(self, rows: np.ndarray) -> Table:
        """Some of the reactions."""
        return Table(tuple(self.names[k] for k in rows), self.coefficients[rows], self.values[rows])

    @property
    def molecules(self) -> np.ndarray:
        """The places of the molecules that are named."""
        return np.flatnonzero((self.coefficients != 0).any(0))

    def errors(self, energies: np.ndarray, usable: np.ndarray) -> np.ndarray:
        """sum_i c_ri E_i - v_r, kcal/mol, for any leading axes; NaN where an energy cannot be used."""
        safe = np.where(usable, energies, 0.0)
        errors = (safe @ self.coefficients.T - self.values) * HARTREE_IN_KCAL_PER_MOL
        return np.where(self.usable(usable), errors, np.nan)

    def usable(self, usable: np.ndarray) -> np.ndarray:
        """Which reactions have nothing but usable energies."""
        return (~usable).astype(float) @ (self.coefficients != 0).T.astype(float) == 0

    def loss(self, energies: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean square error in (kcal/mol)^2 over usable reactions, and its derivative by the energies.

        Without any such reaction the mean is NaN, and the derivative zero.
        """
        errors, count = self.errors(energies, usable), self.usable(usable).sum(-1)
        errors = np.where(np.isfinite(errors), errors, 0.0)
        divisor = np.maximum(count, 1)
        slope = 2.0 * HARTREE_IN_KCAL_PER_MOL * errors @ self.coefficients / divisor[..., None]
        return np.where(count > 0, (errors**2).sum(-1) / divisor, np.nan), slope


def mean_absolute(errors: np.ndarray) -> np.ndarray:
    """The mean over the reactions that have one; NaN where none has."""
    held = np.isfinite(errors)
    total = np.where(held, np.abs(errors), 0.0).sum(-1)
    return np.where(held.any(-1), total / np.maximum(held.sum(-1), 1), np.nan)
