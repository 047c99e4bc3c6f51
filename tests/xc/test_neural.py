"""Neural functionals start as their parents, and keep exact conditions whatever the networks say."""

from __future__ import annotations

from math import pi
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from points import densities

from dqc.types import replace
from dqc.xc.by_construction import ALWAYS, BY_CONSTRUCTION, HELD, LADDER, possible
from dqc.xc.features import Features
from dqc.xc.literature import KERNELS
from dqc.xc.names import functional
from dqc.xc.networks import affine, squareplus
from dqc.xc.neural import bend, neural

R2SCAN0 = "0.25*hf + 0.75*r2scan, r2scan"
A_X = 0.75 * (3 / pi) ** (1 / 3)


def features(n: int = 2000, seed: int = 0, closed: bool = False) -> Features:
    rho, grad, tau = (jnp.asarray(x) for x in densities(n, seed))
    if closed:
        rho, grad, tau = (0.5 * (x + x[::-1]) for x in (rho, grad, tau))
    exact = -jnp.asarray(np.random.default_rng(seed).uniform(0.5, 1.5, rho.shape)) * rho ** (4 / 3)
    return Features(rho, grad, tau, exact if not closed else 0.5 * (exact + exact[::-1]), closed_shell=closed)


def scrambled(xc, size: float = 1.0, seed: int = 1):
    """The same functional with random weights everywhere, the last layers included."""
    leaves, tree = jax.tree.flatten(xc)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(size * rng.normal(size=x.shape), x.dtype) for x in leaves])


def uniform(rs, zeta):
    """Features of the uniform gas."""
    n = 3 / (4 * pi * rs**3)
    rho = jnp.stack([n * (1 + zeta), n * (1 - zeta)]) / 2
    return Features(rho, jnp.zeros((2, 3, len(rs))), 0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    ("parent", "rung"),
    [
        ("lda,pw_mod", None),
        ("pbe", None),
        ("pbe", "mgga"),
        ("r2scan", None),
        ("b3lyp", None),
        ("lc_wpbe", None),
    ],
)
def test_a_new_one_is_its_parent(parent, rung, precision, closed):
    x = features(closed=closed)
    ours, theirs = neural(parent, rung, precision=precision), functional(parent)
    assert ours.exchange().keys() == theirs.exchange().keys()
    assert all(a == pytest.approx(float(theirs.exchange()[w])) for w, a in ours.exchange().items())
    np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-14)
    assert not np.allclose(scrambled(ours)(x), theirs(x), rtol=1e-3)


def test_a_new_local_hybrid_is_its_parent_but_for_polarised_regions():
    xc = neural(R2SCAN0, "local_hybrid")
    x = features(closed=True)
    expected = functional(R2SCAN0)(x) + 0.25 * x.exchange_density.sum(0)
    np.testing.assert_allclose(xc(x), expected, rtol=1e-13)


def test_bend_keeps_to_its_bounds():
    F, d = np.meshgrid(np.linspace(0, 1.804, 50), np.linspace(-1e3, 1e3, 51))
    bent = np.asarray(bend(F, jnp.asarray(d), 1.804))
    assert bent.min() >= 0
    assert bent.max() <= 1.804 * (1 + 1e-14)
    np.testing.assert_allclose(bend(F, jnp.zeros_like(F), 1.804), F, rtol=1e-15)


def bent(parent, rung=None):
    """The functional with small and with large random weights."""
    sizes = (0.3, 1.0)
    return [pytest.param(scrambled(neural(parent, rung), x), id=f"{parent}-{rung}-{x}") for x in sizes]


PARENTS = (("pbe", None), ("rpbe,pbe", None), ("r2scan", None), ("tpss", None), ("pbe", "mgga"))
SEMILOCAL = [xc for each in PARENTS for xc in bent(*each)]


