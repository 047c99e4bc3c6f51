"""A file that grows by a JSON line for every finished molecule, so that an interruption loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dqc.molecule import Molecule


class Journal:
    """Results by molecule and level; what is in the file already is found again.

    A record belongs to a molecule (elements, charge, spin, coordinates to the bit) at a level, so that a
    change of either computes anew. A last line that was cut off is dropped. Raises
    ``ValueError`` for a file with other damage.
    """

    def __init__(self, path: Path, resume: bool = True) -> None:
        self.path = path
        self._found: dict[str, dict[str, Any]] = {}
        whole = ""
        if resume and path.exists():
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1]
            try:
                records = [json.loads(line) for line in whole.splitlines()]
                self._found = {record["key"]: record["result"] for record in records}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is damaged ({error}): remove it, or give --no-resume") from None
        if not resume or (path.exists() and path.read_text() != whole):
            path.write_text(whole)

    def find(self, molecule: Molecule, level: str) -> dict[str, Any] | None:
        """The result of a molecule at a level, or None."""
        return self._found.get(_key(molecule, level))

    def add(self, name: str, molecule: Molecule, level: str, result: dict[str, Any]) -> None:
        """Keep a result, on the disk before this returns."""
        key = _key(molecule, level)
        self._found[key] = result
        with self.path.open("a") as file:
            file.write(json.dumps({"name": name, "key": key, "result": result}) + "\n")


def _key(molecule: Molecule, level: str) -> str:
    coords = " ".join(float(x).hex() for x in molecule.coords.ravel())
    return f"{level}; {' '.join(molecule.symbols)}; {molecule.charge} {molecule.spin}; {coords}"
