"""Orbitals and densities on points against PySCF's values of the same coefficients."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import dft

import dqc
from dqc.basis import pyscf_mole
from dqc.batch import shape_of

CATION = dqc.Molecule(["O", "H"], [[0.0, 0.1, -0.2], [0.3, -0.4, 1.5]], charge=1, spin=2)
POINTS = np.random.default_rng(0).normal(scale=1.5, size=(30, 3))


@pytest.fixture(scope="module")
def solved() -> tuple[dqc.System, dqc.Solution]:
    """Not self-consistent: any coefficients and density matrix would do."""
    xc = dqc.functional("hf")
    system = dqc.build(CATION, "6-31g*", xc, two_electron="exact")
    return system, dqc.scf(system, xc, max_iterations=2)


def test_orbitals(solved: tuple[dqc.System, dqc.Solution]) -> None:
    system, solution = solved
    ao = pyscf_mole(CATION, "6-31g*").eval_gto("GTOval_sph", POINTS)
    ours = dqc.orbitals_on(system, solution, jnp.asarray(POINTS))
    np.testing.assert_allclose(ours, ao @ np.asarray(solution.mo_coeff), rtol=1e-9, atol=1e-11)


def test_density(solved: tuple[dqc.System, dqc.Solution]) -> None:
    system, solution = solved
    mole = pyscf_mole(CATION, "6-31g*")
    ao = mole.eval_gto("GTOval_sph", POINTS)
    theirs = [dft.numint.eval_rho(mole, ao, np.asarray(P)) for P in solution.density_matrix]
    ours = dqc.density_on(system, solution, jnp.asarray(POINTS))
    assert ours.shape == (2, len(POINTS))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_ghosts_of_a_padded_system_are_nowhere(solved: tuple[dqc.System, dqc.Solution]) -> None:
    system, solution = solved
    shape = shape_of(system)
    room = shape._replace(
        atoms=shape.atoms + 1,
        orbitals=shape.orbitals + 2,
        shells=tuple((h + 1, r) for h, r in shape.shells),
    )
    n = shape.orbitals
    padded = dqc.pad(system, room)
    xc = dqc.functional("hf")
    ours = dqc.density_on(padded, dqc.scf(padded, xc, max_iterations=2), jnp.asarray(POINTS))
    np.testing.assert_allclose(ours, dqc.density_on(system, solution, jnp.asarray(POINTS)), atol=1e-8)
    assert padded.overlap.shape[0] == n + 2
