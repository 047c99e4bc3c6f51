"""Limits, exact conditions, algebra, transformations and vacuum."""

from __future__ import annotations

from math import pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from points import densities

from dqc.xc.elementary import arcsinh_ratio, cbrt, divide, log, log1p
from dqc.xc.features import Features
from dqc.xc.names import functional

ALL = "lda, ,pw ,vwn ,vwn_rpa pbe revpbe, rpbe, blyp tpss scan r2scan b3lyp camb3lyp lc_wpbe".split()
ALL[5] = "pbe_r,"


def extremes() -> list[jax.Array]:
    """Vacuum, an empty spin, full polarisation, densities around the floor; s from 0 to 100, alpha 0 to 5."""
    rho, grad, tau = [], [], []
    spins = [(0, 0), (1e-300, 0), (1e-17, 1e-17), (2e-16, 0), (1e-10, 0), (0.3, 0), (0, 0.3), (0.3, 1e-17)]
    spins += [(0.3, 1e-15), (0.2, 0.2), (10.0, 0), (1e3, 1e-9)]
    for spin in spins:
        for s in (0.0, 1e-7, 0.5, 100.0):
            for alpha in (0.0, 1.0, 5.0):
                r = np.array(spin)
                g = 2 * (6 * pi**2) ** (1 / 3) * r ** (4 / 3) * s
                weizsaecker = np.where(r > 0, g**2 / (8 * np.where(r > 0, r, 1)), 0)
                rho.append(r)
                grad.append(np.stack([g, 0 * g, 0 * g], 1))
                tau.append(weizsaecker + alpha * 0.3 * (6 * pi**2) ** (2 / 3) * r ** (5 / 3))
    rho.append(np.zeros(2))  # noise where there is no density
    grad.append(np.full((2, 3), 1e-6))
    tau.append(np.full(2, 1e-6))
    return [jnp.asarray(np.moveaxis(np.array(x), 0, -1)) for x in (rho, grad, tau)]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("closed", [False, True])
def test_finite_to_third_order(name, closed):
    f, x = functional(name), extremes()
    d = [jnp.asarray(np.random.default_rng(3).normal(size=v.shape)) for v in x]
    if closed:
        x, d = ([0.5 * (v + v[::-1]) for v in y] for y in (x, d))

    def energy(x):
        return f(Features(x[0], x[1], x[2], closed_shell=closed))

    def potential(x):
        return jax.vjp(energy, x)[1](jnp.ones(x[0].shape[1]))[0]

    def second(x):
        return jax.jvp(potential, (x,), (d,))[1]

    order = [energy(x), potential(x), *jax.jvp(second, (x,), (d,))]
    for n, values in enumerate(order):
        for leaf in jax.tree.leaves(values):
            assert np.all(np.isfinite(leaf)), (name, "order", n, np.argwhere(~np.isfinite(leaf))[:5])
    assert np.all(np.asarray(order[0])[:12] == 0.0)  # no density, no energy
    assert np.all(np.asarray(order[0])[[60, 72, 108]] < 0.0)  # s = 0 and some density


def uniform(n: float, zeta: float) -> Features:
    rho = jnp.asarray([[n * (1 + zeta) / 2], [n * (1 - zeta) / 2]])
    tau = 0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3)
    return Features(rho, jnp.zeros((2, 3, 1)), tau)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("pbe,", "lda,"),
        ("b88,", "lda,"),
        ("tpss,", "lda,"),
        ("scan,", "lda,"),
        ("r2scan,", "lda,"),
        (",pbe", ",pw_mod"),
        (",tpss", ",pw_mod"),
        (",scan", ",pw_mod"),
        (",r2scan", ",pw_mod"),
    ],
)
@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1e-3, 1.0])
def test_uniform_gas(name, limit, n, zeta):
    x = uniform(n, zeta)
    assert float(functional(name)(x)[0]) == pytest.approx(float(functional(limit)(x)[0]), rel=1e-12)


def test_uniform_gas_by_numbers():
    """e_x = -(3/4)(3/pi)^(1/3) n^(4/3); eps_c at r_s = 2 is -0.04476 (zeta = 0) and -0.02393 (zeta = 1)."""
    n = 3 / (4 * pi * 2.0**3)
    x, y = uniform(n, 0.0), uniform(n, 1.0)
    assert float(functional("lda,")(x)[0]) == pytest.approx(
        -0.75 * (3 / pi) ** (1 / 3) * n ** (4 / 3), rel=1e-13
    )
    assert float(functional(",pw")(x)[0]) / n == pytest.approx(-0.04476, abs=1e-4)
    assert float(functional(",pw")(y)[0]) / n == pytest.approx(-0.0240, abs=3e-4)


