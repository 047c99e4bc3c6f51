"""What the commands share: options handed on to the library, and files to be written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dqc.molecule import Molecule
from dqc.paths import replacing
from dqc.system import System

_BUILD = ("basis", "grid", "two_electron", "auxbasis", "ao")
_SCF = ("guess", "smearing", "level_shift", "damping", "max_iterations", "tolerance", "unrestricted")


def build_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of ``build``."""
    return {name: getattr(arguments, name) for name in _BUILD}


def scf_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of ``scf`` that were given."""
    given = {name: getattr(arguments, name) for name in _SCF}
    return {name: value for name, value in given.items() if value is not None}


def title(molecule: Molecule, system: System, arguments: argparse.Namespace) -> str:
    """The first line of every report."""
    method = f"{arguments.xc}/{arguments.basis}, charge {molecule.charge}, spin {molecule.spin}"
    return f"{molecule.formula}, {method}, {system.overlap.shape[0]} basis functions"


def check_writable(*paths: str | None) -> None:
    """Refuse an output in a folder that is not there before the work, not after it."""
    for path in paths:
        if path and not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"cannot write {path}: there is no folder {Path(path).absolute().parent}")
        if path and Path(path).is_dir():
            raise IsADirectoryError(f"cannot write {path}: it is a folder")


def write_text(path: Path, text: str) -> None:
    """Write a file in one step."""
    with replacing(path) as partial:
        partial.write_text(text)
