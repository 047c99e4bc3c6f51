"""Data sets as extended xyz, the exchange format of machine-learned potentials, read through ASE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import dqc.interop.ase  # says which extra is missing where there is no ASE  # noqa: F401
from dqc.constants import ANGSTROM, BOHR_IN_ANGSTROM, HARTREE_IN_EV
from dqc.data.sets import Labels, Reaction, Reactions
from dqc.molecule import Molecule


def read_frames(path: Path) -> Reactions:
    """Every frame of an extended xyz file as a molecule with labels; see :func:`dqc.data.read`."""
    from ase.io import read as read_ase

    try:
        frames = read_ase(path, ":", format="extxyz")
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ValueError(f"{path} cannot be read as extended xyz: {error}") from None
    molecules: dict[str, Molecule] = {}
    labels: dict[str, Labels] = {}
    for number, atoms in enumerate(frames, start=1):
        try:
            molecule = _molecule(atoms)
            name = str(atoms.info.get("name", f"{molecule.formula} {number}"))
            if name in molecules:
                raise ValueError(f"its name {name!r} is that of an earlier frame: give another, or none")
            molecules[name], labels[name] = molecule, _labels(atoms)
        except ValueError as error:
            raise ValueError(f"{path}, frame {number}: {error}") from None
    reactions = tuple(
        Reaction(name, (name,), (1.0,), known.energy)
        for name, known in labels.items()
        if known.energy is not None
    )
    labels = {name: known for name, known in labels.items() if known.known}
    return Reactions(path.stem, molecules, reactions, labels)


def _molecule(atoms: Any) -> Molecule:
    multiplicity = atoms.info.get("multiplicity")
    if multiplicity is None:
        return Molecule.from_ase(atoms)
    spin = int(multiplicity) - 1
    if atoms.info.get("spin", spin) != spin:
        raise ValueError(
            f"spin={atoms.info['spin']} (2S) and multiplicity={multiplicity} (2S + 1) contradict: give one"
        )
    return Molecule.from_ase(atoms, spin=spin)


def _labels(atoms: Any) -> Labels:
    """From eV, eV/angstrom and e angstrom."""
    found = {} if atoms.calc is None else atoms.calc.results
    given: dict[str, Any] = {}
    if "energy" in found:
        given["energy"] = float(found["energy"]) / HARTREE_IN_EV
    if "forces" in found:
        given["forces"] = np.asarray(found["forces"]) * (BOHR_IN_ANGSTROM / HARTREE_IN_EV)
    if "dipole" in found:
        given["dipole"] = np.asarray(found["dipole"]) * ANGSTROM
    return Labels(**given)
