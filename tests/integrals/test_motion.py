"""Derivatives of integrals with respect to nuclear positions are differences, in both modes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.integrals import motion

MOLECULES = {
    "CH2O": ("C 0 0 0; O 0 0 1.2; H 0.94 0 -0.54; H -0.94 0.1 -0.54", "sto-3g", "lc-wpbe", "df"),
    "HI": ("I 0 0 0; H 0.3 0.4 1.5", "def2-svp", "lc-wpbe", "df"),  # a core potential, d functions
    "OH": ("O 0 0 0; H 0.5 0 0.9", "def2-svp", "hf", "df"),
    "CO, exact": ("C 0 0 0; O 0.1 0.2 1.1", "sto-3g", "lc-wpbe", "exact"),
}
Arrays = dict[str, jax.Array]


@cache
def system(name: str) -> dqc.System:
    atoms, basis, xc, two_electron = MOLECULES[name]
    built = dqc.build(
        dqc.Molecule.from_string(atoms), basis, dqc.functional(xc), grid=0, two_electron=two_electron
    )  # type: ignore[arg-type]
    return dqc.types.replace(built, grid=None, coarse=None)  # integrals alone


def integrals(name: str) -> Callable[[jax.Array], Arrays]:
    """Every integral as a function of the positions; repulsion by J and K of fixed matrices, since the
    factor B is defined up to a rotation."""
    base = system(name)
    n = base.overlap.shape[0]
    rng = np.random.default_rng(1)
    density, orbitals = rng.normal(size=(n, n)), rng.normal(size=(1, n, 3))
    density, weights = jnp.asarray(density + density.T), jnp.asarray([[1.0, 0.7, 0.3]])

    def evaluate(coords: jax.Array) -> Arrays:
        moved = dqc.at(base, coords)
        found = {k: getattr(moved, k) for k in ("overlap", "kinetic", "nuclear", "dipole")}
        for k, r in enumerate(moved.repulsion):
            found[f"J{k}"] = r.coulomb(density)
            found[f"K{k}"] = r.exchange(jnp.asarray(orbitals), weights)
        return found | {"nuclear_repulsion": moved.nuclear_repulsion, "coords": moved.coords}

    return jax.jit(evaluate)


def difference(f: Callable, x: jax.Array, v: jax.Array, h: float = 2e-3) -> Arrays:
    """The five-point formula for the derivative of f along v."""
    points = [f(x + k * h * v) for k in (1, -1, 2, -2)]
    return jax.tree.map(lambda a, b, c, d: (8 * (a - b) - (c - d)) / (12 * h), *points)


def random_like(tree: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), tree)


def check_translation(change: Arrays, shift: jax.Array, overlap: jax.Array) -> None:
    """It changes nothing but the dipole."""
    np.testing.assert_allclose(change["dipole"], shift[:, None, None] * overlap, atol=1e-10)
    for key in change.keys() - {"dipole", "coords"}:
        assert float(jnp.abs(change[key]).max()) < 1e-9, key


@pytest.mark.parametrize("name", MOLECULES)
def test_derivatives_are_differences_and_the_modes_agree(name: str) -> None:
    f, x = integrals(name), system(name).coords
    v = random_like(x, 0)
    push = jax.jit(lambda x, v: jax.jvp(f, (x,), (v,))[1])
    forward = push(x, v)
    expected = difference(f, x, v)
    for key, value in forward.items():
        singular = name == "HI" and key == "J1"  # the space kept of a singular metric changes too
        scale = (1e-6 if singular else 1e-7) * float(jnp.abs(expected[key]).max())
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=scale, err_msg=key)
    check_translation(push(x, jnp.broadcast_to(v[0], x.shape)), v[0], system(name).overlap)
    weights = random_like(forward, 2)
    back = jax.jit(lambda x, w: jax.vjp(f, x)[1](w)[0])(x, weights)
    both = sum(float(jnp.vdot(weights[k], forward[k])) for k in forward)
    assert float(jnp.vdot(back, v)) == pytest.approx(both, rel=1e-10)


@pytest.mark.parametrize("name", ["CH2O", "CO, exact"])
def test_small_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks end inside shells, and the last one is not full."""
    base = system(name)
    x = base.coords
    v = random_like(x, 0)
    r = base.repulsion[-1]
    known = (motion.place(base.source, base.charges, x), r.omega)
    if name.endswith("exact"):
        kind, value = motion.EXACT, r.integrals
    else:
        kind, value = motion.FITTED, r.factor
        known = (*known, value)

    def both() -> tuple:
        return kind.push(v, value, *known), kind.pull(value, *known)

    whole = both()
    monkeypatch.setattr(motion, "chunk_rows", lambda rows, size: 7)
    for found, expected in zip(both(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * float(jnp.abs(expected).max()))


def test_the_memory_of_a_gradient_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the integrals with a gradient are stored, nor anything of their size."""
    molecule = dqc.Molecule.from_string(MOLECULES["CH2O"][0])
    base = dqc.build(molecule, "def2-svp", dqc.functional("hf"))
    r, n = base.repulsion[0], base.overlap.shape[0]
    here = motion.place(base.source, base.charges, base.coords)
    tracemalloc.start()
    peaks = []
    for rows in (len(r.factor), 4):
        monkeypatch.setattr(motion, "chunk_rows", lambda *_, rows=rows: rows)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        motion.FITTED.pull(r.factor, here, r.omega, r.factor)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    integrals = 3 * n * n * r.factor.shape[0] * 8
    assert peaks[0] > integrals
    assert peaks[1] < 0.5 * integrals


def test_outside_programs_the_host_is_called_once() -> None:
    """Nothing is traced or compiled, and the derivative by the slope is the map itself."""
    base, kind = system("OH"), motion.ONE_ELECTRON["overlap"]
    here = motion.place(base.source, base.charges, base.coords)
    slope = random_like({"S": base.overlap}, 3)["S"]
    pull = lambda slope: kind.pull(slope, here)  # noqa: E731
    found = pull(slope)
    np.testing.assert_allclose(jax.jit(pull)(slope), found, rtol=1e-14, atol=1e-14)
    v = random_like({"R": base.coords}, 4)["R"]
    (change,) = jax.vjp(pull, slope)[1](v)
    np.testing.assert_allclose(change, kind.push(v, slope, here), rtol=1e-14)
    assert float(jnp.vdot(found, v)) == pytest.approx(float(jnp.vdot(slope, change)), rel=1e-12)
    many = jax.vmap(pull)(jnp.stack([slope, 2 * slope]))
    np.testing.assert_allclose(many[1], 2 * found, rtol=1e-13, atol=1e-13)
