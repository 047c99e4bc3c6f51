"""Harmonic vibrations: exact force fields, differences of energies, and PySCF's analytic Hessian."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.constants import DALTON_IN_ELECTRON_MASSES, HARTREE_IN_INVERSE_CM, MASSES
from dqc.guess import starting_density
from dqc.properties.vibrations import Curvature, _first, curvature, normal_modes

WATER = dqc.Molecule(["O", "H", "H"], [[0, 0, 0.22], [0, 1.44, -0.9], [0.1, -1.44, -0.88]])


@cache
def water() -> tuple[dqc.System, dqc.Functional, Curvature]:
    xc = dqc.functional("lda,vwn")
    system = dqc.build(WATER, "sto-3g", xc, grid=1)
    return system, xc, curvature(system, xc)


def springs(coords: np.ndarray, pairs: list[tuple[int, int, float]]) -> Curvature:
    """The Hessian of E = sum k (|R_a - R_b| - r)^2 / 2 at its minimum, with unit charges + and - by turns."""

    def energy(moved: jax.Array) -> jax.Array:
        lengths = [jnp.linalg.norm(moved[a] - moved[b]) for a, b, _ in pairs]
        rest = [np.linalg.norm(coords[a] - coords[b]) for a, b, _ in pairs]
        return sum(0.5 * k * (l - r) ** 2 for (_, _, k), l, r in zip(pairs, lengths, rest, strict=True))

    signs = (-1.0) ** jnp.arange(len(coords))
    return Curvature(jax.hessian(energy)(jnp.asarray(coords)), signs[:, None, None] * jnp.eye(3))


def test_two_masses_on_a_spring() -> None:
    """omega = sqrt(k / mu), and the transition moment of one electron charge."""
    coords = np.array([[0.3, 0.2, 0.1], [0.3, 1.4, 1.1]])
    found = normal_modes(np.array([1.0, 3.0]), coords, springs(coords, [(0, 1, 0.4)]))
    reduced = 0.75 * DALTON_IN_ELECTRON_MASSES
    expected = np.sqrt(0.4 / reduced) * HARTREE_IN_INVERSE_CM
    assert found.frequencies == pytest.approx([expected], rel=1e-10)
    assert found.intensities == pytest.approx([974.880 / 0.75], rel=1e-5)  # e^2/dalton in km/mol
    assert found.zero_point_energy == pytest.approx(np.sqrt(0.4 / reduced) / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("coords", "modes"),
    [
        ([[0.0, 0.0, 0.0]], 0),
        ([[0.0, 0.0, 0.0], [0.5, 1.0, 1.0]], 1),
        ([[0.0, 0.0, 0.0], [0.5, 1.0, 1.0], [1.1, 2.2, 2.2]], 4),
        ([[0.0, 0.0, 0.0], [0.5, 1.0, 1.0], [1.0, 2.0, 1.5]], 3),
    ],
    ids=["atom", "diatomic", "linear", "bent"],
)
def test_translations_and_rotations_are_left_out(coords: list, modes: int) -> None:
    positions, n = np.array(coords), len(coords)
    masses = np.arange(1.0, n + 1.0)
    stiff = Curvature(jnp.eye(3 * n).reshape(n, 3, n, 3), jnp.zeros((n, 3, 3)))
    found = normal_modes(masses, positions, stiff)
    assert found.frequencies.shape == (modes,)
    L = found.modes * np.sqrt(masses * DALTON_IN_ELECTRON_MASSES)[:, None]
    np.testing.assert_allclose(np.einsum("vax,wax->vw", L, L), np.eye(modes), atol=1e-12)
    momentum = np.einsum("a,vax->vx", masses, found.modes)
    np.testing.assert_allclose(momentum, 0.0, atol=1e-12)
    arms = positions - masses @ positions / masses.sum()
    angular = np.einsum("a,vax->vx", masses, np.cross(arms, found.modes))
    np.testing.assert_allclose(angular, 0.0, atol=1e-12)


def test_an_imaginary_frequency_is_negative() -> None:
    coords = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]])
    found = normal_modes(np.array([1.0, 1.0]), coords, springs(coords, [(0, 1, -0.4)]))
    assert found.frequencies[0] < 0
    assert found.zero_point_energy == 0


def test_hessian_is_the_second_difference_of_the_energy() -> None:
    system, xc, found = water()
    v = jnp.asarray(np.random.default_rng(3).normal(size=(3, 3)))
    h = 0.01
    move = jax.jit(dqc.at)
    energies = [
        float(dqc.scf(move(system, system.coords + k * h * v), xc, tolerance=1e-7).energy)
        for k in (-2, -1, 0, 1, 2)
    ]
    second = np.dot([-1, 16, -30, 16, -1], energies) / (12 * h**2)
    assert float(jnp.einsum("ax,axby,by->", v, found.hessian, v)) == pytest.approx(second, rel=1e-4)


def test_the_molecule_may_move_as_a_whole() -> None:
    """Shifts cost nothing; the dipole moment of a neutral molecule does not change."""
    found = water()[2]
    np.testing.assert_allclose(found.hessian.sum(2), 0.0, atol=2e-5)
    np.testing.assert_allclose(found.dipole_derivatives.sum(0), 0.0, atol=2e-5)
    H = found.hessian.reshape(9, 9)
    np.testing.assert_array_equal(H, H.T)


def test_vibrations_reports_progress_and_takes_masses() -> None:
    system, xc, expected = water()
    seen: list[tuple[int, int]] = []
    heavy = [MASSES["O"], 2.014, 2.014]
    found = dqc.vibrations(WATER, system, xc, masses=heavy, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(k, 9) for k in range(1, 10)]
    np.testing.assert_allclose(found.hessian, expected.hessian, atol=1e-12)
    light = normal_modes(np.array([MASSES[s] for s in WATER.symbols]), np.asarray(system.coords), expected)
    ratios = light.frequencies / found.frequencies
    assert ((ratios > 1.3) & (ratios < np.sqrt(2))).all()


def test_all_displacements_share_their_programs() -> None:
    system, xc, _ = water()
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    dqc.hessian(system, xc, step=0.01)
    assert [event for event in compiled if "backend_compile" in event] == []


def test_a_field_that_does_not_converge_gives_nan() -> None:
    system, xc, found = water()
    options = {"guess": starting_density(system), "tolerance": 1e-30}
    slope, moment = _first(system, xc, system.coords, options)
    assert np.isnan(slope).all()
    assert np.isnan(moment).all()
    broken = found._replace(hessian=found.hessian.at[0, 0].set(jnp.nan))
    nothing = normal_modes(np.ones(3), np.asarray(system.coords), broken)
    assert np.isnan(nothing.frequencies).all()
    assert np.isnan(nothing.intensities).all()


def test_other_masses_than_atoms_are_refused() -> None:
    system, xc, _ = water()
    with pytest.raises(ValueError, match=r"masses of shape \(2,\) for the 3 atoms"):
        dqc.vibrations(WATER, system, xc, masses=[1.0, 1.0])


def test_the_starting_density_starts_as_its_name() -> None:
    system, xc, _ = water()
    by_name, by_density = (dqc.scf(system, xc, guess=g) for g in ("sap", starting_density(system, "sap")))
    assert int(by_name.iterations) == int(by_density.iterations)
    np.testing.assert_allclose(by_name.history.energy, by_density.history.energy, atol=1e-8)


@pytest.mark.slow
def test_against_pyscf() -> None:
    """PySCF's Hessian holds the grid fixed, so that both are compared on a fine one."""
    dft = pytest.importorskip("pyscf.dft")
    gto = pytest.importorskip("pyscf.gto")
    thermo = pytest.importorskip("pyscf.hessian.thermo")
    mol = gto.M(
        atom=list(zip(WATER.symbols, WATER.coords, strict=True)), unit="bohr", basis="def2-svp", verbose=0
    )
    peer = dft.RKS(mol, xc="pbe").density_fit()
    peer.grids.level = 5
    peer.conv_tol = 1e-11
    peer.run()
    theirs = thermo.harmonic_analysis(mol, peer.Hessian().kernel(), imaginary_freq=False)
    xc = dqc.functional("pbe")
    ours = dqc.vibrations(WATER, dqc.build(WATER, "def2-svp", xc, grid=5), xc)
    np.testing.assert_allclose(ours.frequencies, theirs["freq_wavenumber"], atol=0.5)
    moments = np.einsum("vax,axy->vy", theirs["norm_mode"].reshape(3, 3, 3), _their_dipole_slopes(peer))
    np.testing.assert_allclose(ours.intensities, 974.880 * (moments**2).sum(1), rtol=0.01)


def _their_dipole_slopes(peer, step: float = 0.01) -> np.ndarray:
    """d mu / dR of a PySCF field by central differences, e."""
    slopes = np.zeros((peer.mol.natm, 3, 3))
    for index in np.ndindex(peer.mol.natm, 3):
        for sign in (1, -1):
            coords = peer.mol.atom_coords()
            coords[index] += sign * step
            moved = peer.copy().reset(peer.mol.set_geom_(coords, unit="bohr", inplace=False))
            moved.kernel(peer.make_rdm1())
            slopes[index] += sign * moved.dip_moment(unit="AU", verbose=0) / (2 * step)
    return slopes