@pytest.mark.parametrize("xc", SEMILOCAL)
class TestWhateverTheNetworksSay:
    def test_uniform_gas(self, xc):
        rs, zeta = (a.ravel() for a in np.meshgrid(np.geomspace(1e-2, 1e2, 30), np.linspace(0, 1, 11)))
        x = uniform(jnp.asarray(rs), jnp.asarray(zeta))
        np.testing.assert_allclose(xc(x), functional("lda,pw_mod")(x), rtol=1e-12)

    def test_spin_scaling(self, xc):
        x, (exchange, _) = features(), xc.split()
        halves = []
        for s in (0, 1):
            rows = (jnp.stack([row[s], row[s]]) for row in (x.rho, x.grad, x.tau))
            halves.append(0.5 * exchange(Features(*rows)))
        np.testing.assert_allclose(exchange(x), halves[0] + halves[1], rtol=1e-13)

    def test_uniform_scaling_of_exchange(self, xc):
        x, (exchange, _) = features(), xc.split()
        for g in (0.3, 7.0):
            scaled = Features(g**3 * x.rho, g**4 * x.grad, g**5 * x.tau)
            np.testing.assert_allclose(exchange(scaled), g**4 * exchange(x), rtol=1e-12)

    def test_signs_and_bounds(self, xc):
        x, (exchange, correlation) = features(), xc.split()
        e_x, e_c = exchange(x), correlation(x)
        lda = functional("lda,")(x)
        assert (e_x <= 0).all()
        assert (e_x >= 1.804 * lda * (1 + 1e-14)).all()
        if "correlation_sign" in xc.design.constraints:
            assert (e_c <= 0).all()

    def test_spin_flip(self, xc):
        x = features()
        flipped = Features(x.rho[::-1], x.grad[::-1], x.tau[::-1])
        np.testing.assert_allclose(xc(x), xc(flipped), rtol=1e-13)

    def test_second_order_gradient_coefficients(self, xc):
        """They are the parent's: both differ in the fourth order of a slow variation alone."""
        parent = functional(xc.design.parent)
        difference = []
        for q in (0.02, 0.01):
            rho = jnp.asarray([[0.2], [0.2]])
            grad = q * rho[:, None] * jnp.asarray([1.0, 0.3, -0.2])[None, :, None] * rho[0] ** (1 / 3)
            tau = 0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3) * (1 + 0.4 * q**2)
            x = Features(rho, grad, tau)
            difference.append(float(jnp.abs(xc(x) - parent(x))[0]))
        assert difference[0] < 1e-3 * 0.02**2
        assert difference[0] / difference[1] == pytest.approx(16, rel=0.02)


@pytest.mark.parametrize("xc", bent("r2scan"))
def test_one_and_two_electrons(xc):
    """No correlation for one electron, and F_x <= 1.174 for two, as far as alpha is zero."""
    exchange, correlation = xc.split()
    rho, grad, _ = (jnp.asarray(x) for x in densities(2000))
    tau = (grad**2).sum(1) / (8 * rho)
    one = Features(*(x * jnp.asarray([1.0, 0.0]).reshape(2, *(1,) * (x.ndim - 1)) for x in (rho, grad, tau)))
    assert (jnp.abs(correlation(one)) <= 1e-12 * jnp.abs(functional("lda,")(one))).all()
    two = Features(rho, grad, tau)
    assert (exchange(two) >= 1.174 * functional("lda,")(two) * (1 + 1e-12)).all()


def test_without_constraints_the_conditions_are_broken():
    """So that the tests above test something."""
    candidates = [scrambled(neural("pbe", constraints=()), seed=seed) for seed in range(4)]
    x, gas = features(), uniform(jnp.ones(1), jnp.zeros(1))
    xc = candidates[0]
    exchange, _ = xc.split()
    assert max(c.split()[0](x).max() for c in candidates) > 0
    assert max(c.split()[1](x).max() for c in candidates) > 0
    assert abs(float(xc(gas)[0] / functional("pbe")(gas)[0]) - 1) > 0.1
    scaled = Features(8 * x.rho, 16 * x.grad, 32 * x.tau)
    assert not np.allclose(exchange(scaled), 16 * exchange(x), rtol=1e-2)


def test_local_hybrid_of_one_electron_is_exact_exchange():
    xc = scrambled(neural(R2SCAN0, "local_hybrid"))
    rho, grad, _ = (jnp.asarray(x) for x in densities(500))
    spin = jnp.asarray([1.0, 0.0])
    rho, grad = rho * spin[:, None], grad * spin[:, None, None]
    tau = jnp.where(rho > 0, (grad**2).sum(1) / (8 * jnp.where(rho > 0, rho, 1)), 0)
    exact = -1.3 * rho ** (4 / 3)
    np.testing.assert_allclose(xc(Features(rho, grad, tau, exact)), exact.sum(0), rtol=1e-12)


def test_local_hybrid_of_two_electrons_under_spin_scaling_is_exact_exchange():
    names = (*neural(R2SCAN0, "local_hybrid").design.constraints, "spin_scaling")
    exchange, _ = scrambled(neural(R2SCAN0, "local_hybrid", constraints=names)).split()
    x = features(500)
    x = replace(x, tau=(x.grad**2).sum(1) / (8 * x.rho))
    np.testing.assert_allclose(exchange(x), x.exchange_density.sum(0), rtol=1e-10)


def test_fractions_stay_fractions():
    for size in (1.0, 100.0):
        xc = neural("pbe0")
        moved = replace(xc, mixing={"a0": jnp.asarray(size)})
        assert 0.25 < float(moved.exchange()[0.0]) <= 1
        gas = uniform(jnp.ones(1), jnp.zeros(1))
        share = moved(gas) - functional(",pw_mod")(gas)
        lda = functional("lda,")(gas)
        np.testing.assert_allclose(share, (1 - moved.exchange()[0.0]) * lda, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("parent", "rung"), [("pbe", None), ("r2scan", None), (R2SCAN0, "local_hybrid")])
