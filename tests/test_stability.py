"""The lowest eigenvalue of the orbital Hessian, and the way out of an unstable solution."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import dft, scf
from pyscf.soscf import newton_ah

import dqc
from dqc.basis import pyscf_mole
from dqc.energy import fock
from dqc.minimiser import rotate

HYDROGEN = dqc.Molecule(["H", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
WATER = dqc.Molecule(["O", "H", "H"], [[0.0, 0.0, 0.22], [0.1, 1.43, -0.89], [0.0, -1.43, -0.89]])
HYDROXYL = dqc.Molecule(["O", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.83]])
LIMIT = -1e-4


@cache
def solved(molecule: dqc.Molecule, xc: str) -> tuple[dqc.System, dqc.Functional, dqc.Solution]:
    functional = dqc.functional(xc)
    system = dqc.build(molecule, "sto-3g", functional, grid=1, two_electron="exact")
    solution = dqc.scf(system, functional, tolerance=1e-7)
    assert bool(solution.converged)
    return system, functional, solution


def peer(molecule: dqc.Molecule, xc: str, unrestricted: bool) -> Any:
    mole = pyscf_mole(molecule, "sto-3g")
    if xc == "hf":
        field = scf.UHF(mole) if unrestricted else scf.RHF(mole)
    else:
        field = dft.UKS(mole) if unrestricted else dft.RKS(mole)
        field.xc, field.grids.level = xc, 1
    field.conv_tol, field.conv_tol_grad = 1e-12, 1e-7
    return field


def broken(molecule: dqc.Molecule, xc: str) -> float:
    """PySCF's energy from a start with the spins on different atoms."""
    field = peer(molecule, xc, unrestricted=True)
    n = field.mol.nao
    alpha, beta = np.zeros((2, n, n))
    alpha[0, 0] = beta[n // 2, n // 2] = 1.0
    return field.kernel(np.array([alpha, beta]))


def test_a_stretched_bond_is_unstable_and_a_restart_breaks_the_symmetry() -> None:
    system, functional, restricted = solved(HYDROGEN, "pbe")
    found = dqc.stability(system, functional, restricted)
    assert not found.stable
    assert float(found.eigenvalue) < -0.05
    assert found.guess.shape[0] == 2
    restarted = dqc.scf(system, functional, guess=found.guess, tolerance=1e-7)
    assert bool(restarted.converged)
    np.testing.assert_allclose(restarted.energy, broken(HYDROGEN, "pbe"), rtol=0, atol=1e-8)
    assert float(restarted.energy) < float(restricted.energy) - 0.05
    again = dqc.stability(system, functional, restarted)
    assert again.stable
    assert float(again.eigenvalue) > LIMIT


def test_within_its_own_kind_the_stretched_bond_is_stable() -> None:
    system, functional, restricted = solved(HYDROGEN, "hf")
    found = dqc.stability(system, functional, restricted, unrestricted=False)
    assert found.stable
    assert found.guess.shape[0] == 1


def test_water_is_stable() -> None:
    found = dqc.stability(*solved(WATER, "hf"))
    assert found.stable
    assert float(found.eigenvalue) > 0.1


def lowest(field: Any, restricted: bool) -> float:
    """The lowest eigenvalue of PySCF's Hessian, which is half the second derivative of the energy."""
    make = newton_ah.gen_g_hop_rhf if restricted else newton_ah.gen_g_hop_uhf
    gradient, product, _ = make(field, field.mo_coeff, field.mo_occ)
    H = np.stack([product(row) for row in np.eye(len(gradient))])
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    return 2.0 * float(np.linalg.eigvalsh(0.5 * (H + H.T))[0])


@pytest.mark.parametrize(
    ("molecule", "unrestricted"),
    [(WATER, False), (WATER, True), (HYDROGEN, True)],
    ids=["water, singlet", "water", "hydrogen"],
)
def test_the_eigenvalue_is_that_of_pyscf(molecule: dqc.Molecule, unrestricted: bool) -> None:
    field = peer(molecule, "hf", unrestricted=False).run()
    if unrestricted:
        field = field.to_uhf()
    ours = dqc.stability(*solved(molecule, "hf"), unrestricted=unrestricted)
    np.testing.assert_allclose(ours.eigenvalue, lowest(field, not unrestricted), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("xc", ["hf", "pbe"])
def test_the_eigenvalue_is_the_curvature_of_the_energy(xc: str) -> None:
    """In a minimal basis H2 has one rotation for each spin; they turn against each other."""
    system, functional, solution = solved(HYDROGEN, xc)
    C = jnp.concatenate([solution.mo_coeff] * 2)
    f = jnp.ones((2, 1))
    turn = jnp.asarray([[[0.0, 1.0], [-1.0, 0.0]]]) * jnp.asarray([1.0, -1.0])[:, None, None] / np.sqrt(2)

    def energy(t: float) -> float:
        # Cayley's form of a plane rotation by t is tan(t / 2).
        return float(fock(system, functional, rotate(C, t * turn)[:, :, :1], f, system.grid)[1].total)

    h = 0.01
    second = (energy(h) - 2 * energy(0.0) + energy(-h)) / h**2
    found = dqc.stability(system, functional, solution).eigenvalue
    np.testing.assert_allclose(found, second, rtol=1e-3)


def test_an_open_shell_has_zero_modes_and_counts_as_stable() -> None:
    """The hole of OH may turn about the axis at no cost."""
    found = dqc.stability(*solved(HYDROXYL, "hf"))
    assert abs(float(found.eigenvalue)) < 1e-4
    assert found.stable


def test_a_zero_mode_is_found_as_soon_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    module, products = sys.modules["dqc.stability"], []
    counted = module._product
    monkeypatch.setattr(module, "_product", lambda *args: products.append(0) or counted(*args))
    functional = dqc.functional("hf")
    system = dqc.build(HYDROXYL, "6-31g", functional, two_electron="exact")
    found = dqc.stability(system, functional, dqc.scf(system, functional, tolerance=1e-8))
    assert found.stable
    np.testing.assert_allclose(found.eigenvalue, 0.0, rtol=0, atol=1e-6)  # the hole turns about the axis
    assert len(products) < 200
