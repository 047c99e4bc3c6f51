"""Direct minimisation of LCAO coefficients: the SCF's energy, also where DIIS does not get there."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import dqc

CASES = {
    "water": ("O 0 0 0; H 0.76 0.59 0; H -0.76 0.59 0", "pbe", {}),
    "hydroxyl": ("O 0 0 0; H 0 0 0.97", "hf", {}),
    "broken": ("H 0 0 0; H 0 0 2.5", "b3lyp", {"moments": jnp.array([1.0, -1.0])}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_minimum_is_the_self_consistent_field(name: str) -> None:
    atoms, xc, options = CASES[name]
    xc = dqc.functional(xc)
    system = dqc.build(dqc.Molecule.from_string(atoms), "6-31g", xc, grid=1)
    field, minimum = dqc.scf(system, xc, **options), dqc.minimise(system, xc, **options)
    assert bool(field.converged)
    assert bool(minimum.converged)
    assert float(minimum.energy) == pytest.approx(float(field.energy), abs=1e-8)
    energies = np.asarray(minimum.history.energy)
    assert np.isnan(energies).any()  # it ended before its last evaluation


def test_it_converges_where_diis_does_not() -> None:
    xc = dqc.functional("lda,vwn")
    system = dqc.build(dqc.Molecule.from_string("Fe 0 0 0; O 0 0 1.616", spin=4), "sto-3g", xc, grid=1)
    diis_alone = dqc.scf(system, xc, max_iterations=12)
    assert bool(dqc.minimise(system, xc).converged)
    assert not bool(diis_alone.converged)


@pytest.mark.parametrize("options", [{"grid": 2}, {"orbitals": dqc.orbitals.Neural()}])
def test_a_system_has_its_orbitals(options: dict) -> None:
    xc = dqc.functional("hf")
    system = dqc.build(dqc.Molecule.from_string("H 0 0 0; H 0 0 0.7"), "sto-3g", xc)
    with pytest.raises(ValueError, match="leave out orbitals= and grid="):
        dqc.minimise(system, xc, **options)


def test_given_occupations_only() -> None:
    xc = dqc.functional("hf")
    system = dqc.build(dqc.Molecule.from_string("H 0 0 0; H 0 0 0.7"), "sto-3g", xc)
    with pytest.raises(ValueError, match="leave out smearing="):
        dqc.minimise(system, xc, smearing=0.01)
