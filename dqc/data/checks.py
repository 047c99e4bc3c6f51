"""Whether molecules are the same, what is odd about a data set, and splits of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dqc.constants import ATOMIC_SPINS
from dqc.data.sets import Reaction, Reactions
from dqc.molecule import Molecule

ALIKE = 0.1  # bohr: molecules whose distances between atoms differ by less tell of one another
EQUAL = 1e-3  # bohr: likewise, and are one molecule


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


def shared(a: Reactions, b: Reactions) -> list[str]:
    """The names in ``a`` of molecules (no single atoms) that ``b`` has too, by formula and structure."""
    return [
        name
        for name, x in a.molecules.items()
        if len(x.symbols) > 1 and any(same(x, y) for y in b.molecules.values())
    ]


def check(data: Reactions) -> list[str]:
    """What may be a mistake, a sentence each; nothing to say is an empty list.

    Molecules that are there twice, neutral atoms whose spin is not that of their ground state, and reactions
    whose elements or charges do not balance (by design where bare protons, of energy zero, are left out).
    """
    return [*_twice(data), *_excited_atoms(data), *_unbalanced(data)]


def _twice(data: Reactions) -> Iterator[str]:
    for a, b in duplicates(data):
        yield f"molecules {a!r} and {b!r} are the same: give one name to both"


def _excited_atoms(data: Reactions) -> Iterator[str]:
    for name, molecule in data.molecules.items():
        ground = ATOMIC_SPINS.get(molecule.symbols[0])
        if len(molecule.symbols) > 1 or molecule.charge or ground in (None, molecule.spin):
            continue
        yield f"molecule {name!r} is an atom with spin={molecule.spin}, and its ground state has {ground}"


def _unbalanced(data: Reactions) -> Iterator[str]:
    for reaction in data.reactions:
        elements: Counter[str] = Counter()
        charge = 0.0
        for name, c in zip(reaction.molecules, reaction.coefficients, strict=True):
            molecule = data.molecules[name]
            charge += c * molecule.charge
            for symbol in molecule.symbols:
                elements[symbol] += c  # type: ignore[assignment]  # coefficients may be fractions
        left = {symbol: n for symbol, n in elements.items() if abs(n) > 1e-9}
        if len(reaction.molecules) > 1 and (left or abs(charge) > 1e-9):
            found = ", ".join([f"{n:+g} {symbol}" for symbol, n in left.items()] or ["all elements balanced"])
            yield f"reaction {reaction.name!r} does not balance: {found}, charge {charge:+g}"


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
