"""Pytrees are rebuilt unchecked; signatures are checked (by the import hook in conftest.py)."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, TypeCheckError, install_import_hook

import dqc.xc.functional
from dqc.xc.features import Features

SAMPLE = """
from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree


@pytree
class Pair:
    left: Float[Array, " n"]
    right: Float[Array, " n"]

    def dot(self, other: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.dot(self.left * self.right, other)


def trace_product(a: Float[Array, "n n"], b: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.sum(a * b.T)
"""


@pytest.fixture
def checked_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """SAMPLE, imported the way conftest.py has the library imported."""
    (tmp_path / "checked_sample.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_sample", raising=False)
    with install_import_hook("checked_sample", "beartype.beartype"):
        return importlib.import_module("checked_sample")


def features(points: int = 3) -> Features:
    rho = jnp.ones((2, points))
    return Features(rho=rho, grad=jnp.zeros((2, 3, points)), tau=None)


@pytest.mark.parametrize("leaf", [object(), None, "text", 1.5])
def test_unflatten_checks_nothing(leaf: object) -> None:
    leaves, tree = jax.tree.flatten(features())
    rebuilt = jax.tree.unflatten(tree, [leaf] * len(leaves))
    assert rebuilt.rho is leaf
    assert rebuilt.closed_shell is False


def test_transformations_rebuild_instances() -> None:
    def total(f: Features) -> Array:
        return jnp.sum(f.rho**2)

    gradient = jax.jit(jax.grad(total))(features())
    assert isinstance(gradient, Features)
    assert jnp.array_equal(gradient.rho, 2 * jnp.ones((2, 3)))
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), features())
    assert jnp.array_equal(jax.vmap(total)(batch), jnp.array([6.0, 24.0]))
    assert jax.eval_shape(lambda f: f, batch).rho.shape == (2, 2, 3)


def test_instances_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        features().rho = jnp.zeros((2, 3))  # type: ignore[misc]


def test_static_fields_key_the_structure() -> None:
    plain, closed = features(), dataclasses.replace(features(), closed_shell=True)
    assert jax.tree.structure(plain) != jax.tree.structure(closed)


def test_methods_of_a_pytree_are_checked(checked_module: ModuleType) -> None:
    pair = checked_module.Pair(left=jnp.ones(3), right=jnp.ones(3))
    assert pair.dot(jnp.ones(3)) == 3.0
    with pytest.raises(TypeCheckError):
        pair.dot(jnp.ones((3, 3)))


def test_functions_bind_the_axes_of_a_signature(checked_module: ModuleType) -> None:
    assert checked_module.trace_product(jnp.eye(2), jnp.eye(2)) == 2.0
    with pytest.raises(TypeCheckError):
        checked_module.trace_product(jnp.eye(2), jnp.eye(3))
    with pytest.raises(TypeCheckError):
        jax.jit(checked_module.trace_product)(jnp.eye(2), jnp.eye(3))


def test_the_hook_is_installed_on_the_library() -> None:
    assert type(dqc.xc.functional.__loader__).__module__.startswith("jaxtyping")
