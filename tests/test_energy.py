"""The energy and the Fock matrix: one is the derivative of the other, and both obey exact relations."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import dqc
from dqc.basis import pyscf_mole
from dqc.energy import fock
from dqc.types import pytree
from dqc.xc.features import Features
from dqc.xc.functional import Needs

HYDROXYL = (["O", "H"], [[0.0, 0.0, 0.0], [0.2, 0.9, 1.5]])
WATER = (["O", "H", "H"], [[0.0, 0.0, 0.22], [0.1, 1.43, -0.89], [0.0, -1.43, -0.89]])


@pytree
class Count:
    """A "functional" whose energy density is the density: its energy counts the electrons on the grid."""

    @property
    def needs(self) -> Needs:
        return Needs(rung="lda")

    def exchange(self) -> dict[float, Float[Array, ""]]:
        return {}

    def __call__(self, features: Features) -> Float[Array, " g"]:
        return features.rho.sum(0)


def local_hybrid() -> dqc.Neural:
    """A local hybrid with weights that are anything but its parent's."""
    xc = dqc.neural("pbe0", "local_hybrid")
    leaves, tree = jax.tree.flatten(xc)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * rng.normal(size=x.shape)) for x in leaves])


@cache
def hydroxyl(xc: str, two_electron: str) -> tuple[dqc.System, dqc.Functional]:
    functional = local_hybrid() if xc == "local hybrid" else dqc.functional(xc)
    return dqc.build(
        dqc.Molecule(*HYDROXYL), "sto-3g", functional, grid=0, two_electron=two_electron
    ), functional


FOCKS = [
    (xc, two_electron, spins)
    for xc, two_electron in (
        ("hf", "exact"),
        ("hf", "df"),
        ("lda,vwn", "exact"),
        ("pbe", "df"),
        ("r2scan", "df"),
        ("b3lyp", "exact"),
        ("camb3lyp", "df"),
        ("local hybrid", "df"),
        ("local hybrid", "exact"),
    )
    for spins in (1, 2)
]


