"""The xyz format as text: a count, a comment, and one line of symbol and position an atom."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from dqc.constants import NUMBERS, SYMBOLS
from dqc.names import nearest

Atom = tuple[str, tuple[float, float, float]]


class Geometry(NamedTuple):
    """What an xyz text says; positions as written, in the text's own unit."""

    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    charge: int | None = None
    spin: int | None = None


def parse_xyz(text: str, source: str) -> Geometry:
    """Read one geometry; ``charge=`` and ``spin=`` in the comment line are honoured.

    An extended-xyz ``Properties=`` entry may put the species and the position in other columns.
    ``source`` is how error messages call the text. Raises ValueError with the line at fault.
    """
    lines = text.splitlines()
    if not text.strip():
        raise ValueError(f"{source} is empty: an xyz file has a count, a comment line and one line an atom")
    count = _count(lines[0], source)
    comment = lines[1] if len(lines) > 1 else ""
    body = list(_filled(lines[2:]))
    if len(body) != count:
        hint = _second_frame(body, count)
        raise ValueError(
            f"{source}, line 1 says {count} atoms, but {len(body)} lines follow the comment{hint}"
        )
    species, position = _columns(comment, source)
    atoms = [parse_atom(line, f"{source}, line {number}", species, position) for number, line in body]
    symbols, positions = zip(*atoms, strict=True)
    return Geometry(symbols, positions, *(_attribute(comment, name, source) for name in ("charge", "spin")))


def parse_inline(text: str) -> Geometry:
    """Read atoms separated by ``;`` or line ends, ``"O 0 0 0; H 0 0 1.8"``. Raises ValueError."""
    entries = [entry for entry in re.split(r"[;\n]", text) if entry.strip()]
    if not entries:
        raise ValueError("the molecule is empty: write atoms as 'O 0 0 0; H 0 0.76 0.59; H 0 -0.76 0.59'")
    atoms = [parse_atom(entry, f"atom {number}") for number, entry in enumerate(entries, start=1)]
    symbols, positions = zip(*atoms, strict=True)
    return Geometry(symbols, positions)


def parse_atom(line: str, where: str, species: int = 0, position: int = 1) -> Atom:
    """Read one atom from a line whose words are separated by blanks or commas."""
    words = line.replace(",", " ").split()
    if len(words) < max(species + 1, position + 3):
        raise ValueError(f"{where}: {line.strip()!r} should be an element and three coordinates, x y z")
    symbol = element(words[species], where)
    x, y, z = (_coordinate(word, symbol, where) for word in words[position : position + 3])
    return symbol, (x, y, z)


def element(name: str, where: str) -> str:
    """The chemical symbol for a symbol in any case or an atomic number. Raises ValueError."""
    if name.isdecimal() and 0 < int(name) <= len(SYMBOLS):
        return SYMBOLS[int(name) - 1]
    symbol = name.capitalize()
    if symbol not in NUMBERS:
        raise ValueError(f"{where}: unknown element {name!r}{nearest(name, SYMBOLS)}")
    return symbol


def _count(line: str, source: str) -> int:
    if not line.strip().isdecimal() or int(line) == 0:
        raise ValueError(
            f"{source}, line 1: {line.strip()!r} should be the number of atoms, a positive integer"
        )
    return int(line)


def _filled(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines of atoms with their numbers in the file; blank lines at the end do not count."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return ((number, line) for number, line in enumerate(lines, start=3))


def _second_frame(body: list[tuple[int, str]], count: int) -> str:
    if len(body) > count and body[count][1].strip().isdecimal():
        return "; it seems to hold several geometries, give one"
    return ""


def _columns(comment: str, source: str) -> tuple[int, int]:
    """Columns where the species and the position begin."""
    found = re.search(r"\bProperties=(\S+)", comment, re.IGNORECASE)
    if not found:
        return 0, 1
    fields = found.group(1).strip("\"'").split(":")
    starts, column = {}, 0
    for name, _, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        starts[name] = column
        column += int(width) if width.isdecimal() else 1
    if not {"species", "pos"} <= starts.keys():
        raise ValueError(f"{source}, line 2: Properties names no species or no pos: {found.group(1)}")
    return starts["species"], starts["pos"]


def _attribute(comment: str, name: str, source: str) -> int | None:
    """The integer of ``name=...`` in a comment line."""
    found = re.search(rf"(?<![\w-]){name}\s*=\s*[\"']?([^\s\"',;]+)", comment, re.IGNORECASE)
    if not found:
        return None
    try:
        value = float(found.group(1))
    except ValueError:
        value = math.nan
    if not value.is_integer():
        raise ValueError(f"{source}, line 2: {name}={found.group(1)} should be an integer")
    return int(value)


def _coordinate(word: str, symbol: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: coordinate {word!r} of {symbol} should be a finite number")
    return value
