"""Energies of molecules against PySCF's: the same basis sets, coordinates and grid."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import dft, scf

import dqc
from dqc.basis import pyscf_mole

AGREEMENT = 1e-8  # hartree


class Case(NamedTuple):
    atoms: str
    xc: str
    two_electron: str = "df"
    charge: int = 0
    spin: int = 0
    basis: str = "def2-svp"
    grid: int = 3


WATER = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"
METHYLENE = "C 0 0 0; H 0 0.992 0.401; H 0 -0.992 0.401"
METHYL = "C 0 0 0; H 1.079 0 0; H -0.5395 0.9344 0; H -0.5395 -0.9344 0"

# Of every kind one: closed shell, radical, triplet, anion, cation, third row, effective core potential;
# each rung, hybrids, range separation; fitted and exact; with a coarse grid first (level 3) and without.
FAST = {
    "water": Case(WATER, "pbe"),
    "hydroxyl": Case("O 0 0 0; H 0 0 0.9697", "b3lyp", "exact", spin=1, grid=1),
    "methylene": Case(METHYLENE, "r2scan", "exact", spin=2, basis="6-31g", grid=1),
    "fluoride": Case("F 0 0 0", "camb3lyp", charge=-1),
    "water cation": Case(WATER, "hf", charge=1, spin=1),
    "hydrogen chloride": Case("H 0 0 0; Cl 0 0 1.2746", "tpss", grid=1),
    "silver hydride": Case("Ag 0 0 0; H 0 0 1.618", "lda,vwn", grid=1),
    "nitrogen": Case("N 0 0 0; N 0 0 1.0977", "pbe0", "exact", basis="6-31g*", grid=1),
}
SLOW = {
    "methyl": Case(METHYL, "tpss", spin=1),
    "oxygen": Case("O 0 0 0; O 0 0 1.2075", "pbe0", spin=2),
    "cyanide": Case("C 0 0 0; N 0 0 1.177", "scan", charge=-1),
    "lithium fluoride": Case("Li 0 0 0; F 0 0 1.5639", "lcwpbe"),
    "hydronium": Case(
        "O 0 0 0.0765; H 0 0.9438 -0.204; H 0.8174 -0.4719 -0.204; H -0.8174 -0.4719 -0.204", "rpbe", charge=1
    ),
    "sulfur dioxide": Case("S 0 0 0; O 0 1.2349 0.7226; O 0 -1.2349 0.7226", "r2scan"),
    "iodine": Case("I 0 0 0; I 0 0 2.6663", "pbe"),
    "nitric oxide": Case("N 0 0 0; O 0 0 1.1508", "camb3lyp", "exact", spin=1),
    "water, triple zeta": Case(WATER, "r2scan", basis="def2-tzvp"),
    "hydroxyl, triple zeta": Case("O 0 0 0; H 0 0 0.9697", "pbe", "exact", spin=1, basis="def2-tzvp"),
    "formaldehyde, every libxc name": Case(
        "O 0 0 1.205; C 0 0 0; H 0 0.9429 -0.5876; H 0 -0.9429 -0.5876", "m06l"
    ),
}


def pyscf(case: Case, mol: dqc.Molecule) -> tuple[float, np.ndarray]:
    """PySCF's energy and density matrix."""
    mole = pyscf_mole(mol, case.basis)
    mole.basis = case.basis  # by name, from which PySCF chooses the fitting basis
    if case.xc == "hf":
        mf = (scf.UHF if case.spin else scf.RHF)(mole)
    else:
        mf = (dft.UKS if case.spin else dft.RKS)(mole, xc=case.xc)
        mf.grids.level = case.grid
    mf = mf.density_fit() if case.two_electron == "df" else mf
    mf.conv_tol, mf.conv_tol_grad, mf.chkfile = 1e-12, 1e-7, None
    mf.kernel()
    if not mf.converged:
        orbitals = mf.mo_coeff, mf.mo_occ
        mf = mf.newton()
        mf.kernel(*orbitals)
    assert np.linalg.norm(mf.get_grad(mf.mo_coeff, mf.mo_occ)) < 2e-5  # the energy's error is of its square
    return float(mf.e_tot), np.asarray(mf.make_rdm1())


def energies(case: Case) -> dict[str, tuple[float, float]]:
    """name -> (ours, theirs)."""
    mol = dqc.Molecule.from_string(case.atoms, charge=case.charge, spin=case.spin)
    theirs, density = pyscf(case, mol)
    xc = dqc.functional(case.xc)
    system = dqc.build(mol, case.basis, xc, grid=case.grid, two_electron=case.two_electron)
    # An open shell may settle in another orientation of a degenerate hole: it starts from their density.
    guess = jnp.asarray(density) if case.spin else "sap"
    sol = dqc.scf(system, xc, tolerance=1e-6, guess=guess)
    assert bool(sol.converged), sol.message
    return {"energy": (float(sol.energy), theirs)}


def check(case: Case) -> None:
    for name, (ours, theirs) in energies(case).items():
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=AGREEMENT, err_msg=name)


@pytest.mark.parametrize("name", FAST)
def test_energy(name: str) -> None:
    check(FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_energies(name: str) -> None:
    check(SLOW[name])