@pytest.mark.parametrize(("xc", "two_electron", "spins"), FOCKS)
def test_fock_is_the_gradient_of_the_energy(xc: str, two_electron: str, spins: int) -> None:
    """dE/dC = 2 F C f and dE/df_i = C_i^T F C_i at orbitals and occupations of no special kind."""
    system, functional = hydroxyl(xc, two_electron)
    rng = np.random.default_rng(3)
    n = len(system.overlap)
    vectors = np.linalg.eigh(system.kinetic + system.nuclear)[1]
    C = jnp.asarray(vectors[:, :5] + 0.1 * rng.normal(size=(spins, n, 5))) / 1.2
    f = jnp.asarray((3 - spins) * rng.uniform(0.3, 1.0, size=(spins, 5)))

    @jax.jit
    def both(C, f):
        energy = lambda C, f: fock(system, functional, C, f, system.grid)[1].total  # noqa: E731
        return jax.grad(energy, (0, 1))(C, f), fock(system, functional, C, f, system.grid)[0]

    (by_orbitals, by_occupations), F = both(C, f)
    np.testing.assert_allclose(F, F.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(by_orbitals, 2 * F @ C * f[:, None], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_occupations, np.einsum("spi,spq,sqi->si", C, F, C), rtol=1e-9, atol=1e-9)


def test_the_semilocal_energy_is_the_sum_over_the_grid() -> None:
    """The electrons on the grid are tr(P S), the better the finer it is."""
    errors = []
    for level in (0, 3, 5):
        system = dqc.build(dqc.Molecule(*WATER), "6-31g", Count(), grid=level, two_electron="exact")
        C = np.linalg.eigh(system.kinetic + system.nuclear)[1][None, :, :5]
        f = jnp.full((1, 5), 2.0)
        P = np.einsum("spi,sqi->pq", C, 2.0 * C)
        counted = fock(system, Count(), jnp.asarray(C), f, system.grid)[1].xc
        errors.append(abs(float(counted) - np.vdot(P, system.overlap)))
    assert errors[1] < 1e-4
    assert errors[2] < 1e-5
    assert errors[0] > errors[1] > errors[2]


def even_tempered(start: float, ratio: float, count: int) -> list:
    return [[0, [start * ratio**k, 1.0]] for k in range(count)]


@pytest.mark.parametrize("two_electron", ["exact", "df"])
@pytest.mark.parametrize(("symbol", "Z"), [("H", 1), ("He", 2), ("Li", 3), ("C", 6)])
def test_hydrogenic_atoms(symbol: str, Z: int, two_electron: str) -> None:
    """One electron does not repel itself: E = -Z^2/2, and <T> = Z^2/2."""
    mol = dqc.Molecule([symbol], [[0.0, 0.0, 0.0]], charge=Z - 1)
    basis = {symbol: even_tempered(0.02 * Z**2, 2.0, 24)}
    auxiliary = {symbol: even_tempered(0.04 * Z**2, 3.0, 12)}
    options = {"auxbasis": auxiliary} if two_electron == "df" else {}
    xc = dqc.functional("hf")
    sol = dqc.scf(dqc.build(mol, basis, xc, two_electron=two_electron, **options), xc, tolerance=1e-8)
    assert bool(sol.converged)
    np.testing.assert_allclose(sol.energy, -(Z**2) / 2, rtol=1e-7)
    np.testing.assert_allclose(sol.energies.kinetic, Z**2 / 2, rtol=1e-6)
    np.testing.assert_allclose(sol.mo_energy[0, 0], -(Z**2) / 2, rtol=1e-7)


@pytest.mark.parametrize("xc", ["hf", "slater"])
def test_virial_theorem(xc: str) -> None:
    """E = -T where every interaction scales as 1/r: exact exchange, and the local exchange of Dirac."""
    functional = dqc.functional(xc)
    mol = dqc.Molecule(["He"], [[0.0, 0.0, 0.0]])
    basis = {"He": even_tempered(0.04, 2.0, 20)}
    system = dqc.build(mol, basis, functional, grid=5, two_electron="exact")
    sol = dqc.scf(system, functional, tolerance=1e-7)
    np.testing.assert_allclose(sol.energy / sol.energies.kinetic, -1.0, atol=1e-6)
    limit = {"hf": -2.8616799956, "slater": -2.7236398}[xc]  # of a complete basis
    np.testing.assert_allclose(sol.energy, limit, atol=2e-6)


def energy(symbols: list, coords: Array, xc: str, grid: int = 3, basis: str = "6-31g") -> float:
    functional = dqc.functional(xc)
    mol = dqc.Molecule(symbols, np.asarray(coords))
    return float(dqc.scf(dqc.build(mol, basis, functional, grid=grid), functional, tolerance=1e-6).energy)


@cache
def at_rest(xc: str, grid: int = 3) -> float:
    return energy(*WATER, xc, grid)


@pytest.mark.parametrize("xc", ["hf", "lda,vwn"])
def test_translation(xc: str) -> None:
    symbols, coords = WATER
    moved = energy(symbols, np.add(coords, [3.1, -20.7, 11.3]), xc)
    np.testing.assert_allclose(moved, at_rest(xc), rtol=0, atol=1e-9)


@pytest.mark.parametrize("xc", ["hf", "lda,vwn"])
def test_permutation_of_atoms(xc: str) -> None:
    symbols, coords = WATER
    order = [2, 0, 1]
    permuted = energy([symbols[k] for k in order], np.array(coords)[order], xc)
    np.testing.assert_allclose(permuted, at_rest(xc), rtol=0, atol=1e-9)


def rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """Rodrigues's formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    K = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * K @ K


TURN = rotation((1.0, 2.0, -0.5), 0.9)


def test_rotation_without_a_grid() -> None:
    symbols, coords = WATER
    turned = energy(symbols, np.array(coords) @ TURN.T, "hf")
    np.testing.assert_allclose(turned, at_rest("hf"), rtol=0, atol=1e-9)


def test_rotation_to_the_error_of_the_grid() -> None:
    symbols, coords = WATER
    errors = [
        abs(energy(symbols, np.array(coords) @ TURN.T, "lda,vwn", level) - at_rest("lda,vwn", level))
        for level in (1, 3, 6)
    ]
    assert errors[1] <= 1e-5
    assert errors[0] > errors[1] > errors[2]


def test_integrals_are_those_of_pyscf() -> None:
    mol = dqc.Molecule(*HYDROXYL)
    mole = pyscf_mole(mol, "6-31g")
    system = dqc.build(mol, "6-31g", dqc.functional("hf"), two_electron="exact")
    table = {
        "overlap": (system.overlap, mole.intor("int1e_ovlp")),
        "kinetic": (system.kinetic, mole.intor("int1e_kin")),
        "nuclear": (system.nuclear, mole.intor("int1e_nuc")),
        "repulsion of the nuclei": (system.nuclear_repulsion, mole.energy_nuc()),
    }
    for name, (ours, theirs) in table.items():
        np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=name)
