"""Reference data: energies of reactions and properties of molecules, read from files, checked, and split.

A reference is value = sum_i c_i E(molecule_i), electronic energies. Files are JSON, format ``xcref-1``::

    {"format": "xcref-1", "set": short name, "title": one line, "reference_level": ..., "definition": ...,
     "units": {"coordinates": "angstrom", "value": "hartree" or "kcal/mol"},
     "systems":   {name: {"charge": q, "mult": 2S + 1, "elements": [...], "coords": [[x, y, z], ...],
                          "labels": {...}}},
     "reactions": [{"id": name, "systems": [names], "coeffs": [c_i], "value": v}, ...]}

``labels`` is optional, and so is each of its entries. They are in atomic units, whatever ``units`` says:

- ``energy``: the total electronic energy, hartree;
- ``dipole``: three components, e bohr, about the origin;
- ``forces``: three components an atom, hartree/bohr;
- ``ionisation``: the vertical ionisation energy, hartree, positive;
- ``density``: ``{"file": F, "basis": B}``, with F a safetensors file beside the JSON that holds, under the
  name of the molecule, P_spq for p >= q by rows, of shape (s, n (n + 1)/2): s = 2, alpha and beta, or s = 1
  where both are equal (then one of them); the orbitals are PySCF's in the basis named B.

Other keys are kept where they describe the whole set, and not read elsewhere.
"""

from __future__ import annotations

from dqc.data.checks import ALIKE, EQUAL, check, duplicates, same, shared, split
from dqc.data.files import read, write
from dqc.data.sets import Density, Labels, Reaction, Reactions, joined

__all__ = [
    "ALIKE",
    "EQUAL",
    "Density",
    "Labels",
    "Reaction",
    "Reactions",
    "check",
    "duplicates",
    "joined",
    "read",
    "same",
    "shared",
    "split",
    "write",
]
