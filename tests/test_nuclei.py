"""Nuclei that move: the system at other positions, and derivatives of energies at a fixed density matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.energy import energies, fock
from dqc.nuclei import follow
from dqc.types import replace

FORMALDEHYDE = (["C", "O", "H", "H"], [[0, 0, 0], [0, 0, 2.27], [1.78, 0, -1.02], [-1.78, 0.2, -1.02]])
HYDROXYL = (["O", "H"], [[0.0, 0.0, 0.0], [0.2, 0.9, 1.5]])


@cache
def system(name: str = "CH2O", xc: str = "pbe", **options: object) -> dqc.System:
    options = {"grid": 0, "ao": "recomputed"} | options
    molecule = dqc.Molecule(*(FORMALDEHYDE if name == "CH2O" else HYDROXYL))
    return dqc.build(molecule, "sto-3g", dqc.functional(xc), **options)  # type: ignore[arg-type]


def by_fock(system: dqc.System, *args: Any) -> dqc.energy.Energies:
    return fock(system, *args, system.grid)[1]


def energy(
    base: dqc.System, xc: dqc.Functional, terms: Callable = by_fock
) -> Callable[[jax.Array], jax.Array]:
    """The energy as a function of the positions, with fixed orbitals, which need not be orthogonal."""
    spins, slots = base.occupations.shape
    n = base.overlap.shape[-1]
    orbitals = jnp.asarray(np.random.default_rng(4).normal(size=(spins, n, slots)) / np.sqrt(n))

    def evaluate(coords: jax.Array) -> jax.Array:
        moved = dqc.at(base, coords)
        return terms(moved, xc, orbitals, base.occupations).total

    return evaluate


def direction(base: dqc.System, seed: int = 0) -> jax.Array:
    real = np.asarray(base.charges) > 0
    return jnp.asarray(np.random.default_rng(seed).normal(size=base.coords.shape) * real[:, None])


def difference(f: Callable, x: jax.Array, v: jax.Array, h: float = 2e-3) -> jax.Array:
    """The five-point formula for the derivative of f along v."""
    a, b, c, d = (f(x + k * h * v) for k in (1, -1, 2, -2))
    return (8 * (a - b) - (c - d)) / (12 * h)


@pytest.mark.parametrize(
    ("name", "xc", "options"),
    [
        ("CH2O", "lc-wpbe", {"ao": "stored", "grid": 2}),
        ("OH", "pbe0", {"two_electron": "exact"}),
    ],
)
def test_at_the_same_positions_nothing_changes(name: str, xc: str, options: dict) -> None:
    base = system(name, xc, **options)
    again = jax.tree_util.tree_leaves_with_path(jax.jit(dqc.at)(base, base.coords))
    for (path, value), old in zip(again, jax.tree.leaves(base), strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(value, old, rtol=1e-12, atol=1e-12, err_msg=name)
        assert value.dtype == old.dtype


@pytest.mark.parametrize(("name", "xc"), [("CH2O", "pbe"), ("OH", "lc-wpbe")])
def test_moved_is_built_there(name: str, xc: str) -> None:
    base, functional = system(name, xc), dqc.functional(xc)
    coords = base.coords + 0.02 * direction(base, 1)
    symbols = (FORMALDEHYDE if name == "CH2O" else HYDROXYL)[0]
    molecule = dqc.Molecule(symbols, np.asarray(coords))
    built = dqc.build(molecule, "sto-3g", functional, grid=0, ao="recomputed")
    moved = jax.jit(dqc.at)(base, coords)
    for key in ("overlap", "kinetic", "nuclear", "dipole", "nuclear_repulsion"):
        np.testing.assert_allclose(getattr(moved, key), getattr(built, key), rtol=0, atol=1e-11)
    energies = [float(jax.jit(energy(s, functional))(coords)) for s in (base, built)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-8)


CASES = [
    ("CH2O", "r2scan", {"ao": "stored"}),
    ("OH", "lc-wpbe", {"ao": "stored"}),
    ("OH", "pbe0", {"two_electron": "exact"}),
]


@pytest.mark.parametrize(("name", "xc", "options"), CASES)
def test_the_gradient_at_a_fixed_density_matrix(name: str, xc: str, options: dict) -> None:
    base = system(name, xc, **options)
    f, x, v = jax.jit(energy(base, dqc.functional(xc))), base.coords, direction(base)
    expected = float(difference(f, x, v))
    gradient = jax.jit(jax.grad(f))(x)
    assert float(jnp.vdot(gradient, v)) == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(gradient.sum(0), 0.0, atol=1e-8)  # points move with their atoms
    if xc == "pbe0":
        assert float(jax.jvp(f, (x,), (v,))[1]) == pytest.approx(expected, rel=1e-7)


def test_follow_keeps_the_values() -> None:
    """And has the derivatives of ``at`` where the system stands."""
    base = system("OH", "lc-wpbe", ao="stored")
    for value, old in zip(jax.tree.leaves(follow(base, base.coords)), jax.tree.leaves(base), strict=True):
        np.testing.assert_array_equal(value, old)
    v = direction(base)
    weights = [
        jax.jit(lambda x, f=f: jax.jvp(lambda x: f(base, x).grid.blocks[0].weights, (x,), (v,))[1])(
            base.coords
        )
        for f in (follow, dqc.at)
    ]
    np.testing.assert_allclose(*weights, atol=1e-12)


def test_ghosts_do_not_move_anything() -> None:
    name = "lda,vwn"
    base, xc = system("OH", name), dqc.functional(name)
    shape = dqc.common_shape([base, system("CH2O", name)])
    padded = dqc.pad(base, shape)
    moved = jax.jit(dqc.at)(padded, padded.coords)
    for value, old in zip(jax.tree.leaves(moved), jax.tree.leaves(padded), strict=True):
        np.testing.assert_allclose(value, old, rtol=1e-12, atol=1e-12)
    n = base.overlap.shape[0]
    orbitals = jnp.asarray(np.random.default_rng(4).normal(size=(2, n, base.occupations.shape[1])))

    def evaluate(system: dqc.System, coords: jax.Array) -> jax.Array:
        moved, (_, slots) = dqc.at(system, coords), system.occupations.shape
        rows = ((0, 0), (0, moved.overlap.shape[0] - n), (0, slots - orbitals.shape[2]))
        energies = fock(moved, xc, jnp.pad(orbitals, rows), system.occupations, moved.grid)[1]
        return energies.total

    gradient = jax.jit(jax.grad(evaluate, argnums=1))(padded, padded.coords)
    v = direction(base)
    expected = difference(jax.jit(lambda x: evaluate(base, x)), base.coords, v)
    assert float(jnp.vdot(gradient[:2], v)) == pytest.approx(float(expected), rel=1e-7)
    np.testing.assert_array_equal(gradient[2:], 0.0)


def test_positions_in_a_batch() -> None:
    base = system("OH", "hf")
    f = energy(base, dqc.functional("hf"))
    single = jax.jit(jax.value_and_grad(f))
    many = jnp.stack([base.coords + 0.05 * direction(base, seed) for seed in range(3)])
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(f)))(many)
    for k, coords in enumerate(many):
        alone = single(coords)
        np.testing.assert_allclose(value[k], alone[0], rtol=1e-13)
        np.testing.assert_allclose(gradient[k], alone[1], atol=1e-11)


def test_different_molecules_in_a_batch() -> None:
    """Of one shape, in one program."""
    systems = [system("OH", "hf"), replace(system("CH2O", "hf"), occupations=jnp.ones((2, 8)))]
    shape = dqc.common_shape(systems)
    padded = [dqc.pad(s, shape) for s in systems]
    batch = dqc.stack([replace(s, coords=s.coords + 0.05 * direction(s)) for s in padded])
    moved = jax.jit(jax.vmap(dqc.at))(dqc.stack(padded), batch.coords)
    for k, alone in enumerate(systems):
        expected = dqc.pad(dqc.at(alone, batch.coords[k, : len(alone.coords)]), shape)
        for value, old in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(value[k], old, rtol=1e-12, atol=1e-12)


def test_the_source_survives_a_file(tmp_path: Path) -> None:
    base, xc = system("OH", "lda,vwn"), dqc.functional("lda,vwn")
    dqc.save(base, tmp_path / "oh")
    loaded = dqc.load(tmp_path / "oh", ao="recomputed")
    coords = base.coords + 0.05 * direction(base)
    energies = [float(jax.jit(energy(s, xc))(coords)) for s in (loaded, base)]
    assert energies[0] == energies[1]


@pytest.mark.parametrize("terms", [by_fock, energies, partial(energies, keep=False)])
def test_second_derivatives_that_mix_positions_with_other_inputs(terms: Callable) -> None:
    """d/dtheta of dE/dR, reverse over reverse and forward over reverse, in both orders."""
    base = system("OH", "pbe", ao="stored")
    xc = dqc.functional("pbe", trainable=("kappa",))
    (start,), tree = jax.tree.flatten(xc)
    v = direction(base)

    def f(x: jax.Array, theta: jax.Array) -> jax.Array:
        return energy(base, jax.tree.unflatten(tree, [theta]), terms)(x)

    force = jax.jit(lambda theta: jnp.vdot(jax.grad(f)(base.coords, theta), v))
    expected = float(difference(force, start, jnp.ones_like(start), 1e-2))
    mixed = {
        "reverse over reverse": jax.jit(jax.grad(force)),
        "forward over reverse": jax.jit(lambda t: jax.jvp(force, (t,), (jnp.ones_like(t),))[1]),
        "positions last": jax.jit(
            lambda theta: jnp.vdot(jax.grad(lambda x: jax.grad(f, 1)(x, theta).sum())(base.coords), v)
        ),
    }
    for name, derivative in mixed.items():
        assert float(derivative(start).sum()) == pytest.approx(expected, rel=1e-7), name


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("jit", [True, False])
def test_second_derivatives_of_integrals_are_refused(outer: Callable, jit: bool) -> None:
    base = system("OH", "hf")
    gradient = jax.grad(lambda x: dqc.at(base, x).overlap.sum())
    with pytest.raises(NotImplementedError, match="differences of analytic forces"):
        outer(jax.jit(gradient) if jit else gradient)(base.coords)


def test_bad_input_is_one_sentence() -> None:
    base = system("OH", "hf")
    with pytest.raises(ValueError, match="build it anew"):
        dqc.at(replace(base, source=None), base.coords)
    with pytest.raises(ValueError, match=r"shape \(3, 3\).*\(2, 3\)"):
        dqc.at(base, jnp.zeros((3, 3)))
