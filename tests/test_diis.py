"""Extrapolation from a history of Fock matrices and their errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc import diis


def iterate(size: int, steps: int, damping: float = 0.9) -> list[float]:
    """Residuals of x = M x + b, x a matrix of 2 x 2, under extrapolation."""
    rng = np.random.default_rng(2)
    M = rng.normal(size=(4, 4))
    M *= damping / np.abs(np.linalg.eigvals(M)).max()
    b = rng.normal(size=4)
    history, x, residuals = diis.start(size, 1, 2, 2), np.zeros(4), []
    for _ in range(steps):
        image = M @ x + b
        error = image - x
        residuals.append(float(np.linalg.norm(error)))
        history, mixed = diis.extrapolate(
            history, jnp.asarray(image).reshape(1, 2, 2), jnp.asarray(error).reshape(1, 2, 2)
        )
        x = np.asarray(mixed).reshape(4)
    return residuals


def test_four_unknowns_are_solved_in_five_steps() -> None:
    residuals = iterate(size=8, steps=6)
    assert residuals[3] > 1e-4
    assert residuals[5] < 1e-9 * residuals[0]


def test_the_ring_buffer_forgets() -> None:
    """With room for two vectors only, it takes longer, and still goes on past the buffer's end."""
    residuals = iterate(size=2, steps=25, damping=0.5)
    assert residuals[5] > 1e-9 * residuals[0]
    assert residuals[24] < 1e-6 * residuals[0]


def matrix(*values: float) -> jnp.ndarray:
    return jnp.asarray(values, float).reshape(1, 2, 2)


def test_the_first_vector_is_returned_as_it_is() -> None:
    F = matrix(1.0, 2.0, 2.0, 5.0)
    _, mixed = diis.extrapolate(diis.start(8, 1, 2, 2), F, matrix(0.0, 0.1, -0.1, 0.0))
    np.testing.assert_allclose(mixed, F, rtol=1e-14)


@pytest.mark.parametrize("size", [1e-70, 1e-12, 1.0])
def test_coefficients_do_not_depend_on_the_scale_of_the_errors(size: float) -> None:
    history = diis.start(4, 1, 2, 2)
    history, _ = diis.extrapolate(history, matrix(1, 0, 0, 1), size * matrix(0, 1, -1, 0))
    _, mixed = diis.extrapolate(history, matrix(2, 0, 0, 2), size * matrix(0, -3, 3, 0))
    np.testing.assert_allclose(mixed, matrix(1.25, 0, 0, 1.25), rtol=1e-12)


def test_a_vector_seen_twice_does_no_harm() -> None:
    history, F, error = diis.start(8, 1, 2, 2), matrix(1, 2, 2, 5), matrix(0, 1, -1, 0)
    for _ in range(3):
        history, mixed = diis.extrapolate(history, F, error)
    np.testing.assert_allclose(mixed, F, rtol=1e-12)


def test_an_error_of_zero_is_finite() -> None:
    """An atom in a minimal basis is self-consistent from the start."""
    history, F = diis.start(8, 1, 2, 2), matrix(1, 2, 2, 5)
    history, mixed = diis.extrapolate(history, F, jnp.zeros((1, 2, 2)))
    np.testing.assert_allclose(mixed, F, rtol=1e-14)
    _, mixed = diis.extrapolate(history, matrix(9, 9, 9, 9), matrix(0, 1, -1, 0))
    assert np.isfinite(np.asarray(mixed)).all()


def test_a_shifted_history_is_that_of_shifted_vectors() -> None:
    rng = np.random.default_rng(5)
    focks, errors = rng.normal(size=(2, 6, 1, 2, 2))
    shift, change = rng.normal(size=(2, 1, 2, 2))
    plain = moved = diis.start(4, 1, 2, 2)  # fewer places than vectors
    for F, error in zip(focks, errors, strict=True):
        plain, _ = diis.extrapolate(plain, jnp.asarray(F), jnp.asarray(error))
        moved, _ = diis.extrapolate(moved, jnp.asarray(F + shift), jnp.asarray(error + change))
        shifted = diis.shifted(plain, jnp.asarray(shift), jnp.asarray(change))
        for a, b in zip(jax.tree.leaves(shifted), jax.tree.leaves(moved), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-14)
