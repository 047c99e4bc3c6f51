"""A value attached to a function has its derivatives, forward, reverse, nested and under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc.derivatives import attach, trust


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


@pytest.mark.parametrize("guarded", [False, True])
def test_a_batch_of_derivatives_about_one_value(guarded):
    """Of four lanes only what is attached differs: the gradient by what they share is the lanes' sum."""

    def lane(x, k, good):
        value = attach(x.sum(), lambda x, k: k * (x**2).sum(), x, k)
        return trust(good, value) if guarded else value

    lanes = jax.vmap(jax.jit(lane), (None, 0, 0))
    x, k = jnp.arange(1.0, 4.0), jnp.arange(4.0)
    gradient = jax.grad(lambda x: lanes(x, k, k > -1).sum())(x)
    np.testing.assert_allclose(gradient, 2 * x * k.sum())


def test_what_is_not_trusted_has_no_derivative_but_zero():
    good = jnp.asarray([True, False, True])
    weighted = lambda w: jax.grad(lambda x: w @ trust(good, x**2))(jnp.ones(3))  # noqa: E731
    np.testing.assert_array_equal(weighted(jnp.asarray([1.0, 0.0, 2.0])), [2.0, 0.0, 4.0])
    np.testing.assert_array_equal(weighted(jnp.ones(3)), [2.0, np.nan, 2.0])
    tangent = jax.jvp(lambda x: trust(good, x), (jnp.ones(3),), (jnp.asarray([1.0, 0.0, 1.0]),))[1]
    np.testing.assert_array_equal(tangent, [1.0, 0.0, 1.0])
