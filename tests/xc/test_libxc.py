"""libxc on the host: values, derivatives of every order, under jit and vmap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from points import densities, libxc_values, scales

from dqc.xc.features import Features
from dqc.xc.names import functional

NAMES = ["lda_c_pz", "b97-d", "wb97x", "m06-l"]


@pytest.mark.parametrize("name", NAMES)
def test_energy_and_potential(name):
    rho, grad, tau = densities(500, low=1e-4)
    f = functional(name)
    e, pull = jax.vjp(lambda *x: f(Features(*x)), *map(jnp.asarray, (rho, grad, tau)))
    ours = [e, *pull(jnp.ones_like(e))]
    for a, b, s in zip(ours, libxc_values(name, rho, grad, tau), scales(rho), strict=False):
        assert np.max(np.abs(np.asarray(a) - b) / np.maximum(np.abs(b), s)) < 1e-8, name


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_equal_finite_differences(name):
    """First order by reverse, second by reverse over reverse, third by forward over that, jitted."""
    rho, grad, tau = (jnp.asarray(x) for x in densities(30, seed=1, low=1e-2, high=1.0))
    d = [x * jnp.asarray(np.random.default_rng(1).normal(size=x.shape)) for x in (rho, grad, tau)]
    f = functional(name)

    @jax.jit
    def along(h):
        return f(Features(*(x + h * y for x, y in zip((rho, grad, tau), d, strict=False)))).sum()

    first = jax.jit(jax.grad(along))
    second = jax.jit(jax.grad(jax.grad(along)))
    third = jax.jit(jax.jacfwd(jax.grad(jax.grad(along))))
    h = 1e-4
    for lower, upper in ((along, first), (first, second), (second, third)):
        difference = (lower(h) - lower(-h)) / (2 * h)
        assert float(upper(0.0)) == pytest.approx(float(difference), rel=3e-5, abs=1e-7)
    assert float(jax.jvp(along, (0.0,), (1.0,))[1]) == pytest.approx(float(first(0.0)), rel=1e-12)


def test_under_vmap():
    x = [jnp.asarray(v).reshape(*v.shape[:-1], 4, 5) for v in densities(20, seed=2)]
    f = functional("b97-d")
    batched = jax.jit(jax.vmap(lambda *x: f(Features(*x)), in_axes=-2))(*x)
    for i in range(4):
        np.testing.assert_allclose(batched[i], f(Features(*(v[..., i, :] for v in x))), rtol=1e-13)


def test_vacuum_is_zero():
    x = Features(jnp.zeros((2, 3)), jnp.zeros((2, 3, 3)), jnp.zeros((2, 3)))
    for name in NAMES:
        e, pull = jax.vjp(functional(name), x)
        assert not np.any(np.asarray(e))
        assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(pull(jnp.ones(3))))


def test_constants_cannot_be_trained():
    with pytest.raises(ValueError, match="libxc"):
        functional("b97-d", trainable=("x",))
