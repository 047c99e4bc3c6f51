"""MINRES and its refinement against dense solutions: definite, indefinite, singular, and how they end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc.minres import minres, refined


def matrix(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return jnp.asarray(q * values @ q.T), q


@pytest.mark.parametrize(
    "values", [np.linspace(0.5, 3, 40), np.r_[np.linspace(-2, -0.3, 7), np.linspace(0.4, 3, 33)]]
)
def test_it_solves_definite_and_indefinite_equations(values):
    A, _ = matrix(values)
    b = jnp.asarray(np.random.default_rng(1).normal(size=40))
    out = minres(lambda v: (A @ v.reshape(-1)).reshape(v.shape), b.reshape(4, 10), 1e-11, 60)
    np.testing.assert_allclose(out.x.reshape(-1), np.linalg.solve(A, b), rtol=1e-8, atol=1e-9)
    assert out.converged
    assert 5 < out.iterations <= 45
    true = np.linalg.norm(b - A @ out.x.reshape(-1)) / np.linalg.norm(b)
    assert abs(true - out.residual) < 1e-11
    np.testing.assert_allclose(out.smallest, values[np.argmin(np.abs(values))], rtol=1e-3)


def test_a_singular_consistent_equation_has_its_solution_of_least_norm():
    A, _ = matrix(np.r_[0.0, np.linspace(0.5, 2, 9)])
    b = A @ jnp.ones(10)
    out = minres(lambda v: A @ v, b, 1e-12, 30)
    np.testing.assert_allclose(out.x, np.linalg.pinv(A) @ b, atol=1e-10)
    assert out.converged
    assert out.smallest > 0.4


def test_its_end_is_told():
    A, _ = matrix(np.geomspace(1e-6, 1, 40))
    b = jnp.ones(40)
    cut = minres(lambda v: A @ v, b, 1e-10, 5)
    assert not cut.converged
    assert cut.iterations == 5
    assert cut.residual > 1e-10
    none = minres(lambda v: A @ v, 0 * b, 1e-10, 5)
    assert none.converged
    assert none.iterations == 0
    assert none.residual == 0
    assert jnp.all(none.x == 0)
    broken = minres(lambda v: A @ v, b.at[3].set(jnp.nan), 1e-10, 5)
    assert not broken.converged
    far = minres(lambda v: jnp.nan * v, b, 1e-10, 5)
    assert not far.converged
    assert far.iterations == 1


def test_equations_of_a_batch_end_each_by_itself():
    A, _ = matrix(np.linspace(0.5, 3, 12))
    b = jnp.stack([jnp.ones(12), jnp.zeros(12), A @ jnp.ones(12)])
    out = jax.vmap(lambda b: minres(lambda v: A @ v, b, 1e-11, 30))(b)
    np.testing.assert_allclose(out.x, np.linalg.solve(A, b.T).T, atol=1e-9)
    assert out.iterations[1] == 0


products = []


@functools.partial(jax.jit, static_argnames="max_iterations")
def counted(A, rough, b, tolerance, max_iterations):
    """``refined``, which adds to ``products`` what it takes of those with A."""
    seen = lambda v: jax.debug.callback(lambda: products.append(1)) or A @ v  # noqa: E731
    return refined(seen, lambda v: rough @ v, b, tolerance, max_iterations)


def refining(values, apart, b, tolerance, max_iterations=60):
    """Outcome, true residual and number of products, with a rough operator that differs by ``apart``."""
    A, _ = matrix(values)
    E, _ = matrix(np.linspace(-1, 1, len(values)), seed=2)
    products.clear()
    out = counted(A, A + apart * E, b, tolerance, max_iterations)
    jax.effects_barrier()
    return out, float(jnp.linalg.norm(b - A @ out.x) / jnp.linalg.norm(b)), len(products)


@pytest.mark.parametrize("smallest", [0.5, 1e-2, 1e-4])
@pytest.mark.parametrize("apart", [1e-4, 3e-3, 0.03, 1.0])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-10])
def test_refinement_with_a_rough_operator_keeps_its_word(smallest, apart, tolerance):
    """Whether the rough operator is any good or not, along a nearly free direction too."""
    values = np.r_[smallest, np.linspace(0.5, 3, 39)]
    b = jnp.asarray(np.random.default_rng(1).normal(size=40))
    out, true, products = refining(values, apart, b, tolerance)
    assert out.converged
    assert true <= 1.01 * out.residual + 1e-14
    assert out.residual <= tolerance
    assert products <= out.iterations


def test_the_last_product_of_a_refinement_is_not_needed_where_the_rest_is_known():
    b = jnp.asarray(np.random.default_rng(1).normal(size=40))
    out, true, products = refining(np.linspace(0.5, 3, 40), 2e-3, b, 1e-6)
    assert products == out.iterations - 1 == 2
    assert true < 1e-6


@pytest.mark.parametrize("smallest", [1e-4, -1e-3])
def test_a_nearly_free_direction_that_the_rough_operator_misjudges_costs_few_rounds(smallest):
    b = jnp.asarray(np.random.default_rng(1).normal(size=40))
    out, true, products = refining(np.r_[smallest, np.linspace(0.5, 3, 39)], 0.03, b, 1e-9)
    assert products <= out.iterations <= 10
    assert true < 1e-9
    assert abs(out.smallest) < 1e-2


def test_a_refinement_without_end_says_so():
    b = jnp.ones(40)
    values = np.geomspace(1e-6, 1, 40)
    out, true, _ = refining(values, 0.5, b, 1e-10, 5)
    assert not out.converged
    assert true > 1e-10
    none, _, products = refining(values, 0.5, 0 * b + 0.0, 1e-10, 5)
    assert none.converged
    assert (none.residual, products) == (0, 0)
