"""Functionals as files: what is written is read back, and what is damaged is refused with a sentence."""

from __future__ import annotations

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from test_neural import R2SCAN0, Linen, features, scrambled

import dqc
from dqc.xc import names
from dqc.xc.files import functional, record
from dqc.xc.neural import neural


@dqc.pytree
class Own:
    """A functional of a user: Slater exchange times 1 + 0.1 tanh of a Flax network of the density."""

    weights: dict
    module: nn.Module = dqc.static()

    @property
    def needs(self):
        return dqc.Needs("lda")

    def exchange(self):
        return {}

    def __call__(self, x):
        n = jnp.maximum(x.rho.sum(0), 1e-12)
        bent = 1 + 0.1 * jnp.tanh(self.module.apply(self.weights, jnp.log(n)[:, None])[..., 0])
        return -0.738558766 * n ** (4 / 3) * bent


def own(seed: int = 0):
    return Own(Linen().init(jax.random.key(seed), jnp.zeros((1, 1))), Linen())


@pytest.mark.parametrize(
    "xc",
    [
        neural("lda,pw_mod"),
        neural("pbe", "mgga", hidden=(5, 4, 3)),
        neural("r2scan", constraints=("uniform_gas",), precision="float32"),
        neural("pbe0"),
        neural(R2SCAN0, "local_hybrid"),
        neural("pbe").split()[0],
        names.functional("pbe", trainable=("kappa", "mu")),
        names.functional("b3lyp", trainable=("a0", "lda_c_vwn_rpa.b")),
        0.3 * names.functional("lc_wpbe") + jnp.asarray(0.2) * neural("pbe"),
    ],
    ids=lambda xc: type(xc).__name__,
)
def test_written_and_read(xc, tmp_path):
    xc = scrambled(xc, 0.1)
    dqc.save(xc, tmp_path / "mine.safetensors", record={"epochs": 3, "data": ["water"]})
    back = dqc.functional(tmp_path / "mine.safetensors")
    assert jax.tree.structure(back) == jax.tree.structure(xc)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(xc), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(back(features()), xc(features()))
    assert record(tmp_path / "mine.safetensors") == {"epochs": 3, "data": ["water"]}


@pytest.mark.parametrize("xc", [own(), neural("pbe", network=Linen())], ids=["class", "network"])
def test_of_a_class_or_network_of_your_own(xc, tmp_path):
    path = tmp_path / "own.safetensors"
    dqc.save(xc, path)
    with pytest.raises(ValueError, match="like="):
        functional(path)
    like = scrambled(xc)
    back = functional(path, like=like)
    np.testing.assert_array_equal(back(features()), xc(features()))
    with pytest.raises(ValueError, match="does not fit"):
        functional(path, like=neural("pbe"))


def test_the_header_can_be_read_by_anyone(tmp_path):
    dqc.save(neural("r2scan", hidden=(7,)), tmp_path / "xc.safetensors")
    with safe_open(tmp_path / "xc.safetensors", framework="numpy") as file:
        header = file.metadata()
    assert (header["version"], header["units"]) == ("1", "atomic")
    made = json.loads(header["functional"])
    assert (made["parent"], made["rung"], made["hidden"]) == ("r2scan", "mgga", [7])
    assert "uniform_gas" in made["constraints"]


def damaged(path, change):
    weights = load_file(path)
    with safe_open(path, framework="numpy") as file:
        header = dict(file.metadata())
    change(header, weights)
    save_file(weights, path, metadata=header)


def test_what_is_refused(tmp_path):
    path = tmp_path / "xc.safetensors"
    cases = [
        (lambda h, w: h.update(version="7"), "version 7, and version 1 is read"),
        (lambda h, w: h.update(format="dqc system"), "holds no functional"),
        (lambda h, w: w.pop(sorted(w)[0]), "it lacks "),
        (lambda h, w: w.update(extra=np.zeros(2)), "extra in excess"),
        (lambda h, w: w.update({sorted(w)[0]: np.zeros(77)}), "has shape"),
        (lambda h, w: w[sorted(w)[0]].fill(np.nan), "not finite"),
    ]
    for change, sentence in cases:
        dqc.save(neural("pbe"), path)
        damaged(path, change)
        with pytest.raises(ValueError, match=sentence):
            functional(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged or no functional"):
        functional(path)
    with pytest.raises(FileNotFoundError, match=r"nearest: xc\.safetensors"):
        functional(tmp_path / "xd.safetensors")
    with pytest.raises(ValueError, match="not finite: it was not written"):
        dqc.save(jnp.asarray(jnp.nan) * names.functional("pbe"), path)
    with pytest.raises(ValueError, match="is kept in a file"):
        dqc.save(neural("pbe"), tmp_path / "xc.json")
    with pytest.raises(ValueError, match="trainable="):
        functional(path, trainable=("kappa",))


def test_names_still_are_names():
    assert jax.tree.structure(functional("pbe")) == jax.tree.structure(names.functional("pbe"))
