"""Whole trainings: ensembles, validation, what is compiled, and what is refused at the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import bent, bond, flat, hydrogen, small, trained, with_atom

import dqc
from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.data import Labels, Reactions
from dqc.energy import energies
from dqc.training import Loss, Stage, programs
from dqc.training.log import summary
from dqc.training.systems import prepare


def test_an_ensemble_is_its_members(tmp_path: Path) -> None:
    """Also in what one could do to another: the norm that gradients are clipped to, and the best epoch."""
    members = [bent(seed) for seed in range(3)]
    stages = [Stage("post-scf", 2, 0.02, clip=0.5), Stage("in-scf", 2, 0.02, batch=1)]
    data, held = hydrogen("H2", "H2 far"), hydrogen("H2 near")
    together = trained(members, data, stages, validation=held, directory=tmp_path)
    errors = together.errors["train"]
    assert errors.before.shape == errors.after.shape == (3, 2)
    for k, xc in enumerate(members):
        alone = trained(xc, data, stages, validation=held)
        np.testing.assert_allclose(flat(together.functionals[k]), flat(alone.functional), rtol=0, atol=1e-10)
        for part in ("train", "validation"):
            for when in ("before", "after"):
                np.testing.assert_allclose(
                    getattr(together.errors[part], when)[k : k + 1],
                    getattr(alone.errors[part], when),
                    atol=1e-8,
                )
        for ours, theirs in zip(together.history, alone.history, strict=True):
            assert ours["loss"][k] == pytest.approx(theirs["loss"][0], rel=1e-9)
            assert ours["validation"]["error"][k] == pytest.approx(theirs["validation"]["error"][0], abs=1e-8)
        file = tmp_path / ("functional.safetensors" if k == 0 else f"functional-{k}.safetensors")
        np.testing.assert_array_equal(flat(dqc.functional(file)), flat(together.functionals[k]))
    spread = np.std([flat(xc) for xc in together.functionals], axis=0).max()
    assert spread > 0.01  # the members are different ones


def test_training_lowers_the_errors() -> None:
    found = trained(small(), hydrogen(), [Stage("post-scf", 20, 0.05), Stage("in-scf", 4, 0.02)])
    before, after = found.errors["train"].mae
    assert after < 0.7 * before
    losses = [record["loss"][0] for record in found.history]
    assert losses[-1] < 0.5 * losses[0]
    assert [record["kind"] for record in found.history] == ["post-scf"] * 20 + ["in-scf"] * 4
    assert [record["epoch"] for record in found.history] == [*range(20), *range(4)]


@pytest.mark.parametrize("fields", ["hf", "pbe0"])
def test_fixed_fields_may_be_those_of_another_functional(fields: str) -> None:
    """The first energy is the functional's on those orbitals; the stage after solves its own again."""
    xc, data = bent(size=1.0), hydrogen("H2 far")
    stages = [Stage("post-scf", 1, fields=fields), Stage("in-scf", 1)]
    found = trained(xc, data, stages, basis="6-31g", grid=0)
    system = dqc.build(bond(2.0), "6-31g", dqc.functional("pbe0"), grid=0)
    theirs, own = (dqc.scf(system, f, tolerance=1e-9) for f in (dqc.functional(fields), xc))
    fixed = energies(system, xc, theirs.mo_coeff[:, :, :1], theirs.occupations).total
    first = HARTREE_IN_KCAL_PER_MOL * abs(float(fixed) - data.reactions[0].value)
    assert found.history[0]["error"][0] == pytest.approx(first, abs=1e-5)
    assert HARTREE_IN_KCAL_PER_MOL * (float(fixed) - float(own.energy)) > 1e-2
    assert found.history[1]["error"][0] == pytest.approx(found.errors["train"].mae[1], abs=5.0)


def test_the_parameters_with_the_smallest_error_of_validation_are_kept() -> None:
    """Steps that are far too long: the last epoch is not the best."""
    stage = Stage("in-scf", 6, 1.0, schedule="constant")
    found = trained(bent(), hydrogen("H2"), stage, validation=hydrogen("H2 far"))
    history = [record["validation"]["error"][0] for record in found.history]
    best = min(found.errors["validation"].mae[0], *history)  # what the stage began with is among them
    assert best < 0.9 * history[-1]
    assert found.errors["validation"].mae[1] == pytest.approx(best, abs=1e-5)
    seldom = trained(bent(), hydrogen("H2"), Stage("in-scf", 3, validate=2), validation=hydrogen("H2 far"))
    assert ["validation" in record for record in seldom.history] == [False, True, True]