def test_finite_to_third_order(parent, rung, closed):
    from test_functional import extremes

    x = extremes()
    x = [*x, -(x[0] ** (4 / 3))]
    d = [jnp.asarray(np.random.default_rng(3).normal(size=v.shape)) for v in x]
    if closed:
        x, d = ([0.5 * (v + v[::-1]) for v in y] for y in (x, d))
    xc = scrambled(neural(parent, rung))

    def energy(x):
        return xc(Features(*x, closed_shell=closed))

    def potential(x):
        return jax.vjp(energy, x)[1](jnp.ones(x[0].shape[1]))[0]

    def second(x):
        return jax.jvp(potential, (x,), (d,))[1]

    for value in jax.tree.leaves([energy(x), potential(x), *jax.jvp(second, (x,), (d,))]):
        assert jnp.isfinite(value).all()


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, param_dtype=float)(nn.tanh(nn.Dense(7, param_dtype=float)(x)))


class Nnx(nnx.Module):
    def __init__(self, size):
        self.first = nnx.Linear(size, 7, param_dtype=float, dtype=float, rngs=nnx.Rngs(0))
        self.last = nnx.Linear(7, 1, param_dtype=float, dtype=float, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.last(nnx.tanh(self.first(x)))


def test_networks_of_your_own():
    x = features()
    linen = neural("pbe", network=Linen())
    other = neural("lda,pw_mod", network=Nnx(2))
    both = neural("pbe", network={"exchange": Nnx(1), "correlation": Nnx(3)})
    for xc, parent in ((linen, "pbe"), (other, "lda,pw_mod"), (both, "pbe")):
        slope = jax.jit(jax.grad(lambda xc: xc(x).sum()))(xc)
        assert jax.tree.structure(slope) == jax.tree.structure(xc)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
        assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))
        assert not np.allclose(xc(x), functional(parent)(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parent": "wb97x"}, "must be made of functionals written in dqc"),
        ({"parent": "r2scan", "rung": "gga"}, "below that of the parent"),
        ({"parent": "pbe", "rung": "rung 5"}, "is not one of 'lda', 'gga', 'mgga', 'local_hybrid'"),
        ({"parent": "pbe", "rung": "local_hybrid"}, "starts from a global hybrid"),
        ({"parent": "pbe", "constraints": ("lieb_oxfort",)}, "nearest: lieb_oxford"),
        ({"parent": "pbe", "constraints": "all"}, "neither"),
        ({"parent": "pbe", "constraints": ("two_electron_bound",)}, "it is 'mgga'"),
        ({"parent": "lda,pw_mod", "constraints": ("gradient_expansion",)}, "it is 'gga'"),
        ({"parent": "r2scan", "constraints": ("one_electron_exchange",)}, "it is 'local_hybrid'"),
        ({"parent": "pbe0", "constraints": ("long_range_exchange",)}, "it is 'range_separated'"),
        ({"parent": "blyp", "constraints": ("correlation_sign",)}, "gga_c_lyp; it does for lda_c_pw"),
        ({"parent": "pbe", "network": 3}, "a network is a Flax module"),
        ({"parent": "pbe", "network": {"exchange": Linen()}}, "wants exchange, correlation"),
    ],
)  # fmt: skip
def test_what_cannot_be(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        neural(**options)


def test_the_tables_are_complete():
    assert set(HELD) == set(KERNELS)
    exact = {"long_range_exchange", "one_electron_exchange"}
    assert set().union(*HELD.values()) | exact == set(BY_CONSTRUCTION)
    assert not set(ALWAYS) & set(BY_CONSTRUCTION)


def test_long_range_exchange_is_whole():
    xc = scrambled(neural("lc_wpbe"))
    assert "long_range_exchange" in xc.design.constraints
    assert float(xc.exchange()[0.4]) == 1.0


def test_the_documented_table_says_what_is_possible():
    text = (Path(__file__).parents[2] / "CONVENTIONS.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (head,) = (row for row in rows if row[0] == "condition")
    assert tuple(head[1:]) == LADDER
    documented = {row[0].strip("`"): dict(zip(LADDER, row[1:], strict=False)) for row in rows}
    for name in BY_CONSTRUCTION:
        for rung, cell in documented[name].items():
            exact = rung if rung in LADDER[3:] else None
            assert (cell == "built in") == possible(name, "mgga" if exact else rung, exact), (name, rung)


@pytest.mark.parametrize("rows", [1, 3])
def test_layers_and_rectifiers_have_their_derivatives(rows: int) -> None:
    """Of both modes and both orders: they are written out, for speed."""
    rng = np.random.default_rng(0)
    layer = tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((rows, 4), (rows, 1), (4, 5)))
    np.testing.assert_allclose(affine(*layer), layer[0] @ layer[2] + layer[1], rtol=1e-14)
    check_grads(jax.jit(lambda *x: squareplus(affine(*x))), layer, order=2, rtol=1e-6)
    x = jnp.linspace(-30.0, 30.0, 7)
    np.testing.assert_allclose(squareplus(x), 0.5 * (x + np.sqrt(x * x + 4.0)), rtol=1e-13, atol=1e-15)
