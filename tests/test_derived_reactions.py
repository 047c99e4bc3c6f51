"""Reactions that follow from molecules: into atoms, with the charge on protons, and into ions."""

from __future__ import annotations

import pytest

from dqc.constants import ATOMIC_SPINS
from dqc.data.derived import atom, atomization, ionised, needed_atoms
from dqc.molecule import Molecule


def molecule(text: str, charge: int = 0, spin: int | None = None) -> Molecule:
    return Molecule.from_string(text, charge=charge, spin=spin)


WATER = "O 0 0 0; H 0.76 0 0.59; H -0.76 0 0.59"


def test_molecules_fall_into_atoms() -> None:
    given = {"water": molecule(WATER), "oxygen atom": atom("O"), "O2": molecule("O 0 0 0; O 0 0 1.2", spin=2)}
    assert set(needed_atoms(given)) == {"H"}
    everything = given | needed_atoms(given)
    assert atomization("water", everything) == {"water": -1, "H": 2, "oxygen atom": 1}
    assert atomization("O2", everything) == {"O2": -1, "oxygen atom": 2}
    assert atomization("H", everything) is None
    assert atomization("water", given) is None  # an atom is missing


def test_a_cation_loses_protons() -> None:
    given = {
        "water+": molecule(WATER, 1),
        "N2+": molecule("N 0 0 0; N 0 0 1.1", 1),
        "OH-": molecule("O 0 0 0; H 0 0 1", -1),
    }
    everything = given | needed_atoms(given)
    assert set(everything) - set(given) == {"H", "O"}
    assert atomization("water+", everything) == {"water+": -1, "H": 1, "O": 1}
    assert atomization("N2+", everything) is None
    assert atomization("OH-", everything) is None
    bare = {"H2+": molecule("H 0 0 0; H 0 0 1", 1), "H": atom("H")}
    assert atomization("H2+", bare) == {"H2+": -1, "H": 1}


@pytest.mark.parametrize(
    ("mol", "homo", "spin"),
    [
        (molecule(WATER), (-0.5, -0.5), 1),
        (atom("O"), (-0.7, -0.5), 3),
        (molecule("O 0 0 0; O 0 0 1.2", spin=2), (-0.5, -0.6), 1),
        (molecule("N 0 0 0; O 0 0 1.15"), (-0.4, -0.6), 0),
    ],
)
def test_an_ion_lacks_the_highest_electron(mol: Molecule, homo: tuple[float, float], spin: int) -> None:
    ion = ionised(mol, homo)
    assert (ion.charge, ion.spin, ion.symbols) == (1, spin, mol.symbols)
    assert ionised(atom("H"), (-0.5, -1e9)) is None


def test_atoms_are_in_their_ground_states() -> None:
    spins = {symbol: atom(symbol).spin for symbol in ATOMIC_SPINS}  # a wrong parity raises
    assert {s: spins[s] for s in ("H", "C", "N", "O", "Cr", "Mn", "Cu", "Pd", "I", "Xe")} == {
        "H": 1,
        "C": 2,
        "N": 3,
        "O": 2,
        "Cr": 6,
        "Mn": 5,
        "Cu": 1,
        "Pd": 0,
        "I": 1,
        "Xe": 0,
    }
    with pytest.raises(ValueError, match="spin of the atom U is not known"):
        atom("U")
