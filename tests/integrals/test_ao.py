"""Atomic orbitals on points: PySCF's values, and harmonics that are orthonormal."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.basis import pyscf_mole, shells_of
from dqc.integrals.ao import _evaluate, _powers, ao_indices, ao_values, solid_harmonics

HYDROXYL = dqc.Molecule(["O", "H"], [[0.0, 0.1, -0.2], [0.3, -0.4, 1.5]])
CARBON = dqc.Molecule(["C"], [[0.1, -0.2, 0.3]])
POINTS = np.random.default_rng(5).normal(scale=1.5, size=(40, 3))
POINTS[0] = HYDROXYL.coords[0]  # a nucleus


def scattered(mole: Any, points: np.ndarray, order: int = 1, ghosts: int = 0) -> np.ndarray:
    """AO values (d, c, n) in PySCF's order, with some ghosts among the shells asked for."""
    basis = jax.tree.map(jnp.asarray, shells_of(mole))
    active = tuple(
        jnp.asarray(np.r_[np.arange(len(s.atom)), [len(s.atom) + 5] * ghosts][::-1].astype(np.int32))
        for s in basis
    )
    values = ao_values(basis, jnp.asarray(mole.atom_coords()), active, jnp.asarray(points), order)
    index = np.minimum(ao_indices(basis, active), mole.nao)
    assert sorted(index[index < mole.nao]) == list(range(mole.nao))
    np.testing.assert_array_equal(np.asarray(values)[:, :, index == mole.nao], 0.0)
    table = np.zeros((len(values), len(points), mole.nao + 1))
    table[:, :, index] = values
    return table[:, :, :-1]


@pytest.mark.parametrize(
    ("molecule", "basis", "highest"),
    [
        (CARBON, "def2-qzvp", 4),
        (HYDROXYL, "6-31g*", 2),
        (HYDROXYL, "cc-pvdz", 2),  # general contraction: several functions share their primitives
        (HYDROXYL, "def2-svp", 2),
    ],
)
def test_values_and_gradients_are_those_of_pyscf(molecule: dqc.Molecule, basis: str, highest: int) -> None:
    mole = pyscf_mole(molecule, basis)
    assert len(shells_of(mole)) == highest + 1
    theirs = mole.eval_gto("GTOval_sph_deriv1", POINTS)
    ours = scattered(mole, POINTS)
    for name, a, b in zip(("value", "x", "y", "z"), ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 * np.abs(theirs).max(), err_msg=name)


def test_ghosts_among_the_shells_give_zeros() -> None:
    mole = pyscf_mole(HYDROXYL, "def2-svp")
    np.testing.assert_array_equal(scattered(mole, POINTS, ghosts=3), scattered(mole, POINTS))


def test_a_subset_of_shells() -> None:
    mole = pyscf_mole(HYDROXYL, "def2-svp")
    basis = jax.tree.map(jnp.asarray, shells_of(mole))
    active = (jnp.asarray([1], jnp.int32), jnp.asarray([], jnp.int32), jnp.asarray([0], jnp.int32))
    values = ao_values(basis, jnp.asarray(mole.atom_coords()), active, jnp.asarray(POINTS), order=0)
    index = ao_indices(basis, active)
    assert values.shape == (1, len(POINTS), 1 + 5)
    np.testing.assert_allclose(values[0], mole.eval_gto("GTOval_sph", POINTS)[:, index], rtol=1e-11)


def test_gradients_are_derivatives_of_the_values() -> None:
    mole = pyscf_mole(HYDROXYL, "cc-pvdz")
    basis = jax.tree.map(jnp.asarray, shells_of(mole))
    active = tuple(jnp.arange(len(s.atom), dtype=jnp.int32) for s in basis)
    coords, points = jnp.asarray(mole.atom_coords()), jnp.asarray(POINTS)
    values = ao_values(basis, coords, active, points)
    for axis in range(3):
        along = jnp.zeros_like(points).at[:, axis].set(1.0)
        _, slope = jax.jvp(lambda r: ao_values(basis, coords, active, r, order=0)[0], (points,), (along,))
        np.testing.assert_allclose(slope, values[1 + axis], rtol=1e-11, atol=1e-12)


def test_derivatives_of_the_gradients_are_pyscfs() -> None:
    mole = pyscf_mole(HYDROXYL, "cc-pvtz")
    basis = jax.tree.map(jnp.asarray, shells_of(mole))
    active = tuple(jnp.arange(len(s.atom), dtype=jnp.int32) for s in basis)
    index = ao_indices(basis, active)
    second = mole.eval_gto("GTOval_sph_deriv2", POINTS)[4:][..., index]
    hessian = second[np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])]  # of xx, xy, xz, yy, yz, zz
    along = np.random.default_rng(6).normal(size=POINTS.shape)
    move = lambda r: ao_values(basis, jnp.asarray(mole.atom_coords()), active, r)[1:]  # noqa: E731
    _, change = jax.jvp(move, (jnp.asarray(POINTS),), (jnp.asarray(along),))
    expected = np.einsum("xydm,dy->xdm", hessian, along)
    np.testing.assert_allclose(change, expected, rtol=1e-10, atol=1e-10)
    cotangent = np.random.default_rng(7).normal(size=change.shape)
    (pulled,) = jax.vjp(move, jnp.asarray(POINTS))[1](jnp.asarray(cotangent))
    np.testing.assert_allclose(pulled, np.einsum("xdm,xydm->dy", cotangent, hessian), rtol=1e-10, atol=1e-9)


def harmonics(l: int, points: jnp.ndarray) -> jnp.ndarray:
    """r^l Y_lm on points (g, x): shape (m, g)."""
    powers = _powers(l, *(points[:, None, axis] for axis in range(3)))
    rows = [_evaluate(p, powers) for p in solid_harmonics(l)]
    return jnp.stack([jnp.broadcast_to(jnp.asarray(row, float), (len(points), 1))[:, 0] for row in rows])


@pytest.mark.parametrize("l", range(6))
def test_solid_harmonics_are_orthonormal_on_the_sphere(l: int) -> None:
    from pyscf.dft.gen_grid import MakeAngularGrid

    table = MakeAngularGrid(194)
    weights = 4 * np.pi * table[:, 3]
    Y = [np.asarray(harmonics(k, jnp.asarray(table[:, :3]))) for k in range(l + 1)]
    assert Y[l].shape == (2 * l + 1, 194)
    np.testing.assert_allclose((Y[l] * weights) @ Y[l].T, np.eye(2 * l + 1), atol=1e-12)
    for lower in Y[:l]:
        np.testing.assert_allclose((Y[l] * weights) @ lower.T, 0.0, atol=1e-12)


@pytest.mark.parametrize("l", range(5))
def test_solid_harmonics_are_homogeneous_and_harmonic(l: int) -> None:
    r = jnp.asarray([0.3, -0.8, 0.5])
    value = lambda r: harmonics(l, r[None])[:, 0]  # noqa: E731
    np.testing.assert_allclose(value(2.0 * r), 2.0**l * value(r), rtol=1e-12)
    laplacian = jnp.trace(jax.hessian(value)(r), axis1=1, axis2=2)
    np.testing.assert_allclose(laplacian, 0.0, atol=1e-11)
