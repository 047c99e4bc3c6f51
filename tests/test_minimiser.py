"""Direct minimisation over rotations of orbitals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc import minimiser


def antisymmetric(spins: int, n: int, scale: float, seed: int = 0) -> jnp.ndarray:
    K = np.random.default_rng(seed).normal(size=(spins, n, n))
    return jnp.asarray(scale * (K - K.transpose(0, 2, 1)))


def trace_problem(n: int = 9, seed: int = 4) -> jnp.ndarray:
    """A symmetric matrix for each of two spins."""
    F = np.random.default_rng(seed).normal(size=(2, n, n))
    return jnp.asarray(0.5 * (F + F.transpose(0, 2, 1)))


OCCUPATIONS = jnp.asarray([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


def energy(F: jnp.ndarray, C: jnp.ndarray) -> jnp.ndarray:
    """sum_si f_i C_i^T F C_i, whose minimum is the sum of the lowest eigenvalues."""
    occupied = C[:, :, : OCCUPATIONS.shape[1]]
    return jnp.einsum("si,spi,spq,sqi->", OCCUPATIONS, occupied, F, occupied)


def test_rotations_are_orthogonal_and_close_to_the_exponential() -> None:
    K, C = antisymmetric(2, 5, 1e-2), jnp.eye(5)[None].repeat(2, 0)
    turned = minimiser.rotate(C, K)
    np.testing.assert_allclose(turned.transpose(0, 2, 1) @ turned, C, atol=1e-14)
    exact = jax.vmap(jax.scipy.linalg.expm)(K)
    third = np.asarray(K @ K @ K) / 12  # Cayley's form is right to second order
    np.testing.assert_allclose(turned, exact + third, atol=1e-6)
    assert np.abs(np.asarray(turned - exact)).max() > 1e-7


def test_the_orbital_gradient_is_the_derivative_along_rotations() -> None:
    F = trace_problem()
    C = minimiser.rotate(jnp.eye(9)[None].repeat(2, 0), antisymmetric(2, 9, 0.3))
    gradient, curvature = minimiser.orbital_gradient(C, F, OCCUPATIONS)
    assert (np.asarray(curvature) > 0).all()
    np.testing.assert_allclose(gradient, -gradient.transpose(0, 2, 1), atol=1e-14)
    K = antisymmetric(2, 9, 0.1, seed=7)
    slope = jax.grad(lambda t: energy(F, minimiser.rotate(C, t * K)))(0.0)
    np.testing.assert_allclose(minimiser.inner(gradient, K), slope, rtol=1e-12)


@pytest.mark.parametrize("turn", [0.05, 3.0])
def test_it_finds_the_lowest_eigenvalues(turn: float) -> None:
    F = trace_problem()
    C = minimiser.rotate(jnp.linalg.eigh(F)[1], antisymmetric(2, 9, turn))

    @jax.jit
    def step(descent: minimiser.Descent, C: jnp.ndarray):
        gradient, curvature = minimiser.orbital_gradient(C, F, OCCUPATIONS)
        descent, moved = minimiser.advance(descent, C, energy(F, C), gradient, curvature)
        return descent, moved, jnp.sqrt(minimiser.inner(gradient, gradient))

    descent, accepted, steps = minimiser.start(C), [], 0
    residual = jnp.inf
    while residual > 1e-7 and steps < 150:
        descent, C, residual = step(descent, C)
        accepted.append(float(descent.energy))
        steps += 1
    e = np.linalg.eigvalsh(np.asarray(F))
    assert steps < (40 if turn < 1 else 100)
    np.testing.assert_allclose(accepted[-1], e[0, :3].sum() + e[1, :2].sum(), rtol=1e-12)
    assert (np.diff(accepted) < 1e-12).all(), "an accepted point never lies higher"
    identity = np.asarray(C.transpose(0, 2, 1) @ C)
    np.testing.assert_allclose(identity, [np.eye(9)] * 2, atol=1e-11)


def test_a_point_too_high_is_refused_and_the_step_shortened() -> None:
    F = trace_problem()
    start = minimiser.rotate(jnp.eye(9)[None].repeat(2, 0), antisymmetric(2, 9, 0.2))
    gradient, curvature = minimiser.orbital_gradient(start, F, OCCUPATIONS)
    descent, first = minimiser.advance(minimiser.start(start), start, energy(F, start), gradient, curvature)
    assert float(energy(F, first)) < float(energy(F, start))
    refused, second = minimiser.advance(descent, first, energy(F, start) + 1.0, gradient, curvature)
    assert float(refused.length) < float(descent.length)
    np.testing.assert_array_equal(refused.orbitals, start)
    np.testing.assert_array_equal(refused.energy, descent.energy)
    np.testing.assert_allclose(second, minimiser.rotate(start, refused.length * descent.direction))
