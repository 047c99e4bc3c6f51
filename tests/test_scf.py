"""The self-consistent field: its fixed point, its options, and the ways it can end."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import scf

import dqc
from dqc import iterations
from dqc.basis import pyscf_mole
from dqc.linalg import diagonalize, natural_orbitals, orthogonalizer
from dqc.scf import _finish, _jitted_step, _prepare, iterate
from dqc.types import replace

FORMALDEHYDE = "C 0 0 -0.529; O 0 0 0.676; H 0 0.935 -1.109; H 0 -0.935 -1.109"
CYANO = "C 0 0 0; N 0 0 1.17"
WATER = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"
HYDROXYL = "O 0 0 0; H 0 0 0.97"
TIGHT = 1e-9  # hartree


@cache
def case(
    atoms: str = WATER, xc: str = "hf", basis: str = "6-31g", two_electron: str = "exact", charge: int = 0
) -> tuple[dqc.System, dqc.Functional]:
    """A system and its functional; grid level 1 has no coarse grid, which makes a smaller program."""
    mol = dqc.Molecule.from_string(atoms, charge=charge)
    functional = dqc.functional(xc)
    return dqc.build(mol, basis, functional, grid=1, two_electron=two_electron), functional


@cache
def solved(atoms: str = WATER, xc: str = "hf") -> dqc.Solution:
    return dqc.scf(*case(atoms, xc), tolerance=1e-6)


def mean_field(atoms: str, charge: int = 0, unrestricted: bool = False) -> scf.hf.SCF:
    mole = pyscf_mole(dqc.Molecule.from_string(atoms, charge=charge), "6-31g")
    mf = (scf.UHF if unrestricted or mole.spin else scf.RHF)(mole)
    mf.conv_tol, mf.conv_tol_grad, mf.chkfile = 1e-12, 1e-7, None
    return mf


FIXED_POINTS = [(WATER, "hf"), (HYDROXYL, "hf"), (WATER, "pbe"), (HYDROXYL, "pbe")]


@pytest.mark.parametrize(("atoms", "xc"), FIXED_POINTS)
def test_the_solution_is_a_fixed_point(atoms: str, xc: str) -> None:
    system, _ = case(atoms, xc)
    sol = solved(atoms, xc)
    S, P, F = system.overlap, sol.density_matrix, sol.fock
    X = orthogonalizer(S)
    residual = np.linalg.norm(X.T @ (F @ P @ S - S @ P @ F) @ X) / np.sqrt(2)
    assert bool(sol.converged)
    assert sol.residual < 1e-6
    np.testing.assert_allclose(residual, sol.residual, rtol=1e-3, atol=1e-9)
    holds = 3 - len(P)  # electrons in a full orbital
    np.testing.assert_allclose(np.einsum("spq,qp->s", P, S), sol.occupations.sum(1), atol=1e-10)
    np.testing.assert_allclose(P @ S @ P, holds * P, atol=1e-10)
    unit = np.einsum("spk,pq,sqj->skj", sol.mo_coeff, S, sol.mo_coeff)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(len(S)), unit.shape), atol=1e-10)
    C, slots = sol.mo_coeff, sol.occupations.shape[1]
    own = np.einsum("spi,si,sqi->spq", C[:, :, :slots], sol.occupations, C[:, :, :slots])
    np.testing.assert_allclose(own, P, atol=1e-10)
    products = np.einsum("spk,sk->spk", S @ C, sol.mo_energy)
    np.testing.assert_allclose(F @ C, products, atol=2 * float(sol.residual) + 1e-9)


@pytest.mark.parametrize(("atoms", "xc"), FIXED_POINTS)
def test_fock_and_energies_belong_to_the_density(atoms: str, xc: str) -> None:
    system, functional = case(atoms, xc)
    sol = solved(atoms, xc)
    f, C = natural_orbitals(sol.density_matrix, system.overlap, orthogonalizer(system.overlap))
    slots = sol.occupations.shape[1]
    F, energies = dqc.energy.fock(system, functional, C[:, :, :slots], f[:, :slots], system.grid)
    np.testing.assert_allclose(F, sol.fock, atol=1e-9)
    np.testing.assert_allclose(energies.total, sol.energy, atol=1e-10)


@pytest.mark.parametrize("direct", [False, True])
def test_the_last_digits_of_a_state_that_almost_turns(direct: bool) -> None:
    """The oxygen atom in a field: direct minimisation goes on for long among differences near round-off."""
    functional = dqc.functional("lda,vwn")
    system = dqc.build(dqc.Molecule.from_string("O 0 0 0", spin=2), "6-31g", functional, 1, "exact")
    system = dqc.in_field(system, jnp.array([0.03, 0.01, 0.02]))
    sol = dqc.scf(system, functional, tolerance=1e-10, max_iterations=200, direct=direct)
    assert bool(sol.converged)
    unit = np.einsum("spk,pq,sqj->skj", sol.mo_coeff, system.overlap, sol.mo_coeff)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(unit.shape[1]), unit.shape), atol=1e-13)


def test_history_ends_in_nan_and_with_the_result() -> None:
    sol = solved()
    n = int(sol.iterations)
    for row, last in ((sol.history.energy, sol.energy), (sol.history.residual, sol.residual)):
        assert np.isfinite(row[:n]).all()
        assert np.isnan(row[n:]).all()
        assert row[n - 1] == last
    assert (sol.history.residual[: n - 1] >= 1e-6).all()


def test_unconverged_says_so() -> None:
    sol = dqc.scf(*case(), max_iterations=2)
    assert not bool(sol.converged)
    assert int(sol.iterations) == 2
    assert sol.message.startswith("Not converged")
    assert solved().message.startswith("Converged")
    assert sol.history.energy.shape == (2,)
    assert np.isfinite(float(sol.energy))


@pytest.mark.parametrize(
    ("guess", "options"),
    [("sap", {"level_shift": 0.5}), ("core", {"damping": 0.6})],
    ids=["level shift", "damping"],
)
@pytest.mark.parametrize("atoms", [WATER, HYDROXYL])
def test_level_shift_and_damping_keep_the_energy(atoms: str, guess: str, options: dict) -> None:
    plain = dqc.scf(*case(atoms), guess=guess, tolerance=1e-6)
    sol = dqc.scf(*case(atoms), guess=guess, tolerance=1e-6, **options)
    assert bool(sol.converged)
    np.testing.assert_allclose(sol.energy, solved(atoms).energy, atol=TIGHT)
    assert np.abs(sol.history.energy[2] - plain.history.energy[2]) > 1e-6  # they did something


@pytest.mark.parametrize("guess", ["sad", "core"])
def test_every_guess_leads_to_the_same_energy(guess: str) -> None:
    sol = dqc.scf(*case(), guess=guess, tolerance=1e-6)
    np.testing.assert_allclose(sol.energy, solved().energy, atol=TIGHT)


@pytest.mark.parametrize("atoms", [WATER, HYDROXYL])
def test_its_own_density_as_the_guess_is_converged_at_once(atoms: str) -> None:
    sol = dqc.scf(*case(atoms), guess=solved(atoms).density_matrix)
    assert int(sol.iterations) == 1
    np.testing.assert_allclose(sol.energy, solved(atoms).energy, atol=TIGHT)


@pytest.mark.parametrize(("atoms", "xc"), [(WATER, "hf"), (HYDROXYL, "hf"), (HYDROXYL, "pbe")])
def test_iterate_is_scf(atoms: str, xc: str) -> None:
    *states, sol = iterate(*case(atoms, xc), tolerance=1e-6)
    assert len(states) == int(sol.iterations) == int(solved(atoms, xc).iterations)
    for state, energy in zip(states, sol.history.energy, strict=False):
        assert state.energies.total == energy
    np.testing.assert_allclose(sol.energy, solved(atoms, xc).energy, atol=1e-11)
    np.testing.assert_allclose(sol.history.energy, solved(atoms, xc).history.energy, atol=1e-9)


def test_unrestricted_closed_shell_is_the_restricted_one() -> None:
    sol = dqc.scf(*case(), unrestricted=True, tolerance=1e-6)
    assert sol.density_matrix.shape[0] == 2
    np.testing.assert_allclose(sol.energy, solved().energy, atol=TIGHT)
    np.testing.assert_allclose(sol.density_matrix[0], sol.density_matrix[1], atol=1e-6)
    np.testing.assert_allclose(sol.density_matrix.sum(0), solved().density_matrix[0], atol=1e-6)


@pytest.mark.parametrize("xc", ["hf", "pbe"])
def test_spin_flip(xc: str) -> None:
    system, functional = case(HYDROXYL, xc)
    sol = solved(HYDROXYL, xc)
    flipped = dqc.scf(system, functional, occupations=system.occupations[::-1], tolerance=1e-6)
    np.testing.assert_allclose(flipped.energy, sol.energy, atol=TIGHT)
    np.testing.assert_allclose(flipped.mo_energy[::-1], sol.mo_energy, atol=1e-5)


FRACTIONAL = {
    "spherical atom": ("O 0 0 0", [[1, 1, 1, 1, 1], [1, 1, 1 / 3, 1 / 3, 1 / 3]]),
    "half an electron too few": (HYDROXYL, [[1, 1, 1, 1, 1], [1, 1, 1, 0.5, 0]]),
    "restricted, half a pair": (WATER, [[2, 2, 2, 2, 0.5]]),
}


@pytest.mark.parametrize("name", FRACTIONAL)
def test_fractional_occupations_against_pyscf(name: str) -> None:
    atoms, rows = FRACTIONAL[name]
    system, xc = case(atoms)
    sol = dqc.scf(system, xc, occupations=jnp.array(rows), tolerance=1e-7)
    mf = mean_field(atoms, unrestricted=len(rows) == 2)
    filled = np.zeros((len(rows), len(system.overlap)))
    filled[:, : len(rows[0])] = rows
    mf.get_occ = lambda *_: filled if len(rows) == 2 else filled[0]
    mf.kernel(dm0=np.asarray(sol.density_matrix if len(rows) == 2 else sol.density_matrix[0]))
    assert bool(sol.converged)
    assert mf.converged
    np.testing.assert_allclose(sol.energy, mf.e_tot, atol=1e-8)
    np.testing.assert_allclose(np.einsum("spq,qp->s", sol.density_matrix, system.overlap), np.sum(rows, 1))


STRETCHED = "N 0 0 0; N 0 0 1.9"


@pytest.mark.parametrize(("atoms", "charge", "kT"), [(STRETCHED, 0, 0.03), (WATER, 1, 0.1)])
def test_smearing_against_pyscf(atoms: str, charge: int, kT: float) -> None:
    sol = dqc.scf(*case(atoms, charge=charge), smearing=kT, tolerance=1e-7)
    mf = mean_field(atoms, charge)
    mf = scf.addons.smearing(mf, sigma=kT, method="fermi", fix_spin=len(sol.occupations) == 2)
    mf.conv_tol, mf.conv_tol_grad = 1e-12, 1e-7
    mf.kernel()
    assert bool(sol.converged)
    assert mf.converged
    np.testing.assert_allclose(sol.energy, mf.e_free, atol=1e-8)
    np.testing.assert_allclose(sol.energies.smearing, mf.e_free - mf.e_tot, atol=1e-7)
    np.testing.assert_allclose(sol.occupations, np.reshape(mf.mo_occ, sol.occupations.shape), atol=1e-5)
    partly = (sol.occupations > 1e-3) & (sol.occupations < (3 - len(sol.occupations)) - 1e-3)
    assert partly.any()


def test_weak_smearing_is_none() -> None:
    sol = dqc.scf(*case(), smearing=1e-3, tolerance=1e-6)
    np.testing.assert_allclose(sol.energy, solved().energy, atol=TIGHT)


def test_moments_break_the_symmetry() -> None:
    system, xc = case("H 0 0 0; H 0 0 3.5")
    restricted = dqc.scf(system, xc)
    broken = dqc.scf(system, xc, moments=jnp.array([1.0, -1.0]))
    atom = dqc.scf(*case("H 0 0 0"))
    assert broken.energy < restricted.energy - 0.1
    np.testing.assert_allclose(broken.energy, 2 * atom.energy, atol=1e-4)
    spin = broken.density_matrix[0] - broken.density_matrix[1]
    halves = np.einsum("pq,pq->p", spin, system.overlap).reshape(2, 2).sum(1)
    np.testing.assert_allclose(halves, [1.0, -1.0], atol=1e-3)


@pytest.mark.parametrize("atoms", [WATER, HYDROXYL, "C 0 0 0; C 0 0 1.3"])
def test_direct_minimisation_agrees_with_diis(atoms: str) -> None:
    method, system, xc, controls, *start, report = _prepare(
        *case(atoms), None, None, "sap", None, 0.0, 0.0, None, 150, 1e-6, "implicit", None, False
    )
    X, state = iterations.start(method, system, *start)
    state = replace(state, direct=jnp.asarray(True))
    accepted = []
    while not bool(state.converged) and int(state.iteration) < 150:
        state = _jitted_step(method._replace(guess=None), system, xc, controls, X, state)
        accepted.append(float(state.descent.energy))
    sol = _finish(method, system, xc, controls, X, state, start[0], report)
    assert bool(sol.converged)
    assert int(state.pulay.count) == 0  # no step of DIIS was taken
    assert (np.diff(accepted) < 1e-10).all()  # the energy of the accepted points falls
    np.testing.assert_allclose(sol.energy, solved(atoms).energy, atol=TIGHT)
    C = state.orbitals
    unit = np.einsum("spk,pq,sqj->skj", C, system.overlap, C)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(C.shape[2]), unit.shape), atol=1e-10)


def test_the_commutator_vanishes_for_any_function_of_the_fock_matrix() -> None:
    system, _ = case()
    X, F = orthogonalizer(system.overlap), solved().fock
    C = diagonalize(F, X)[1][:, :, 3:6]
    error = iterations.commutator(system, X, F, C, jnp.array([[2.0, 0.3, -1.0]]))
    assert np.abs(error).max() < 1e-10
    error = iterations.commutator(
        system, X, F, C[:, ::-1] * jnp.linspace(0.5, 1.0, 13)[:, None], jnp.ones((1, 3))
    )
    assert np.abs(error).max() > 1e-3


def test_a_second_molecule_of_the_same_shape_compiles_nothing() -> None:
    systems = [case(atoms) for atoms in ("N 0 0 0; N 0 0 1.1", "C 0 0 0; O 0 0 1.13", "B 0 0 0; F 0 0 1.26")]
    assert len({str(jax.tree.map(jnp.shape, system)) for system, _ in systems}) == 1
    compiled: list[str] = []
    listener = lambda event, _, **__: compiled.append(event) if "compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        first = dqc.scf(*systems[0], max_iterations=149)  # a shape that no other test compiles
        assert compiled
        compiled.clear()
        others = [dqc.scf(*pair, max_iterations=149) for pair in systems[1:]]
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert len({round(float(sol.energy), 3) for sol in (first, *others)}) == 3


@pytest.mark.parametrize(
    ("atoms", "xc", "guess"),
    [(FORMALDEHYDE, "lda,vwn", "sap"), (FORMALDEHYDE, "pbe", "density"), (CYANO, "pbe0", "sap")],
)
def test_the_coarse_grid_does_most_of_the_work_and_leaves_no_trace(atoms: str, xc: str, guess: str) -> None:
    system = dqc.build(dqc.Molecule.from_string(atoms), "6-31g", dqc.functional(xc), grid=3)
    assert system.coarse is not None
    alone = dqc.scf(replace(system, coarse=None), dqc.functional(xc), tolerance=1e-7)
    start = {} if guess == "sap" else {"guess": 0.98 * alone.density_matrix}
    *states, sol = iterate(system, dqc.functional(xc), tolerance=1e-7, **start)
    assert bool(sol.converged)
    np.testing.assert_allclose(sol.energy, alone.energy, atol=TIGHT)
    on_grid = [k for k, state in enumerate(states) if int(state.waited) == 0]
    assert on_grid[-1] == len(states) - 1
    assert len(on_grid) <= 4 < int(alone.iterations)
    # Once corrected, the coarse grid gives energy and residual of the grid: here on the same orbitals.
    for k in on_grid[1:]:
        np.testing.assert_allclose(states[k - 1].energies.total, states[k].energies.total, atol=1e-7)
        assert abs(states[k - 1].residual - states[k].residual) < 0.02 * states[on_grid[0]].residual
    first = on_grid[0]
    assert abs(states[first - 1].energies.total - states[first].energies.total) > 1e-6  # not yet corrected


def test_the_coarse_grid_leaves_no_trace_where_diis_fails() -> None:
    """The hole of OH turns freely: the field is found by direct minimisation."""
    xc = dqc.functional("lda,vwn")
    system = dqc.build(dqc.Molecule.from_string(HYDROXYL), "6-31g", xc, grid=3, two_electron="exact")
    assert system.coarse is not None
    *states, sol = iterate(system, xc, tolerance=1e-6)
    assert int(states[0].waited) > 0
    assert int(states[-1].waited) == 0
    alone = dqc.scf(replace(system, coarse=None), xc, tolerance=1e-6)
    np.testing.assert_allclose(sol.energy, alone.energy, atol=TIGHT)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_the_last_iteration_is_on_the_grid(iterations: int) -> None:
    xc = dqc.functional("pbe")
    system = dqc.build(dqc.Molecule.from_string(WATER), "sto-3g", xc, grid=2)
    *states, sol = iterate(system, xc, max_iterations=iterations)
    assert int(sol.iterations) == len(states) == iterations
    assert [int(state.waited) for state in states] == [*range(1, iterations), 0]
    if iterations == 1:
        alone = dqc.scf(replace(system, coarse=None), xc, max_iterations=1)
        np.testing.assert_allclose(sol.energy, alone.energy, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guess": "hueckel"}, "sap, sad, core"),
        ({"max_iterations": 0}, "at least 1"),
        ({"occupations": jnp.ones((3, 5))}, "occupations of shape"),
        ({"occupations": jnp.ones((1, 99))}, "13 orbitals"),
        ({"moments": jnp.ones(3), "unrestricted": False}, "two spins"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dqc.scf(*case(), **options)


def test_a_system_without_what_the_functional_needs_is_refused() -> None:
    system, _ = case()
    with pytest.raises(ValueError, match="no grid; build the system with xc="):
        dqc.scf(system, dqc.functional("pbe"))
    with pytest.raises(ValueError, match="range-separated"):
        dqc.scf(case(xc="pbe")[0], dqc.functional("camb3lyp"))
    with pytest.raises(ValueError, match="AO gradients"):
        dqc.scf(case(xc="lda,vwn")[0], dqc.functional("pbe"))
    with pytest.raises(TypeError, match="smering"):
        next(iterate(*case(), smering=0.1))
