"""Attached values and linear maps have their derivatives, forward, reverse, nested and under vmap."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc.derivatives import attach, beside, linear, trust

close = partial(np.testing.assert_allclose, rtol=1e-12)


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


def product(x, a):
    return x @ jnp.sin(a)


def test_a_linear_function_uses_its_own_transpose_and_has_all_derivatives():
    calls = []

    def transposed(ct, a):
        calls.append(ct.shape)
        return ct @ jnp.sin(a).T

    own = lambda x, a: (linear(product, transposed, x, a) ** 3).sum()  # noqa: E731
    plain = lambda x, a: (product(x, a) ** 3).sum()  # noqa: E731
    x, a = (jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate([(4, 3), (3, 2)]))
    assert own(x, a) == plain(x, a)
    twice = lambda f, by: jax.jacrev(jax.jacrev(f, by), by)  # noqa: E731
    for derivative in (jax.grad, jax.jacfwd, jax.hessian, twice):
        found = [jax.jit(derivative(f, (0, 1)))(x, a) for f in (own, plain)]
        jax.tree.map(close, *found)
    assert (4, 2) in calls


@pytest.mark.parametrize("axes", [(0, 1), (None, 0), (0, None)])
def test_a_batch_of_linear_functions(axes):
    transposed = lambda ct, a: ct @ jnp.sin(a).T  # noqa: E731
    shapes = zip([(4, 3), (3, 2)], axes, strict=True)
    lanes = [shape if axis is None else (*shape[:axis], 5, *shape[axis:]) for shape, axis in shapes]
    x, a = (jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate(lanes))

    def gradients(f):
        of_sum = jax.grad(lambda x, a: (jax.vmap(f, axes)(x, a) ** 3).sum(), (0, 1))
        each = jax.vmap(jax.grad(lambda x, a: (f(x, a) ** 3).sum(), (0, 1)), axes)
        return of_sum(x, a), each(x, a)

    jax.tree.map(close, gradients(partial(linear, product, transposed)), gradients(product))


def test_a_value_has_the_lanes_of_what_it_stands_beside():
    x, others = jnp.arange(3.0), jnp.arange(4.0)

    def f(x, other):
        return beside({"x": x}, (other, jnp.zeros(0)))["x"]

    lanes = jax.vmap(f, (None, 0))(x, others)
    np.testing.assert_array_equal(lanes, jnp.broadcast_to(x, (4, 3)))
    nested = jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (1, None)))
    np.testing.assert_array_equal(
        nested(jnp.stack([x, 2 * x], axis=1), others), jnp.stack([lanes, 2 * lanes])
    )
    np.testing.assert_array_equal(jax.jit(jax.jacobian(f))(x, 1.0), jnp.eye(3))
