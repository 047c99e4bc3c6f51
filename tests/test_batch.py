"""Systems brought to one shape: no energy changes, and one compiled program serves them all."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.batch import BlockShape, shape_of
from dqc.density import density_matrix
from dqc.linalg import ghost_level
from dqc.system import strip_ao
from dqc.types import replace

WATER = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"
STRETCHED = "O 0 0 0.1173; H 0 0.8572 -0.5692; H 0 -0.7572 -0.4692"
AMMONIA = "N 0 0 0.1; H 0 0.94 -0.27; H 0.81 -0.47 -0.27; H -0.81 -0.47 -0.27"
IMIDOGEN = "N 0 0 0; H 0 0 1.04"  # a triplet; a degenerate open shell may settle in different states

compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: (
        compilations.append(event) if event.endswith("backend_compile_duration") else None
    )
)


@cache
def functional(name: str) -> dqc.Functional:
    return dqc.functional(name)


@cache
def system(atoms: str, xc: str = "lda,vwn", **options: Any) -> dqc.System:
    options = {"grid": 0, "ao": "recomputed"} | options
    molecule = dqc.Molecule.from_string(atoms, spin=2 if atoms == IMIDOGEN else 0)
    return dqc.build(molecule, "sto-3g", functional(xc), **options)


@cache
def alone(atoms: str) -> dqc.Solution:
    return dqc.scf(system(atoms), functional("lda,vwn"))


def larger(blocks: tuple[BlockShape, ...]) -> tuple[BlockShape, ...]:
    """Two more chunks, one more shell of each angular momentum, and d shells."""
    return tuple((chunks + 2, (*(h + 1 for h in shells), 1)) for chunks, shells in blocks)


CASES = {
    "closed shell, fitted, hybrid, coarse grid, stored": (
        WATER,
        {"xc": "pbe0", "grid": 2, "ao": "stored"},
    ),
    "open shell, exact, recomputed": (IMIDOGEN, {"xc": "lda,vwn", "two_electron": "exact"}),
    "open shell, two operators": (IMIDOGEN, {"xc": "lc-wpbe", "ao": "stored"}),
}


@pytest.mark.parametrize("case", CASES)
def test_padded_equals_unpadded(case: str) -> None:
    """Ghosts of every kind at once: atoms, orbitals, slots, fitting functions, shells, points, d shells."""
    atoms, options = CASES[case]
    small, xc = system(atoms, **options), functional(options["xc"])
    shape = shape_of(small)
    room = shape._replace(
        atoms=shape.atoms + 2,
        orbitals=shape.orbitals + 4,
        slots=shape.slots + 2,
        auxiliary=tuple(rows and rows + 5 for rows in shape.auxiliary),
        shells=(*((h + 1, r + 2) for h, r in shape.shells), (2, 3)),
        grid=larger(shape.grid),
        coarse=larger(shape.coarse),
    )
    padded = dqc.pad(small, room)
    assert shape_of(padded) == room
    a, b = dqc.scf(small, xc, tolerance=1e-7), dqc.scf(padded, xc, tolerance=1e-7)
    assert bool(a.converged)
    assert bool(b.converged)
    for ours, theirs in zip(jax.tree.leaves(b.energies), jax.tree.leaves(a.energies), strict=True):
        assert abs(float(ours - theirs)) < 1e-8, "a term"
    assert abs(float(b.energy - a.energy)) <= 1e-10
    n = shape.orbitals
    np.testing.assert_allclose(b.density_matrix[:, :n, :n], a.density_matrix, atol=1e-6)
    np.testing.assert_allclose(b.density_matrix[:, n:], 0.0, atol=1e-10)
    np.testing.assert_allclose(b.mo_energy[:, :n], a.mo_energy, atol=1e-7)
    assert (np.asarray(b.mo_energy[:, n:]) >= ghost_level(b.mo_energy.dtype)).all()
    assert int(a.iterations) == int(b.iterations)


def test_nothing_to_pad_changes_nothing() -> None:
    small = system(WATER)
    padded = dqc.pad(small, shape_of(small))
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(padded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stored_orbital_values_are_stored_again() -> None:
    stored, recomputed = (system(WATER, "pbe", ao=ao) for ao in ("stored", "recomputed"))
    shape = shape_of(system(AMMONIA, "pbe"))
    again = dqc.pad(stored, shape).grid.blocks[0].ao
    assert again is not None
    assert again.shape[1] == 4
    assert dqc.pad(recomputed, shape).grid.blocks[0].ao is None
    np.testing.assert_array_equal(again, dqc.system.store_ao(dqc.pad(recomputed, shape)).grid.blocks[0].ao)


@pytest.mark.parametrize("field", ["atoms", "orbitals", "slots", "auxiliary", "shells", "grid"])
def test_a_shape_too_small_is_refused(field: str) -> None:
    shape = shape_of(system(WATER))

    def smaller(value: Any) -> Any:
        return value - 1 if isinstance(value, int) else tuple(map(smaller, value))

    with pytest.raises(ValueError, match=f"does not fit into the shape.* {field}"):
        dqc.pad(system(WATER), shape._replace(**{field: smaller(getattr(shape, field))}))


def test_blocks_cannot_be_added() -> None:
    shape = shape_of(system(WATER))
    with pytest.raises(ValueError, match=r"does not fit into the shape.* blocks of the grid"):
        dqc.pad(system(WATER), shape._replace(grid=shape.grid * 2))


def test_stack_wants_one_shape() -> None:
    with pytest.raises(ValueError, match=r"Systems 0 and 2 have different shapes; pad them"):
        dqc.stack([system(WATER), system(WATER), system(AMMONIA)])
    with pytest.raises(ValueError, match="no systems"):
        dqc.stack([])


def test_unstack_undoes_stack() -> None:
    shape = dqc.common_shape([system(WATER), system(AMMONIA)])
    systems = [dqc.pad(system(a), shape) for a in (WATER, AMMONIA)]
    for before, after in zip(systems, dqc.unstack(dqc.stack(systems)), strict=True):
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_batch_gives_the_results_of_its_molecules() -> None:
    """Different molecules through bucket and vmap; the open shell has a bucket of its own."""
    atoms = [AMMONIA, IMIDOGEN, WATER, STRETCHED]
    systems = [system(a) for a in atoms]
    buckets = dqc.bucket(systems)
    assert sorted(sorted(indices) for indices, _ in buckets) == [[0, 2, 3], [1]]
    solve = jax.vmap(dqc.scf, in_axes=(0, None))
    for indices, batch in buckets:
        solutions = solve(batch, functional("lda,vwn"))
        assert np.asarray(solutions.converged).all()
        for index, solution in zip(indices, dqc.unstack(solutions), strict=True):
            single = alone(atoms[index])
            assert abs(float(solution.energy - single.energy)) <= 1e-9
            assert int(solution.iterations) == int(single.iterations)
            n = single.mo_energy.shape[1]
            np.testing.assert_allclose(solution.mo_energy[:, :n], single.mo_energy, atol=1e-6)
    assert 0.0 < dqc.padding_waste(systems, buckets) < 1.0
    _, batch = next(b for b in buckets if len(b[0]) > 1)
    turned = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[::-1]), batch)
    before = len(compilations)
    jax.block_until_ready(solve(turned, functional("lda,vwn")))
    assert len(compilations) == before, "a second batch of the shape compiles nothing"


def test_a_second_molecule_of_the_bucket_compiles_nothing() -> None:
    shape = dqc.common_shape([system(WATER), system(AMMONIA)])
    water, ammonia = (dqc.pad(system(a), shape) for a in (WATER, AMMONIA))
    first = dqc.scf(water, functional("lda,vwn"))
    first.energy.block_until_ready()
    before = len(compilations)
    second = dqc.scf(ammonia, functional("lda,vwn"))
    second.energy.block_until_ready()
    assert len(compilations) == before
    assert abs(float(second.energy - alone(AMMONIA).energy)) <= 1e-9
    jax.jit(lambda x: 3 * x + 17.25)(np.ones(3))
    assert len(compilations) > before, "the listener hears a compilation"


def test_buckets_keep_kinds_apart() -> None:
    options: list[dict] = [{}, {"two_electron": "exact"}, {"grid": 2}, {"ao": "stored"}, {"xc": "hf"}]
    systems = [system(WATER, **o) for o in options]
    assert sorted(indices for indices, _ in dqc.bucket(systems)) == [[0], [1], [2], [3], [4]]
    assert [indices for indices, _ in dqc.bucket([systems[0]] * 3)] == [[0, 1, 2]]


def test_buckets_hold_like_sizes() -> None:
    systems = [system(a) for a in ("He 0 0 0", WATER, AMMONIA, "H 0 0 0; H 0 0 0.74", "Ne 0 0 0", WATER)]
    buckets = dqc.bucket(systems)
    assert sorted(k for indices, _ in buckets for k in indices) == list(range(6))
    for indices, batch in buckets:
        sizes = [len(systems[k].overlap) for k in indices]
        assert max(sizes) <= 1.25 * min(sizes)
        assert batch.overlap.shape[:2] == (len(indices), max(sizes))


def test_equal_shapes_waste_nothing() -> None:
    systems = [system(WATER)] * 2
    assert dqc.padding_waste(systems, dqc.bucket(systems)) == 0.0


def test_merged_blocks_store_orbital_values_anew() -> None:
    stored = system(WATER, "pbe", ao="stored")
    ((_, batch),) = dqc.bucket([split_grid(stored), stored])
    (block,) = batch.grid.blocks
    assert block.ao is not None
    np.testing.assert_array_equal(block.ao[0], block.ao[1])


def split_grid(whole: dqc.System) -> dqc.System:
    """The same system with the one block of its grid in two."""
    (block,) = whole.grid.blocks
    halves = tuple(jax.tree.map(lambda x, s=s: x[s], block) for s in (slice(0, 2), slice(2, None)))
    return replace(whole, grid=replace(whole.grid, blocks=halves))


def test_blocks_are_merged_where_their_numbers_differ() -> None:
    """A grid in two blocks meets one in a single block: both become one, with the same energy."""
    water, xc = system(WATER), functional("lda,vwn")
    (block,) = water.grid.blocks
    split = split_grid(water)
    shape = dqc.common_shape([split, system(AMMONIA)])
    assert len(shape.grid) == 1
    assert shape.grid[0][0] == max(len(block.weights), shape_of(system(AMMONIA)).grid[0][0])
    merged = dqc.pad(split, shape)
    assert abs(float(dqc.scf(merged, xc).energy - alone(WATER).energy)) <= 1e-10
    ((indices, batch),) = dqc.bucket([split, water])
    assert len(indices) == 2
    np.testing.assert_array_equal(batch.grid.blocks[0].weights[0], batch.grid.blocks[0].weights[1])


def test_ghosts_carry_no_density() -> None:
    """A density matrix over real orbitals has the same electrons in the padded overlap."""
    water = system(WATER)
    padded = dqc.pad(water, shape_of(system(AMMONIA)))
    C = jnp.linalg.eigh(padded.kinetic + padded.nuclear)[1][None, :, :5]
    P = density_matrix(C, jnp.full((1, 5), 2.0))[0]
    np.testing.assert_allclose(P[-1], 0.0, atol=1e-12)
    np.testing.assert_allclose(jnp.vdot(P, padded.overlap), jnp.vdot(P[:-1, :-1], water.overlap), rtol=1e-12)
    assert strip_ao(padded).grid.blocks[0].ao is None
