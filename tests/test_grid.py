"""Integration grids: PySCF's weights, the partition's properties, and what screening leaves out."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyscf.data.radii import BRAGG
from pyscf.dft import gen_grid

import dqc
from dqc import grid as grids
from dqc.basis import pyscf_mole, shells_of
from dqc.energy import semilocal
from dqc.grid import _chunked, atomic_points, becke_share, becke_weights, build_grid, chunk_order
from dqc.guess import starting_orbitals
from dqc.linalg import orthogonalizer

WATER = dqc.Molecule(["O", "H", "H"], [[0.0, 0.0, 0.22], [0.1, 1.43, -0.89], [0.0, -1.43, -0.89]])
IODIDE = dqc.Molecule(["H", "I"], [[0.0, 0.0, 0.0], [0.0, 0.3, 3.0]])
LITHIUM = dqc.Molecule(["Li"], [[1.0, 2.0, 3.0]])
CHAIN = dqc.Molecule(
    ["C", "C"] * 4 + ["H"] * 2,
    [[0.0, 0.3 * (-1) ** k, 2.4 * k] for k in range(8)] + [[0.0, 0.0, -2.0], [0.0, 0.0, 18.8]],
)


def whole(molecule: dqc.Molecule, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights, in PySCF's order, none dropped."""
    mole = pyscf_mole(molecule, "def2-svp")
    radii = BRAGG[list(molecule.numbers)]
    atom, offset, quadrature = atomic_points(mole, level)
    chunks = (_chunked(x, 500) for x in (atom, offset, quadrature))
    weights = becke_weights(*chunks, molecule.coords, radii)
    return molecule.coords[atom] + offset, np.asarray(weights).reshape(-1)[: len(atom)]


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("molecule", [WATER, IODIDE, LITHIUM], ids=["water", "hydrogen iodide", "lithium"])
def test_points_and_weights_are_those_of_pyscf(molecule: dqc.Molecule, level: int) -> None:
    peer = gen_grid.Grids(pyscf_mole(molecule, "def2-svp"))
    peer.level, peer.alignment = level, 0
    peer.build(sort_grids=False)
    points, weights = whole(molecule, level)
    np.testing.assert_allclose(points, peer.coords, atol=1e-12)
    # A share is a product of factors as small as the distance to a nodal plane: its error is absolute.
    quadrature = atomic_points(pyscf_mole(molecule, "def2-svp"), level)[2]
    assert np.abs(weights - peer.weights).max() <= 1e-12 * np.abs(peer.weights).max()
    assert (np.abs(weights - peer.weights) <= 1e-12 * np.abs(quadrature)).all()


def test_shares_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.normal(scale=3.0, size=(200, 3)))
    radii = jnp.asarray(BRAGG[list(WATER.numbers)])
    coords = jnp.asarray(WATER.coords)
    shares = np.stack([becke_share(points, jnp.full(200, a, jnp.int32), coords, radii) for a in range(3)])
    np.testing.assert_allclose(shares.sum(0), 1.0, rtol=1e-13)
    assert shares.min() >= 0.0
    assert shares.max(1).min() > 0.9, "near its nucleus a point belongs to it"


def test_a_ghost_atom_takes_no_share() -> None:
    points = jnp.asarray(np.random.default_rng(1).normal(size=(50, 3)))
    atom = jnp.asarray(np.arange(50) % 3, jnp.int32)
    coords, radii = jnp.asarray(WATER.coords), jnp.asarray(BRAGG[list(WATER.numbers)])
    with_ghost = becke_share(
        points, atom, jnp.concatenate([coords, jnp.asarray([[0.1, 0.2, 0.3]])]), jnp.append(radii, 0.0)
    )
    np.testing.assert_allclose(with_ghost, becke_share(points, atom, coords, radii), rtol=1e-14)


def test_chunks_are_compact_cells() -> None:
    points = np.random.default_rng(0).uniform(size=(1000, 3)) * [4.0, 1.0, 1.0]
    order = chunk_order(points, 64)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))

    def extent(order: np.ndarray) -> float:
        return float(np.mean([np.ptp(points[order[k : k + 64]], axis=0).prod() for k in range(0, 960, 64)]))

    assert extent(order) < 0.2 * extent(np.arange(1000))
    assert list(chunk_order(points[:10], 64)) == list(range(10))


@cache
def built(molecule: dqc.Molecule) -> grids.Grid:
    mole = pyscf_mole(molecule, "sto-3g")
    return build_grid(mole, shells_of(mole), 1, 300)


