"""Molecules whose fields or responses fail: named, left out, and never a silent zero."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import SCF, bent, descent, flat, hydrogen, trained

import dqc
from dqc.data import Labels, Reaction, Reactions
from dqc.training import Loss, Stage

HOPELESS = dqc.Molecule(["He", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]], charge=1)
FEW = SCF | {"max_iterations": 6}  # enough for hydrogen, not for HeH+
IONISATION = {name: Labels(ionisation=0.5) for name in ("H2", "H2 far")}


def moment(system: dqc.System, xc: dqc.Functional, field: dqc.Solution, label: None) -> jax.Array:
    return jnp.einsum("pq,spq->", system.kinetic, field.density_matrix) ** 2


def fails_at_h2(system: dqc.System, xc: dqc.Functional, field: dqc.Solution, label: None) -> jax.Array:
    """The same, as if the response of H2 at 1.4 bohr had not converged."""
    failed = jnp.abs(system.nuclear_repulsion - 1 / 1.4) < 1e-6
    return moment(system, xc, field, label) * jnp.where(failed, jnp.nan, 1.0)


def among_good_ones() -> Reactions:
    good = hydrogen("H2", "H2 far", labels=IONISATION)
    reactions = (*good.reactions, Reaction("HeH+", ("HeH+",), (1.0,), -2.97))
    labels = good.labels | {"HeH+": Labels(ionisation=1.5)}
    return Reactions("hydrogen and one more", good.molecules | {"HeH+": HOPELESS}, reactions, labels)


LOSS = Loss(ionisation=0.3, own={"moment": (0.2, moment)})


@pytest.mark.parametrize("kind", ["in-scf", "post-scf"])
def test_one_that_does_not_converge_is_as_if_it_were_not_there(kind: str) -> None:
    """The other molecules' means are over themselves, and so is every bit of the step."""
    xc = bent()
    found = trained(xc, among_good_ones(), descent(kind), LOSS, scf=FEW)
    alone = trained(xc, hydrogen("H2", "H2 far", labels=IONISATION), descent(kind), LOSS, scf=FEW)
    (record,), (expected,) = found.history, alone.history
    assert record["failed"] == ["HeH+"]
    assert expected["failed"] == []
    assert found.failed == {"HeH+": 1}
    assert record["skipped"] == 0
    assert record["loss"] == expected["loss"]
    assert record["terms"] == expected["terms"]
    assert record["error"] == expected["error"]
    np.testing.assert_array_equal(flat(found.functional), flat(alone.functional))
    assert np.abs(flat(found.functional) - flat(xc)).max() > 1e-6
    errors = found.errors["train"]
    assert np.isfinite(errors.after[0]).tolist() == [True, True, False]
    assert errors.mae == alone.errors["train"].mae


def test_one_whose_response_fails_is_left_out_with_its_energy() -> None:
    """That is known only when all means have been taken, with it: they are taken again."""
    xc, data, stage = bent(), hydrogen("H2", "H2 far", labels=IONISATION), descent("in-scf")
    loss = Loss(ionisation=0.3, own={"moment": (0.2, fails_at_h2)})
    found = trained(xc, data, stage, loss)
    alone = trained(xc, hydrogen("H2 far", labels={"H2 far": IONISATION["H2 far"]}), stage, loss)
    (record,), (expected,) = found.history, alone.history
    assert record["failed"] == ["H2"]
    assert record["terms"] == expected["terms"]
    np.testing.assert_array_equal(flat(found.functional), flat(alone.functional))
    assert np.isfinite(found.errors["train"].after).all()  # in the end energies alone are asked for


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_where_nothing_converges_nothing_moves_and_it_is_told(optimizer: str) -> None:
    xc, data = bent(), hydrogen("H2", "H2 far")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of means over nothing
        found = trained(
            xc, data, Stage("in-scf", 2, 0.1, optimizer, batch=1), scf={"max_iterations": 2}, progress=True
        )
    assert len(found.history) == 2
    for record in found.history:
        assert record["failed"] == ["H2", "H2 far"]
        assert record["skipped"] == 2
        assert np.isnan(record["loss"]).all()
        assert np.isnan(record["error"]).all()
    np.testing.assert_array_equal(flat(found.functional), flat(xc))
    assert found.failed == {"H2": 2, "H2 far": 2}
    assert np.isnan(found.errors["train"].after).all()
    assert np.isnan(found.errors["train"].mae).all()
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(found.fisher))


def test_a_penalty_alone_does_not_steer_where_the_energies_are_lost() -> None:
    xc = bent()
    loss = Loss(penalties={"pull": (1.0, lambda xc: sum(jnp.sum(x**2) for x in jax.tree.leaves(xc)))})
    found = trained(xc, hydrogen("H2"), descent("in-scf"), loss, scf={"max_iterations": 2})
    np.testing.assert_array_equal(flat(found.functional), flat(xc))
    pulled = trained(xc, hydrogen("H2"), descent("in-scf"), loss)
    assert pulled.history[0]["terms"]["pull"][0] == pytest.approx((flat(xc) ** 2).sum())


def test_what_is_held_out_takes_no_part_in_a_step() -> None:
    """Also where it shares a chunk with what is trained on. One batch has no label, another has one."""
    xc, stage = bent(), Stage("in-scf", 2, 1e-3, batch=1)
    data = hydrogen("H2", "H2 far", labels={"H2": Labels(ionisation=0.5)})
    found = []
    for labels, lanes in (({}, 1), ({}, 3), ({"H2 near": Labels(ionisation=0.9)}, 3)):
        held = hydrogen("H2 near", labels=labels)
        found.append(trained(xc, data, stage, LOSS, validation=held, lanes=lanes))
    one, several, labelled = found
    np.testing.assert_array_equal(flat(several.functional), flat(labelled.functional))
    np.testing.assert_allclose(flat(several.functional), flat(one.functional), rtol=0, atol=1e-12)
    for record in (h for f in found for h in f.history):
        assert record["failed"] == []
        assert set(record["terms"]) == {"energy", "ionisation", "moment"}
