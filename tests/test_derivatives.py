"""A value attached to a function has its derivatives, forward, reverse, nested and under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc.derivatives import attach


def cubic(x, y):
    return {"u": x**3 * y["k"], "n": y["index"]}


def value_of(x, k):
    y = {"k": k, "index": jnp.arange(3)}
    return attach({"u": jnp.asarray(7.0), "n": y["index"]}, cubic, x, y)["u"]


def test_the_value_stays_and_the_derivatives_are_the_functions():
    x, k = 2.0, 5.0
    assert value_of(x, k) == 7.0
    assert jax.grad(value_of)(x, k) == 3 * x**2 * k
    assert jax.grad(value_of, 1)(x, k) == x**3
    assert jax.jacfwd(jax.grad(value_of))(x, k) == 6 * x * k
    assert jax.grad(jax.grad(value_of), 1)(x, k) == 3 * x**2
    many = jax.vmap(jax.grad(value_of), (0, None))(jnp.arange(4.0), k)
    np.testing.assert_allclose(many, 3 * jnp.arange(4.0) ** 2 * k)


def test_the_function_is_not_called_without_differentiation():
    def never(x):
        raise AssertionError("called")

    assert jax.jit(lambda x: attach(x + 1, never, x))(1.0) == 2.0


def test_only_moving_arguments_are_differentiated():
    """The second argument enters by a function without a derivative."""

    @jax.custom_jvp
    def rigid(y):
        return y

    @rigid.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    product = lambda x, y: x * rigid(y)  # noqa: E731
    assert jax.grad(lambda x: attach(6.0, product, x, 3.0))(2.0) == 3.0
    with pytest.raises(AssertionError, match="differentiated"):
        jax.grad(lambda y: attach(6.0, product, 2.0, y))(3.0)
