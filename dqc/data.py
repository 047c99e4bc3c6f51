"""Reference data: energies of reactions between molecules, read from files, checked, and split.

A reference is value = sum_i c_i E(molecule_i), electronic energies. The files are JSON in the format
``xcref-1`` and are the user's: none comes with the library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dqc.constants import ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from dqc.molecule import Molecule
from dqc.names import nearest
from dqc.paths import existing

FORMAT = "xcref-1"
_UNITS = {"hartree": 1.0, "kcal/mol": 1.0 / HARTREE_IN_KCAL_PER_MOL}
ALIKE = 0.1  # bohr: molecules whose distances between atoms differ by less tell of one another
EQUAL = 1e-3  # bohr: likewise, and are one molecule


@dataclass(frozen=True)
class Reaction:
    """An energy difference: names of molecules, their coefficients, and the reference value in hartree."""

    name: str
    molecules: tuple[str, ...]
    coefficients: tuple[float, ...]
    value: float


@dataclass(frozen=True)
class Reactions:
    """A set of reactions, and the molecules that they name."""

    name: str
    molecules: dict[str, Molecule] = field(repr=False)
    reactions: tuple[Reaction, ...] = field(repr=False)

    def only(self, reactions: Sequence[Reaction]) -> Reactions:
        """Some of the reactions, with the molecules that they need."""
        named = {name for reaction in reactions for name in reaction.molecules}
        kept = {name: molecule for name, molecule in self.molecules.items() if name in named}
        return replace(self, molecules=kept, reactions=tuple(reactions))


def read_reactions(path: str | Path) -> Reactions:
    """Read a file in the format ``xcref-1``: coordinates in angstrom, values in hartree or kcal/mol.

    Raises FileNotFoundError with the nearest names, and ValueError for a file in another format or unit, a
    molecule that cannot be (its charge, spin or atoms), and a reaction that names an unknown one, has not as
    many coefficients as molecules, or whose value is no finite number.
    """
    path = existing(path)
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise ValueError(f"{path} has the format {found!r}, and {FORMAT!r} is read")
    units = record.get("units", {})
    if units.get("coordinates") != "angstrom" or units.get("value") not in _UNITS:
        raise ValueError(
            f"{path} has the units {units}: coordinates in angstrom, values in {', '.join(_UNITS)}"
        )
    molecules = {name: _molecule(name, entry, path) for name, entry in record["systems"].items()}
    scale = _UNITS[units["value"]]
    reactions = tuple(_reaction(entry, molecules, scale, path) for entry in record["reactions"])
    return Reactions(str(record.get("set", path.stem)), molecules, reactions)


def _molecule(name: str, entry: dict[str, Any], path: Path) -> Molecule:
    try:
        coords = np.asarray(entry["coords"], float) * ANGSTROM
        return Molecule(entry["elements"], coords, entry["charge"], entry["mult"] - 1)
    except (ValueError, KeyError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}, molecule {name!r}: {what}") from None


def _reaction(entry: dict[str, Any], known: dict[str, Molecule], scale: float, path: Path) -> Reaction:
    where = f"{path}, reaction {entry.get('id')!r}"
    names, coefficients = tuple(entry["systems"]), tuple(float(c) for c in entry["coeffs"])
    for name in names:
        if name not in known:
            raise ValueError(f"{where} names an unknown molecule {name!r}{nearest(name, known)}")
    if len(names) != len(coefficients):
        raise ValueError(f"{where} has {len(names)} molecules and {len(coefficients)} coefficients")
    value = entry.get("value")
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{where} has the value {value!r}, which is no finite number")
    return Reaction(str(entry["id"]), names, coefficients, value * scale)


def same(a: Molecule, b: Molecule, tolerance: float = ALIKE) -> bool:
    """Whether formula, charge, spin and structure (distances between atoms, to a tolerance in bohr) agree."""
    if (a.formula, a.charge, a.spin) != (b.formula, b.charge, b.spin):
        return False
    return bool(np.abs(_distances(a) - _distances(b)).max(initial=0.0) < tolerance)


def _distances(molecule: Molecule) -> np.ndarray:
    """The distances between atoms, by pairs of elements and then by size, bohr."""
    rows = []
    for i, j in combinations(range(len(molecule.symbols)), 2):
        pair = sorted((molecule.numbers[i], molecule.numbers[j]))
        rows.append((*pair, float(np.linalg.norm(molecule.coords[i] - molecule.coords[j]))))
    return np.array([row[2] for row in sorted(rows)])


def duplicates(data: Reactions) -> list[tuple[str, str]]:
    """Pairs of names that stand for one molecule."""
    items = list(data.molecules.items())
    return [(a, b) for (a, x), (b, y) in combinations(items, 2) if same(x, y, EQUAL)]


def split(data: Reactions, shares: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> tuple[Reactions, ...]:
    """Parts of the reactions, of about these shares, no two of which have a molecule in common.

    Single atoms may be in several parts, since every atomization energy needs them; any other molecule, by
    formula and structure, binds its reactions together. Raises ``ValueError`` for shares that are not
    positive or do not add up to 1.
    """
    if any(share <= 0 for share in shares) or abs(sum(shares) - 1.0) > 1e-9:
        raise ValueError(f"shares={tuple(shares)} should be positive numbers that add up to 1")
    groups = _bound_together(data)
    order = np.random.default_rng(seed).permutation(len(groups))
    parts: list[list[Reaction]] = [[] for _ in shares]
    for index in order:  # each goes where most is missing
        missing = [share * len(data.reactions) - len(part) for share, part in zip(shares, parts, strict=True)]
        parts[int(np.argmax(missing))] += groups[index]
    return tuple(data.only(part) for part in parts)


def _bound_together(data: Reactions) -> list[list[Reaction]]:
    """The reactions in groups that have no molecule in common, single atoms left out."""
    first: dict[str, str] = {}  # of each molecule the first name that it goes by
    for name, molecule in data.molecules.items():
        first[name] = next((other for other in first.values() if same(data.molecules[other], molecule)), name)
    groups: list[tuple[set[str], list[Reaction]]] = []
    for reaction in data.reactions:
        names = {first[name] for name in reaction.molecules if len(data.molecules[name].symbols) > 1}
        bound = [group for group in groups if group[0] & names]
        apart = [group for group in groups if not group[0] & names]
        reactions = [r for _, members in bound for r in members]
        groups = [*apart, (names.union(*(held for held, _ in bound)), [*reactions, reaction])]
    return [reactions for _, reactions in groups]
