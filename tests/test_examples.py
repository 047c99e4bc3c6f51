"""The example geometries are molecules: readable, with stated charge and spin, and sane bond lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqc.basis import pyscf_mole
from dqc.constants import ATOMIC_SPINS, BOHR_IN_ANGSTROM
from dqc.data import check, read
from dqc.molecule import Molecule

FILES = sorted((Path(__file__).parent.parent / "examples").glob("*.xyz"))

# Covalent radii in angstrom: B. Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j.
RADII = {
    "H": 0.31, "Li": 1.28, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "P": 1.07, "S": 1.05, "Cl": 1.02,
    "Ti": 1.60, "Fe": 1.32, "Ni": 1.24, "Ag": 1.45, "I": 1.39,
}  # fmt: skip


def test_there_are_examples() -> None:
    assert {"water", "ethanol", "benzene", "naphthalene", "anthracene", "aspirin"} <= {
        path.stem for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    mol = Molecule.from_xyz(path)
    comment = path.read_text().splitlines()[1]
    assert comment.startswith(f"charge={mol.charge} spin={mol.spin} ")
    radii = np.array([RADII[symbol] for symbol in mol.symbols])
    lengths = np.linalg.norm(mol.coords[:, None] - mol.coords, axis=-1) * BOHR_IN_ANGSTROM
    ratios = lengths / (radii[:, None] + radii)
    np.fill_diagonal(ratios, np.inf)
    assert ratios.min() > 0.75
    assert ratios.min(axis=1).max() < 1.25  # every atom is bonded to another


def test_aspirin_has_its_formula() -> None:
    path = next(path for path in FILES if path.stem == "aspirin")
    assert Molecule.from_xyz(path).formula == "C9H8O4"


@pytest.mark.parametrize("name", ["molecules", "bonds"])
def test_the_reference_data_hold_together(name: str) -> None:
    folder = Path(__file__).parent.parent / "examples" / "small_molecules"
    data = read(folder / f"{name}.json")
    for sentence in check(data):  # an electron, or a bare proton, is left out by design
        assert ("ionisation" in sentence) or ("cation" in sentence and "-1 H, charge -1" in sentence), (
            sentence
        )
    E = {key: known.energy for key, known in data.labels.items()}
    for r in data.reactions:
        value = sum(c * E[n] for n, c in zip(r.molecules, r.coefficients, strict=True))
        assert r.value == pytest.approx(value, abs=1e-10)
    assert all(m.symbols[0] in ATOMIC_SPINS for m in data.molecules.values())
    assert {"reference_level", "licence", "command", "definition", "notes"} <= data.about.keys()
    for key, known in data.labels.items():
        if known.density is not None:
            n, spin = data.molecules[key].n_electrons, data.molecules[key].spin
            S = pyscf_mole(data.molecules[key], known.density.basis).intor("int1e_ovlp")
            electrons = np.einsum("spq,pq->s", known.density.matrix, S)
            np.testing.assert_allclose(electrons, [(n + spin) / 2, (n - spin) / 2], atol=1e-5)
