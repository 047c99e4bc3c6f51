"""Reactions that follow from molecules: into atoms, and into an ion and an electron."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dqc.constants import ATOMIC_SPINS
from dqc.data.checks import EQUAL, same
from dqc.molecule import Molecule

Balance = dict[str, float]  # coefficients by the name of the molecule


def atom(symbol: str) -> Molecule:
    """The neutral atom in its ground state, hydrogen to xenon; raises ``ValueError`` beyond."""
    if symbol not in ATOMIC_SPINS:
        raise ValueError(f"the spin of the atom {symbol} is not known here, only of H to Xe: leave it out")
    return Molecule([symbol], [[0.0, 0.0, 0.0]], spin=ATOMIC_SPINS[symbol])


def needed_atoms(molecules: Mapping[str, Molecule]) -> dict[str, Molecule]:
    """The atoms that atomization energies of molecules need, those left out that are among them."""
    known = list(molecules.values())
    symbols = {symbol for molecule in known for symbol in atoms_of(molecule) or ()}
    return {s: atom(s) for s in sorted(symbols) if not any(same(atom(s), m, EQUAL) for m in known)}


def atoms_of(molecule: Molecule) -> Counter[str] | None:
    """How many of each neutral atom a molecule falls into, or None where that is not defined.

    A cation loses as many bare protons, of energy zero, as it has charges: it needs as many hydrogens.
    """
    count = Counter(molecule.symbols)
    if len(molecule.symbols) == 1 or not 0 <= molecule.charge <= count["H"]:
        return None
    count["H"] -= molecule.charge
    return +count


def atomization(name: str, molecules: Mapping[str, Molecule]) -> Balance | None:
    """Minus one of the molecule and its atoms, or None where that is not defined or an atom is missing."""
    count = atoms_of(molecules[name])
    if count is None:
        return None
    balance: Balance = {name: -1.0}
    for symbol, n in sorted(count.items()):
        named = next((k for k, m in molecules.items() if same(m, atom(symbol), EQUAL)), None)
        if named is None:
            return None
        balance[named] = float(n)
    return balance


def ionised(molecule: Molecule, homo: tuple[float, float]) -> Molecule | None:
    """The molecule less an electron of the higher of its highest levels, alpha or beta; None for a proton."""
    if molecule.n_electrons == 1:
        return None
    spin = abs(molecule.spin - 1) if homo[0] >= homo[1] else molecule.spin + 1
    return Molecule(molecule.symbols, molecule.coords, molecule.charge + 1, spin)
