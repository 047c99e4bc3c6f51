"""The exact-exchange energy density on the grid, and self-consistent local hybrids."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from local_hybrids import ALL, bent

import dqc
from dqc.basis import pyscf_mole
from dqc.density import density_matrix
from dqc.energy import chunk_orbitals, exchange_on_points

CYANIDE = dqc.Molecule(["C", "N"], [[0.0, 0.0, 0.0], [0.3, 0.5, 2.13]], charge=0, spin=1)
FORMALDEHYDE = dqc.Molecule.from_xyz("examples/formaldehyde.xyz")


@pytest.mark.parametrize(
    ("molecule", "two_electron", "errors"),
    [
        pytest.param(FORMALDEHYDE, "df", {2: 1e-4, 4: 3e-7}, marks=pytest.mark.slow, id="CH2O"),
        pytest.param(CYANIDE, "exact", {3: 1e-5}, id="CN"),
    ],
)
def test_its_integral_is_the_exchange_energy(
    molecule: dqc.Molecule, two_electron: str, errors: dict[int, float]
) -> None:
    """Self-consistently, to the error of the quadrature, which falls with the grid."""
    hf = dqc.functional("hf")
    for grid, error in errors.items():
        system = dqc.build(molecule, "6-31g", ALL, grid, two_electron, auxbasis="def2-universal-jkfit")
        ours = dqc.scf(system, ALL)
        theirs = dqc.scf(system, hf, guess=ours.density_matrix)
        assert ours.converged
        assert float(ours.energy) == pytest.approx(float(theirs.energy), abs=error)


@pytest.mark.parametrize(("two_electron", "tolerance"), [("exact", 1e-9), ("df", 2e-3)])
def test_it_is_that_of_the_integrals_at_each_point(two_electron: str, tolerance: float) -> None:
    """Against PySCF's int1e_grids, contracted with the density matrix: relative to the largest value."""
    system = dqc.build(CYANIDE, "6-31g", ALL, 0, two_electron)
    solution = dqc.scf(system, dqc.functional("lda,vwn"))
    slots = solution.occupations.shape[1]
    C, f = solution.mo_coeff[:, :, :slots], solution.occupations
    block = jax.tree.map(lambda x: x[3], system.grid.blocks[-1])
    ao, local, _ = chunk_orbitals(system, ALL, block, C)
    ours = exchange_on_points(system, ALL, C, f)(block, ao, local)[0]
    points = np.asarray(system.coords)[np.asarray(block.atom)] + np.asarray(block.offset)
    mole = pyscf_mole(CYANIDE, "6-31g")
    values, A = mole.eval_gto("GTOval_sph", points), mole.intor("int1e_grids", grids=points)
    psi = np.einsum("gp,spq->sgq", values, np.asarray(density_matrix(C, f)))
    theirs = -0.5 * np.einsum("sgp,gpq,sgq->sg", psi, A, psi)
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("atoms", [["H", "H"]])
def test_one_electron_has_no_self_interaction(atoms: list[str]) -> None:
    """Whatever the networks say, the energy is Hartree and Fock's, also of a stretched bond."""
    places = [[0.0, 0.0, 4.0 * k] for k in range(len(atoms))]
    molecule, xc = dqc.Molecule(atoms, places, charge=1, spin=1), bent("0.25*hf + 0.75*r2scan, r2scan")
    system = dqc.build(molecule, "6-31g", xc, grid=3, two_electron="exact")
    ours, exact = dqc.scf(system, xc), dqc.scf(system, dqc.functional("hf"))
    assert ours.converged
    assert float(ours.energy) == pytest.approx(float(exact.energy), abs=1e-6)
    others = dqc.scf(system, dqc.functional("pbe0"))
    assert abs(float(others.energy - exact.energy)) > 1e-4


def test_derivatives_follow_the_field() -> None:
    """By the functional's parameters, of the energy and of the dipole, against re-converged fields."""
    xc = bent()
    system = dqc.build(CYANIDE, "sto-3g", xc, grid=0)
    rng = np.random.default_rng(1)
    along = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), xc)
    guess = dqc.scf(system, xc).density_matrix

    def observed(t: Array) -> Float[Array, " x"]:
        moved = jax.tree.map(lambda x, dx: x + t * dx, xc, along)
        solution = dqc.scf(system, moved, guess=guess, tolerance=1e-9)
        return jnp.append(dqc.dipole(system, solution), solution.energy)

    tangent = jax.jit(lambda t: jax.jvp(observed, (t,), (1.0,)))
    h, slope = 1e-2, tangent(0.0)[1]
    f = {k: tangent(k * h)[0] for k in (-2, -1, 1, 2)}
    difference = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    assert jnp.abs(difference).min() > 1e-5
    np.testing.assert_allclose(slope, difference, atol=1e-6)


def test_padding_batches_and_files_keep_it(tmp_path) -> None:
    xc = bent()
    molecules = [FORMALDEHYDE, dqc.Molecule.from_xyz("examples/water.xyz")]
    systems = [dqc.build(m, "sto-3g", xc, grid=1) for m in molecules]
    alone = [float(dqc.scf(s, xc).energy) for s in systems]
    batch = dqc.stack([dqc.pad(s, dqc.common_shape(systems)) for s in systems])
    together = jax.vmap(dqc.scf, in_axes=(0, None))(batch, xc).energy
    np.testing.assert_allclose(together, alone, atol=1e-9)
    dqc.save(systems[0], tmp_path / "system")
    assert float(dqc.scf(dqc.load(tmp_path / "system"), xc).energy) == pytest.approx(alone[0], abs=1e-10)


def test_padding_keeps_that_of_exact_integrals() -> None:
    xc, systems = bent(), []
    for molecule in (dqc.Molecule.from_xyz("examples/water.xyz"), FORMALDEHYDE):
        systems.append(dqc.build(molecule, "sto-3g", xc, grid=0, two_electron="exact"))
    padded = dqc.pad(systems[0], dqc.common_shape(systems))
    alone, larger = (float(dqc.scf(s, xc).energy) for s in (systems[0], padded))
    assert alone == pytest.approx(larger, abs=1e-10)


def test_what_is_refused() -> None:
    system = dqc.build(CYANIDE, "sto-3g", dqc.functional("r2scan"), grid=0)
    with pytest.raises(ValueError, match="local hybrid needs potentials"):
        dqc.scf(system, bent())
    system = dqc.build(CYANIDE, "sto-3g", bent(), grid=0)
    with pytest.raises(ValueError, match="do not move under a local hybrid"):
        dqc.forces(system, bent())