@pytest.mark.parametrize("name", "lda, pbe, b88, tpss, scan, r2scan,".split())
def test_spin_scaling(name):
    """E_x[n_a, n_b] = (E_x[2 n_a] + E_x[2 n_b])/2, the right side by the closed-shell path."""
    rho, grad, tau = (jnp.asarray(x) for x in densities(200, seed=4, low=1e-3))
    f = functional(name)
    halves = [
        f(Features(*(jnp.stack([x[i], x[i]]) for x in (rho, grad, tau)), closed_shell=True)) for i in (0, 1)
    ]
    np.testing.assert_allclose(f(Features(rho, grad, tau)), 0.5 * (halves[0] + halves[1]), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "vanishes"), [("tpss", True), ("scan", True), ("r2scan", True), ("pbe", False)]
)
def test_no_correlation_of_one_electron(name, vanishes):
    """The hydrogen atom's density: e_c = 0 at every point (with 40 digits PBE's would be 6 mHa)."""
    r = jnp.linspace(0.05, 8.0, 60)
    n = jnp.exp(-2 * r) / pi
    zero = jnp.zeros_like(n)
    grad = jnp.stack([-2 * n, zero, zero])
    x = Features(jnp.stack([n, zero]), jnp.stack([grad, 0 * grad]), jnp.stack([n / 2, zero]))
    e = np.abs(np.asarray(functional("," + name)(x))) / np.asarray(n)
    assert (e.max() < 1e-12) == vanishes
    assert vanishes or e.max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.2, 5.0))
@pytest.mark.parametrize("name", ["pbe,", "tpss,", "scan,", "r2scan,"])
def test_exchange_scales_uniformly(name, scale):
    """n(r) -> k^3 n(k r): e_x -> k^4 e_x at the scaled point."""
    rho, grad, tau = (jnp.asarray(x) for x in densities(20, seed=5, low=1e-3))
    f = functional(name)
    scaled = f(Features(scale**3 * rho, scale**4 * grad, scale**5 * tau))
    np.testing.assert_allclose(scaled, scale**4 * f(Features(rho, grad, tau)), rtol=1e-11)


def test_algebra():
    x = Features(*(jnp.asarray(v) for v in densities(50, seed=6, low=1e-3)))
    pbe, hf, cam = functional("pbe"), functional("hf"), functional("camb3lyp")
    hybrid = 0.75 * functional("pbe,") + functional(",pbe") + 0.25 * hf
    np.testing.assert_allclose(hybrid(x), functional("pbe0")(x), rtol=1e-14)
    assert {w: float(a) for w, a in hybrid.exchange().items()} == {0.0: 0.25}
    assert hybrid.needs == functional("pbe0").needs
    mixed = (pbe - cam / 2) * 2
    assert mixed.needs == ("gga", (0.0, 0.33), False)
    assert {w: float(a) for w, a in mixed.exchange().items()} == pytest.approx({0.0: -0.19, 0.33: -0.46})
    np.testing.assert_allclose(mixed(x), 2 * pbe(x) - cam(x), rtol=1e-12)
    np.testing.assert_allclose(sum([pbe, -pbe])(x), 0.0, atol=1e-14)
    assert jax.tree.leaves(0.5 * pbe) == []
    leaf = jnp.asarray(0.5) * pbe if hasattr(jnp.asarray(0.5) * pbe, "needs") else pbe * jnp.asarray(0.5)
    assert len(jax.tree.leaves(leaf)) == 1
    with pytest.raises(ValueError, match="one real number"):
        pbe * jnp.ones(3)


def test_gradient_of_constants_equals_finite_differences():
    x = Features(*(jnp.asarray(v) for v in densities(50, seed=7, low=1e-2)))
    f = functional("pbe", trainable=("kappa", "mu", "beta"))

    def energy(f):
        return jnp.sum(f(x))

    slope = jax.jit(jax.grad(energy))(f).trained
    for name, value in f.trained.items():
        moved = [type(f)(f.trained | {name: value * (1 + h)}, f.recipe) for h in (1e-5, -1e-5)]
        difference = (energy(moved[0]) - energy(moved[1])) / (2e-5 * value)
        assert float(slope[name]) == pytest.approx(float(difference), rel=1e-6)
    many = jax.vmap(lambda k: energy(type(f)(f.trained | {"kappa": k}, f.recipe)))(
        jnp.asarray([0.804, 1.245])
    )
    assert float(many[1]) == pytest.approx(float(energy(functional("revpbe"))), rel=1e-12)


@pytest.mark.parametrize("name", ["pbe", "r2scan"])
def test_vmap_equals_a_loop(name):
    f = functional(name)
    x = [jnp.asarray(v).reshape(*v.shape[:-1], 5, 8) for v in densities(40, seed=8)]
    batched = jax.vmap(lambda *x: jax.vjp(lambda *x: f(Features(*x)), *x)[1](jnp.ones(8)), in_axes=-2)(*x)
    for i in range(5):
        one = jax.vjp(lambda *x: f(Features(*x)), *(v[..., i, :] for v in x))[1](jnp.ones(8))
        for a, b in zip(batched, one, strict=False):
            np.testing.assert_allclose(a[i], b, rtol=1e-11, atol=1e-13)


