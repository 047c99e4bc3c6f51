"""Orthonormal combinations of AOs, near-dependent ones among them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from dqc.density import density_matrix
from dqc.linalg import OVERLAP_THRESHOLD, diagonalize, ghost_level, natural_orbitals, orthogonalizer


def overlap(n: int = 6, copies: int = 0, distance: float = 1e-7) -> jnp.ndarray:
    """The overlap of n random unit vectors and of near copies of the first of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 2 * n))
    near = vectors[:copies] + distance * rng.normal(size=(copies, 2 * n))
    vectors = np.concatenate([vectors, near])
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return jnp.asarray(vectors @ vectors.T)


def symmetric(spins: int, n: int, seed: int = 1) -> jnp.ndarray:
    F = np.random.default_rng(seed).normal(size=(spins, n, n))
    return jnp.asarray(F + F.transpose(0, 2, 1))


def test_the_orthogonalizer_makes_the_overlap_one() -> None:
    S = overlap()
    X = orthogonalizer(S)
    np.testing.assert_allclose(X.T @ S @ X, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("copies", [1, 3])
def test_dropped_combinations_are_zero_orbitals_high_up(copies: int) -> None:
    S, F = overlap(copies=copies), symmetric(2, 6 + copies)
    X = orthogonalizer(S)
    metric = np.asarray(X.T @ S @ X)
    assert sorted(np.round(np.diag(metric), 6)) == [0.0] * copies + [1.0] * 6
    e, C = diagonalize(F, X)
    assert (np.asarray(e[:, 6:]) >= ghost_level(X.dtype)).all()
    np.testing.assert_array_equal(C[:, :, 6:], 0.0)
    np.testing.assert_allclose(C[:, :, :6].transpose(0, 2, 1) @ S @ C[:, :, :6], [np.eye(6)] * 2, atol=1e-6)
    # The kept levels are those of the space that the well-conditioned combinations span.
    values, vectors = np.linalg.eigh(S)
    kept = values > OVERLAP_THRESHOLD
    Y = vectors[:, kept] / np.sqrt(values[kept])
    np.testing.assert_allclose(e[:, :6], np.linalg.eigvalsh(Y.T @ np.asarray(F) @ Y), atol=1e-9)


def test_the_levels_of_ghosts_are_distinct() -> None:
    e, _ = diagonalize(symmetric(1, 9), orthogonalizer(overlap(copies=3)))
    assert (np.diff(np.asarray(e[0])) > 1e-3).all()


def test_orbitals_solve_the_generalised_problem() -> None:
    S, F = overlap(), symmetric(2, 6)
    e, C = diagonalize(F, orthogonalizer(S))
    np.testing.assert_allclose(F @ C, S @ C * e[:, None, :], atol=1e-10)


@pytest.mark.parametrize("spins", [1, 2])
def test_natural_orbitals_rebuild_the_density_matrix(spins: int) -> None:
    S = overlap()
    X = orthogonalizer(S)
    C = diagonalize(symmetric(spins, 6), X)[1]
    f = jnp.asarray([2.0, 1.5, 1.0, 0.25, 0.0, -0.1])[None].repeat(spins, 0)
    P = density_matrix(C, f)
    occupations, orbitals = natural_orbitals(P, S, X)
    np.testing.assert_allclose(occupations, f, atol=1e-12)
    np.testing.assert_allclose(density_matrix(orbitals, occupations), P, atol=1e-12)