def test_blocks_hold_every_point_of_weight_once() -> None:
    points, weights = whole(CHAIN, 1)
    kept = np.abs(weights) > grids.POINT_THRESHOLD
    grid = built(CHAIN)
    ours = np.concatenate([np.asarray(b.weights).reshape(-1) for b in grid.blocks])
    coords = np.concatenate(
        [(CHAIN.coords[np.asarray(b.atom)] + np.asarray(b.offset)).reshape(-1, 3) for b in grid.blocks]
    )
    real = ours != 0
    assert real.sum() == kept.sum()
    ranks = [np.lexsort(np.round(x, 9).T) for x in (coords[real], points[kept])]
    np.testing.assert_allclose(coords[real][ranks[0]], points[kept][ranks[1]], atol=1e-9)
    np.testing.assert_allclose(ours[real][ranks[0]], weights[kept][ranks[1]], rtol=1e-9, atol=1e-13)


def test_screening_changes_nothing_to_speak_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving out the AOs that do not reach a chunk: the energy within 1e-8, and fewer AOs."""
    xc = dqc.functional("lda,vwn")

    def energy() -> tuple[float, np.ndarray, int]:
        system = dqc.build(CHAIN, "sto-3g", xc, grid=1, ao="recomputed")
        f = system.occupations
        C = starting_orbitals(system, orthogonalizer(system.overlap), 1, "sap")[:, :, : f.shape[1]]
        F, E = jax.jit(lambda s: semilocal(s, xc, C, f, s.grid))(system)
        work = sum(
            b.weights.size * sum((2 * l + 1) * s.shape[1] for l, s in enumerate(b.shells))
            for b in system.grid.blocks
        )
        return float(E), np.asarray(F), work

    screened = energy()
    monkeypatch.setattr(grids, "shell_reach", lambda basis: tuple(np.full(len(s.atom), 1e3) for s in basis))
    complete = energy()
    assert abs(screened[0] - complete[0]) <= 1e-8
    np.testing.assert_allclose(screened[1], complete[1], atol=1e-6)
    assert screened[2] < 0.95 * complete[2]


def test_reach_is_where_a_shell_has_decayed() -> None:
    basis = shells_of(pyscf_mole(WATER, "def2-svp"))
    for l, (shells, reach) in enumerate(zip(basis, grids.shell_reach(basis), strict=True)):
        for h, r in enumerate(reach):
            size = lambda x: abs((shells.coefficients[h] * np.exp(-shells.exponents[h] * x**2)).sum()) * x**l  # noqa: B023, E731
            assert max(size(x) for x in np.linspace(r, 60.0, 500)) <= 1.01 * grids.AO_THRESHOLD
            assert size(0.8 * r) > grids.AO_THRESHOLD


def gaussian_error(level: int, turn: np.ndarray) -> float:
    """The error of the integral of exp(-|r - A|^2), with A fixed to the (turned) molecule."""
    molecule = dqc.Molecule(WATER.symbols, WATER.coords @ turn.T)
    points, weights = whole(molecule, level)
    center = turn @ np.array([0.0, 0.7, -0.3])
    return float(weights @ np.exp(-((points - center) ** 2).sum(1)) / np.pi**1.5 - 1.0)


def test_integrals_are_right_however_the_molecule_is_turned() -> None:
    rng = np.random.default_rng(3)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(3)]
    worst = [max(abs(gaussian_error(level, turn)) for turn in turns) for level in (0, 3, 5)]
    assert worst[1] < 1e-4
    assert worst[0] > worst[1] > worst[2]


def test_weights_are_differentiable() -> None:
    mole = pyscf_mole(WATER, "sto-3g")
    atom, offset, quadrature = (_chunked(x[::7], 500) for x in atomic_points(mole, 0))
    radii = jnp.asarray(BRAGG[list(WATER.numbers)])
    rng = np.random.default_rng(0)
    factor = jnp.asarray(rng.normal(size=quadrature.shape))

    @jax.jit
    def total(coords: jnp.ndarray) -> jnp.ndarray:
        weights = becke_weights(
            jnp.asarray(atom), jnp.asarray(offset), jnp.asarray(quadrature), coords, radii
        )
        return (factor * weights).sum()

    coords = jnp.asarray(WATER.coords)
    direction = jnp.asarray(rng.normal(size=coords.shape))
    slope = jnp.vdot(jax.grad(total)(coords), direction)
    h = 1e-4
    difference = (
        8 * (total(coords + h * direction) - total(coords - h * direction))
        - (total(coords + 2 * h * direction) - total(coords - 2 * h * direction))
    ) / (12 * h)
    assert abs(float(slope)) > 1e-3
    np.testing.assert_allclose(slope, difference, rtol=1e-7)


def test_the_gradient_is_finite_with_a_point_on_a_nucleus() -> None:
    coords, radii = jnp.asarray(WATER.coords), jnp.asarray(BRAGG[list(WATER.numbers)])
    atom = jnp.zeros(1, jnp.int32)
    slope = jax.grad(lambda R: becke_share(R[:1], atom, R, radii).sum())(coords)
    assert np.isfinite(np.asarray(slope)).all()