def test_single_precision_stays_single():
    x = [jnp.asarray(v, jnp.float32) for v in densities(100, seed=9, low=1e-3)]
    single = functional("pbe")(Features(*x))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, functional("pbe")(Features(*(v.astype(float) for v in x))), rtol=1e-4)


@pytest.mark.parametrize("name", ["pbe", "blyp", "tpss", "r2scan", "camb3lyp"])
@pytest.mark.parametrize("closed", [False, True])
def test_second_derivatives_in_single_precision(name, closed):
    """Down to its floor, and finite below: powers of a density have a narrow range there."""
    x = [np.asarray(v) for v in densities(4000, seed=9)]
    if closed:
        x = [0.5 * (v + v[::-1]) for v in x]
    x = [v[..., x[0].min(0) > 1e-8] for v in x]

    def second(dtype, x):
        f = functional(name)
        x, f = jax.tree.map(lambda v: jnp.asarray(v, dtype), (x, f))
        energy = lambda *x: f(Features(*x, closed_shell=closed))  # noqa: E731
        potential = lambda *x: jax.vjp(energy, *x)[1](jnp.ones(x[0].shape[1], dtype))  # noqa: E731
        return jax.jit(lambda *x: jax.jvp(potential, x, x)[1])(*x)

    for single, double in zip(second("float32", x), second("float64", x), strict=True):
        assert single.dtype == jnp.float32
        if not np.any(double):  # what the functional does not read
            continue
        error = np.abs(single - double) / np.maximum(np.abs(double), 1e-30)
        assert np.median(error) < 3e-5
        assert np.quantile(error, 0.99) < 1e-2
    assert all(np.all(np.isfinite(v)) for v in second("float32", extremes()))


def test_elementary_functions():
    x = np.exp(np.random.default_rng(0).uniform(-80, 30, 20000))
    near = 1 + np.random.default_rng(1).uniform(-1e-3, 1e-3, 20000)
    np.testing.assert_allclose(jax.jit(log)(x), np.log(x), rtol=4e-16, atol=3e-16)
    np.testing.assert_allclose(jax.jit(log)(near), np.log(near), rtol=1e-15)
    np.testing.assert_allclose(jax.jit(cbrt)(x), np.cbrt(x), rtol=2e-15)
    np.testing.assert_allclose(jax.jit(log1p)(x), np.log1p(x), rtol=2e-15)
    q = np.exp(np.random.default_rng(2).uniform(-30, 10, 20000))
    np.testing.assert_allclose(jax.jit(arcsinh_ratio)(q), np.arcsinh(np.sqrt(q)) / np.sqrt(q), rtol=3e-15)
    for f, exact in ((log, lambda x: 2 / x**3), (cbrt, lambda x: 10 / 27 * x ** (-8 / 3))):
        third = jax.vmap(jax.grad(jax.grad(jax.grad(f))))(jnp.asarray([0.3, 2.0]))
        np.testing.assert_allclose(third, exact(np.array([0.3, 2.0])), rtol=1e-13)


def test_division_differentiates_like_division():
    x, y = jnp.asarray([0.3, -2.0, 0.0]), jnp.asarray([0.7, 5.0, 1e-3])

    def derivatives(quotient):
        f = lambda x, y: jnp.sin(quotient(x * y, x + y)).sum()  # noqa: E731
        third = jax.grad(lambda x: jax.hessian(f, (0, 1))(x, y)[0][1].sum())
        two = jnp.stack([x, 2 * x], axis=1)
        lanes = [
            jax.vmap(jax.grad(lambda x, y: quotient(x, 1 + y * y).sum(), (0, 1)), axes)(*args)
            for axes, args in (((1, None), (two, y)), ((None, 1), (y, two)), ((1, 1), (two, two)))
        ]
        one_moves = [jax.jvp(quotient, (x, y), (dx, dy))[1] for dx, dy in ((x, 0 * y), (0 * x, y))]
        backward = (
            jax.jit(jax.hessian(lambda y: quotient(1.0, y).sum()))(y),
            jax.grad(lambda x: quotient(x, 2.0))(3.0),
        )
        return (
            jax.hessian(f, (0, 1))(x, y),
            jax.jacrev(jax.grad(f, 1))(x, y),
            third(x),
            lanes,
            one_moves,
            backward,
        )

    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-12),
        derivatives(divide), derivatives(jnp.divide),
    )  # fmt: skip
    small = jnp.asarray(1e-12, jnp.float32)  # its cube is zero
    assert jax.grad(jax.grad(lambda y: divide(small, y)))(small) == pytest.approx(2e24, rel=1e-5)