def test_one_compilation_for_each_program_and_shape() -> None:
    """Atoms and molecules are two shapes; steps, batches and further molecules of a shape compile nothing."""
    jitted = (programs.start, programs.solve, programs.observe)
    for program in jitted:
        program.clear_cache()
    stages = [Stage("post-scf", 2), Stage("alternating", 2), Stage("in-scf", 2, batch=1)]
    found = trained(bent(), with_atom(hydrogen("H2", "H2 far")), stages, validation=hydrogen("H2 near"))
    assert len(found.history) == 6
    assert [program._cache_size() for program in jitted] == [2, 2, 2]
    trained(bent(1), with_atom(hydrogen("H2", "H2 near")), stages)
    assert [program._cache_size() for program in jitted] == [2, 2, 2]


def test_terms_of_a_loss_are_one_more_program_for_each_shape() -> None:
    """Whether or not a batch has labels, as its molecules have some."""
    for program in (programs.solve, programs.observe):
        program.clear_cache()
    data = hydrogen("H2", "H2 far", labels={"H2": Labels(ionisation=0.5)})
    found = trained(bent(), data, Stage("in-scf", 2, batch=1), Loss(ionisation=0.3))
    assert found.history[0]["terms"].keys() == {"energy", "ionisation"}
    assert programs.solve._cache_size() == 1
    assert programs.observe._cache_size() == 2  # of energies alone before and after, and of steps


def test_shapes_are_few_and_padding_is_told() -> None:
    molecules = with_atom(hydrogen()).molecules
    prepared = prepare(molecules, small(), basis="6-31g", grid=0)
    assert prepared.programs == 2
    assert sorted(prepared.names) == sorted(molecules)
    assert prepared.padding_waste == pytest.approx(0.0, abs=0.2)
    with pytest.raises(ValueError, match="lanes=0 should be a positive multiple"):
        prepare(molecules, small(), basis="6-31g", grid=0, lanes=0)


def test_the_record_of_an_epoch_weighs_its_steps() -> None:
    def step(count: int, loss: float, **terms: float) -> dict:
        return {
            "loss": [loss], "terms": {n: [x] for n, x in terms.items()}, "error": [loss], "reactions": count,
            "failed": [f"m{count}"], "skipped": 0,
        }  # fmt: skip

    found = summary([step(3, 1.0, energy=1.0), step(1, 5.0, energy=5.0, dipole=2.0)])
    assert found["loss"] == [2.0]
    assert found["terms"] == {"energy": [2.0], "dipole": [2.0]}
    assert found["failed"] == ["m1", "m3"]


def labelled() -> Reactions:
    """The only label is that of a molecule that no reaction names, so that no step ever sees it."""
    data = hydrogen("H2")
    molecules = data.molecules | {"H2 far": bond(2.0)}
    return Reactions("x", molecules, data.reactions, {"H2 far": Labels(dipole=np.zeros(3))})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: trained(small(), hydrogen(), []), "no stages"),
        (lambda: trained(small(), Reactions("x", {"H2": bond(1.4)}, ()), Stage()), "has no reactions"),
        (lambda: trained(dqc.functional("pbe"), hydrogen(), Stage()), "no parameters to train"),
        (
            lambda: trained([small(), dqc.neural("pbe")], hydrogen(), Stage()),
            "differ in more than",
        ),
        (
            lambda: trained(small(), hydrogen("H2"), Stage(), test=hydrogen("H2", "H2 far")),
            "H2 would be in the training and in the test data",
        ),
        (
            lambda: trained(small(), hydrogen(), Stage(), Loss(dipole=1.0)),
            "asks for the label dipole, and no molecule",
        ),
        (
            lambda: trained(small(), hydrogen(), Stage(loss=Loss(density=1.0)), Loss()),
            "asks for the label density",
        ),
        (lambda: trained(small(), labelled(), Stage(), Loss(dipole=1.0)), "no molecule of a reaction"),
    ],
)
def test_refused(given, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        given()


def test_the_same_molecule_on_two_sides_is_found_by_its_structure() -> None:
    """Under another name, and turned."""
    turned = dqc.Molecule(["H", "H"], [[1.0, 0.0, 0.0], [1.0, 1.4, 0.0]])
    data, held = hydrogen("H2"), hydrogen("H2 far")
    other = Reactions("x", {"H2 far": turned}, held.reactions)
    with pytest.raises(ValueError, match="H2 would be in the training and in the validation data"):
        trained(small(), data, Stage(), validation=other)
