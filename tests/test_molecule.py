"""The molecule: what it reads, what it refuses, and with which sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dqc.constants import BOHR_IN_ANGSTROM, SYMBOLS
from dqc.molecule import Molecule
from dqc.xyz import parse_xyz

WATER = """3
{comment}
O 0.0 0.0 0.1173
H 0.0 0.7572 -0.4692
H 0.0 -0.7572 -0.4692
"""


def write(folder: Path, text: str, name: str = "molecule.xyz") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def water(folder: Path, comment: str = "") -> Path:
    return write(folder, WATER.format(comment=comment))


def test_from_xyz_reads_angstrom(tmp_path: Path) -> None:
    mol = Molecule.from_xyz(water(tmp_path), charge=0, spin=0)
    assert mol.symbols == ("O", "H", "H")
    assert mol.numbers == (8, 1, 1)
    assert (mol.charge, mol.spin, mol.n_electrons, mol.formula) == (0, 0, 10, "H2O")
    np.testing.assert_allclose(mol.coords[1], np.array([0, 0.7572, -0.4692]) / BOHR_IN_ANGSTROM, rtol=1e-15)


@pytest.mark.parametrize(
    "comment", ["charge=-1 spin=1", "Charge = -1, SPIN=1", "name='x' charge='-1' spin=\"1\""]
)
def test_the_comment_sets_charge_and_spin(tmp_path: Path, comment: str) -> None:
    mol = Molecule.from_xyz(water(tmp_path, comment))
    assert (mol.charge, mol.spin) == (-1, 1)


def test_an_argument_overrules_the_comment(tmp_path: Path) -> None:
    mol = Molecule.from_xyz(water(tmp_path, "charge=-1 spin=1"), charge=1, spin=3)
    assert (mol.charge, mol.spin) == (1, 3)


def test_other_words_that_end_in_charge_are_not_the_charge(tmp_path: Path) -> None:
    assert Molecule.from_xyz(water(tmp_path, "total_charge=3 initial-charge=2")).charge == 0


def test_extended_xyz_columns(tmp_path: Path) -> None:
    text = "2\nProperties=id:I:1:pos:R:3:species:S:1:forces:R:3\n7 0 0 0 H 9 9 9\n8 0 0 0.74 F 9 9 9\n"
    mol = Molecule.from_xyz(write(tmp_path, text))
    assert mol.symbols == ("H", "F")
    np.testing.assert_allclose(mol.coords[1] * BOHR_IN_ANGSTROM, [0, 0, 0.74], rtol=1e-15)


@pytest.mark.parametrize(
    ("charge", "spin", "expected"),
    [(0, None, 0), (1, None, 1), (-1, None, 1), (0, 2, 2), (1, 3, 3), (9, 1, 1)],
)
def test_spin_defaults_to_the_lowest_by_parity(charge: int, spin: int | None, expected: int) -> None:
    mol = Molecule.from_string("O 0 0 0; H 0 0 1; H 0 1 0", charge=charge, spin=spin)
    assert mol.spin == expected


def test_from_string_takes_units_separators_case_and_numbers() -> None:
    mol = Molecule.from_string("o, 0, 0, 0\n 1 0 0 1.8;; cL 0 1.5 0 ; ", unit="bohr", spin=0)
    assert mol.symbols == ("O", "H", "Cl")
    np.testing.assert_array_equal(mol.coords, [[0, 0, 0], [0, 0, 1.8], [0, 1.5, 0]])


def test_from_pyscf_keeps_bohr_charge_and_spin() -> None:
    gto = pytest.importorskip("pyscf.gto")
    pyscf_mol = gto.M(
        atom="Ag 0 0 0; H 0 0 3.06", unit="bohr", charge=1, spin=1, basis="def2-svp", ecp="def2-svp"
    )
    mol = Molecule.from_pyscf(pyscf_mol)
    assert mol.symbols == ("Ag", "H")
    assert (mol.charge, mol.spin, mol.n_electrons) == (1, 1, 47)
    np.testing.assert_array_equal(mol.coords, pyscf_mol.atom_coords())


def test_from_pyscf_wants_a_built_molecule() -> None:
    gto = pytest.importorskip("pyscf.gto")
    with pytest.raises(ValueError, match=r"no atoms: call its build\(\)"):
        Molecule.from_pyscf(gto.Mole())


def test_from_ase() -> None:
    ase = pytest.importorskip("ase")
    atoms = ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"charge": -1})
    mol = Molecule.from_ase(atoms)
    assert (mol.charge, mol.spin) == (-1, 0)
    np.testing.assert_allclose(mol.coords[1, 2] * BOHR_IN_ANGSTROM, 0.97, rtol=1e-15)
    atoms = ase.Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], magmoms=[1, 1])
    assert Molecule.from_ase(atoms).spin == 2
    assert Molecule.from_ase(atoms, spin=0).spin == 0
    atoms.set_initial_charges([0.5, 0.5])
    assert Molecule.from_ase(atoms, spin=1).charge == 1
    atoms.set_initial_charges([0.5, 0.2])
    with pytest.raises(ValueError, match=r"add up to 0\.7"):
        Molecule.from_ase(atoms)
    atoms.pbc = True
    with pytest.raises(ValueError, match="periodic"):
        Molecule.from_ase(atoms)


def test_to_xyz_round_trips(tmp_path: Path) -> None:
    mol = Molecule(("O", "H"), np.array([[0.1, 0.2, 0.3], [-1.0, 2.0, 12.0]]), charge=-1, spin=2)
    again = Molecule.from_xyz(write(tmp_path, mol.to_xyz()))
    assert (again.symbols, again.charge, again.spin) == (mol.symbols, -1, 2)
    np.testing.assert_allclose(again.coords, mol.coords, atol=1e-11)


@given(
    symbol=st.sampled_from(SYMBOLS),
    charge=st.integers(-3, 0),
    triplet=st.booleans(),
    position=arrays(float, 3, elements=st.floats(-100, 100)),
)
def test_any_atom_round_trips(symbol: str, charge: int, triplet: bool, position: np.ndarray) -> None:
    lowest = Molecule((symbol,), [position], charge)
    mol = Molecule((symbol,), [position], charge, lowest.spin + 2 * (triplet and lowest.n_electrons > 2))
    geometry = parse_xyz(mol.to_xyz(), "text")
    assert (geometry.symbols, geometry.charge, geometry.spin) == ((symbol,), charge, mol.spin)
    np.testing.assert_allclose(np.array(geometry.positions) / BOHR_IN_ANGSTROM, mol.coords, atol=1e-11)


def test_hill_formula() -> None:
    assert Molecule.from_string("O 0 0 0; H 0 0 1; C 0 1 0; H 1 0 0").formula == "CH2O"
    assert Molecule.from_string("S 0 0 0; O 0 0 1; O 0 1 0").formula == "O2S"


def test_a_molecule_is_immutable_and_keeps_its_own_coordinates() -> None:
    coords = np.array([[0.0, 0.0, 0.0]])
    mol = Molecule(("He",), coords)
    coords[0, 0] = 5.0
    assert mol.coords[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        mol.coords[0, 0] = 1.0
    with pytest.raises(AttributeError):
        mol.charge = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("three\n\nH 0 0 0\n", "line 1: 'three' should be the number of atoms"),
        ("0\n\n", "line 1: '0' should be the number of atoms"),
        ("2\n\nH 0 0 0\n", "line 1 says 2 atoms, but 1 lines follow the comment$"),
        ("1\n\nH 0 0 0\nH 0 0 1\n", "line 1 says 1 atoms, but 2 lines"),
        ("1\n\nH 0 0 0\n1\n\nH 0 0 1\n", "several geometries, give one"),
        ("2\n\nH 0 0 0\nXq 0 0 1\n", "line 4: unknown element 'Xq'"),
        ("1\n\nHee 0 0 0\n", r"unknown element 'Hee' \(nearest: .*He"),
        ("2\n\nH 0 0 0\nH 0 1\n", "line 4: 'H 0 1' should be an element and three coordinates"),
        ("2\n\nH 0 0 0\nH 0 0 x1\n", "line 4: coordinate 'x1' of H should be a finite number"),
        ("2\n\nH 0 0 0\nH 0 0 nan\n", "line 4: coordinate 'nan' of H should be a finite number"),
        ("2\n\nH 0 0 0\nH 0 0 inf\n", "coordinate 'inf'"),
        ("2\n\nH 0 0 0\nF 0 0 0.01\n", r"atoms 1 \(H\) and 2 \(F\) coincide: they are 0.0100 angstrom apart"),
        ("1\ncharge=high\nH 0 0 0\n", "line 2: charge=high should be an integer"),
        ("1\nspin=0.5\nH 0 0 0\n", "line 2: spin=0.5 should be an integer"),
        ("1\nspin=2\nH 0 0 0\n", r"spin=2 with charge=0 is impossible for 1 electrons: .* can be 1$"),
        ("1\ncharge=1\nH 0 0 0\n", "charge=1 leaves 0 electrons"),
        ("1\nProperties=species:S:1\nH 0 0 0\n", "line 2: Properties names no species or no pos"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        Molecule.from_xyz(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_impossible_spins_are_listed() -> None:
    with pytest.raises(ValueError, match=r"10 electrons: .* can be 0, 2, 4, ... 10$"):
        Molecule.from_string("Ne 0 0 0", spin=1)
    with pytest.raises(ValueError, match="impossible"):
        Molecule.from_string("Ne 0 0 0", spin=-2)
    with pytest.raises(ValueError, match="impossible"):
        Molecule.from_string("Ne 0 0 0", spin=12)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((), np.zeros((0, 3))), "empty"),
        ((("H", "H"), np.zeros((1, 3))), r"shape \(1, 3\) for 2 atoms: \(2, 3\) is expected"),
        ((("H", "H"), np.array([[0, 0, 0], [0, 0, np.nan]])), r"atom 2 \(H\) has coordinates that are not"),
        ((("Zz",), np.zeros((1, 3))), "atom 1: unknown element 'Zz'"),
        ((("H",), np.zeros((1, 3)), 0.5), "charge=0.5 should be an integer"),
        ((("H",), np.zeros((1, 3)), 0, 1.5), "spin=1.5 should be an integer"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Molecule(*arguments)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="empty: write atoms as"):
        Molecule.from_string(" ; \n")
    with pytest.raises(ValueError, match="atom 2: unknown element 'Hx'"):
        Molecule.from_string("H 0 0 0; Hx 0 0 1")
    with pytest.raises(ValueError, match="unknown unit 'nm': 'angstrom' or 'bohr'"):
        Molecule.from_string("H 0 0 0", unit="nm")  # type: ignore[arg-type]


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "1\n\nH 0 0 0\n", "water.xyz")
    with pytest.raises(FileNotFoundError, match=r"no file .*watr.xyz \(nearest: water.xyz\)"):
        Molecule.from_xyz(tmp_path / "watr.xyz")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        Molecule.from_xyz(tmp_path / "nowhere" / "water.xyz")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        Molecule.from_xyz(tmp_path)
    (tmp_path / "binary.xyz").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="is not a text file"):
        Molecule.from_xyz(tmp_path / "binary.xyz")


def test_the_module_needs_neither_jax_nor_pyscf(tmp_path: Path) -> None:
    code = (
        "import sys, dqc; dqc.Molecule.from_xyz(sys.argv[1]);"
        "print([name for name in ('jax', 'pyscf') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(water(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.strip() == "[]"
