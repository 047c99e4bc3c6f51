"""Reference calculations: exact cases, extrapolations, instabilities, densities, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pyscf import dft, scf

from dqc.basis import pyscf_mole
from dqc.data import Density
from dqc.interop import reference as module
from dqc.interop.level import Level, extrapolate_correlation, extrapolate_hartree_fock
from dqc.interop.reference import (
    NotConverged,
    density_at,
    doubt,
    hartree_fock,
    reference,
)
from dqc.molecule import Molecule


def molecule(text: str, charge: int = 0, spin: int | None = None) -> Molecule:
    return Molecule.from_string(text, "bohr", charge, spin)


H2 = molecule("H 0 0 0; H 0 0 1.4")
LIH = molecule("Li 0 0 0; H 0 0 3.0")
OH = molecule("O 0 0 0; H 0 0 1.83")


def level(method: str = "ccsd(t)", *basis: str, **options: Any) -> Level:
    return Level(method, basis or ("6-31g",), **options)


@pytest.mark.parametrize(
    "mol", [H2, LIH, molecule("H 0 0 0; H 0 0 1.4", spin=2)], ids=["H2", "LiH", "triplet"]
)
def test_coupled_cluster_of_two_electrons_is_exact(mol: Molecule) -> None:
    exact, found = (reference(mol, level(method), density=True) for method in ("fci", "ccsd(t)"))
    assert found.labels.energy == pytest.approx(exact.labels.energy, abs=1e-7)
    np.testing.assert_allclose(found.labels.dipole, exact.labels.dipole, atol=1e-5)
    assert exact.correlation[0] < -1e-3


def test_the_core_is_frozen_unless_told_otherwise() -> None:
    frozen, all_electron = (reference(LIH, level("fci", frozen_core=f)).labels.energy for f in (True, False))
    assert all_electron < frozen - 1e-4
    by_cc = reference(LIH, level("ccsd(t)", frozen_core=False)).labels.energy
    assert by_cc == pytest.approx(all_electron, abs=5e-6)  # quadruple excitations


def test_an_open_shell_is_close_to_full_ci() -> None:
    exact, found = (reference(OH, level(method)) for method in ("fci", "ccsd(t)"))
    assert found.labels.energy == pytest.approx(exact.labels.energy, abs=5e-4)
    np.testing.assert_allclose(found.labels.dipole, exact.labels.dipole, atol=5e-3)
    assert 0.75 < found.spin_square < 0.76
    assert 0 < found.t1 < 0.02


@pytest.mark.parametrize(
    "mol",
    [molecule("H 0 0 0"), molecule("H 0 0 0; H 0 0 2", charge=1), molecule("Li 0 0 0", charge=1)],
    ids=["H", "H2+", "Li+"],
)
def test_without_a_pair_to_correlate_it_is_hartree_fock(mol: Molecule) -> None:
    found = reference(mol, level("ccsd(t)", "cc-pvdz", "cc-pvtz"))
    assert found.correlation == (0.0, 0.0)
    assert found.labels.energy == pytest.approx(
        extrapolate_hartree_fock(found.hartree_fock, (2, 3)), abs=1e-12
    )


def test_extrapolations_find_the_limit_of_their_formulas() -> None:
    hf = [-76.067 + 0.3 * math.exp(-1.63 * X) for X in (3, 4)]
    assert extrapolate_hartree_fock(hf, (3, 4)) == pytest.approx(-76.067, abs=1e-12)
    correlation = [-0.301 + 0.7 / X**3 for X in (2, 4)]
    assert extrapolate_correlation(correlation, (2, 4)) == pytest.approx(-0.301, abs=1e-12)


def test_a_focal_point_adds_the_difference_in_the_smaller_basis() -> None:
    focal = reference(H2, level("ccsd", "cc-pvdz", "cc-pvtz", focal_point=True))
    whole = reference(H2, level("ccsd", "cc-pvdz", "cc-pvtz"))
    small, mp2 = whole.correlation[0], focal.correlation
    correlation = extrapolate_correlation(mp2, (2, 3)) + small - mp2[0]
    hf = extrapolate_hartree_fock(focal.hartree_fock, (2, 3))
    assert focal.labels.energy == pytest.approx(hf + correlation, abs=1e-9)
    assert focal.labels.energy == pytest.approx(whole.labels.energy, abs=2e-3)
    assert focal.labels.energy < whole.hartree_fock[1] + whole.correlation[1] - 1e-4  # below both basis sets


def test_hartree_fock_leaves_a_saddle_point() -> None:
    mole = pyscf_mole(molecule("H 0 0 0; H 0 0 5"), "6-31g")
    symmetric = scf.UHF(mole).run().e_tot
    mf = hartree_fock(mole, unrestricted=True)
    assert mf.e_tot < symmetric - 0.05
    assert mf.spin_square()[0] > 0.9
    assert hartree_fock(mole).e_tot == pytest.approx(symmetric, abs=1e-8)  # restricted stays restricted


def test_doubts_are_told() -> None:
    assert doubt(OH, level(), 0.01, 0.76) == ""
    assert doubt(OH, level(), 0.05, 0.76) == "T1 is 0.050, and <S^2> 0.76 where 0.75 is pure"
    assert doubt(OH, level(), 0.01, 1.10)
    assert doubt(OH, level("fci"), 0.0, 1.10) == ""
    assert doubt(LIH, level(), 0.1, 0.0) == ""  # two electrons: exact
    assert doubt(LIH, level(frozen_core=False), 0.1, 0.0)


@pytest.mark.parametrize(("mol", "basis"), [(OH, "6-31g"), (LIH, "cc-pvdz")], ids=["OH", "LiH"])
def test_a_density_has_the_electrons(mol: Molecule, basis: str) -> None:
    labels = reference(mol, level("ccsd", basis), density=True).labels
    S = pyscf_mole(mol, basis).intor("int1e_ovlp")
    electrons = [(mol.n_electrons + mol.spin) / 2, (mol.n_electrons - mol.spin) / 2]
    np.testing.assert_allclose(np.einsum("spq,pq->s", labels.density.matrix, S), electrons, atol=1e-6)
    points, weights = quadrature(mol, basis)
    rho = density_at(labels.density, mol, points)
    np.testing.assert_allclose(rho @ weights, electrons, atol=1e-4)
    nuclei = np.array(mol.numbers) @ mol.coords
    np.testing.assert_allclose(nuclei - (rho.sum(0) * weights) @ points, labels.dipole, atol=1e-4)


def quadrature(mol: Molecule, basis: str) -> tuple[np.ndarray, np.ndarray]:
    grids = dft.gen_grid.Grids(pyscf_mole(mol, basis)).build()
    return grids.coords, grids.weights


def test_a_density_of_another_basis_is_refused() -> None:
    with pytest.raises(ValueError, match="a density matrix of 3 functions, and HO in 6-31g has 11"):
        density_at(Density(np.zeros((2, 3, 3)), "6-31g"), OH, np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "ccsd(t"}, r"method='ccsd\(t' is not one of .* \(nearest: ccsd\(t\)"),
        ({"basis": ("cc-pvtz", "def2-qzvp")}, "no extrapolation from cc-pvtz to def2-qzvp"),
        ({"basis": ("cc-pvqz", "cc-pvtz")}, "the smaller first"),
        ({"basis": ("cc-pvtz", "aug-cc-pvqz")}, "of one family"),
        ({"basis": ("cc-pvdz", "cc-pvtz", "cc-pvqz")}, "3 basis sets"),
        ({"basis": ("cc-pvdz",), "focal_point": True}, "focal_point needs two basis sets"),
    ],
)
def test_levels_that_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Level(**options)


def test_levels_are_named() -> None:
    assert str(Level()) == "CCSD(T)/CBS(cc-pvtz, cc-pvqz), frozen core"
    focal = Level("ccsd", ("cc-pvdz", "cc-pvtz"), frozen_core=False, focal_point=True)
    assert str(focal) == "MP2/CBS(cc-pvdz, cc-pvtz) + [CCSD - MP2]/cc-pvdz, all electrons"
    assert Level(unrestricted=True) != Level()
    assert str(Level(unrestricted=True)) != str(Level())


def test_full_ci_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=r"full CI of .* determinants, and 5e\+06 is the limit"):
        reference(molecule("N 0 0 0; N 0 0 2.1"), level("fci", "cc-pvdz"))


def test_failures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CYCLES", 2)
    with pytest.raises(NotConverged, match="CCSD did not converge in 2 iterations"):
        reference(OH, level("ccsd"))
    monkeypatch.setattr(module, "GRADIENT_TOLERANCE", 1e-30)
    with pytest.raises(NotConverged, match="Hartree-Fock did not converge"):
        reference(OH, level("ccsd"))
