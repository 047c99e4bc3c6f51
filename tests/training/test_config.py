"""TOML files of trainings: what is read, and what is refused with a sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dqc
from dqc.data import Reaction, Reactions, write
from dqc.training import Loss, Stage, config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two data sets of one reaction each, and one of four."""
    atom = dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    bonds = {f"H2 at {r}": dqc.Molecule(["H", "H"], [[0, 0, 0], [0, 0, r]]) for r in (1.4, 2.0, 2.6, 3.2)}
    reactions = [Reaction(name, (name, "H"), (-1.0, 2.0), 0.1) for name in bonds]
    data = Reactions("bonds", {"H": atom} | bonds, tuple(reactions))
    for k in range(2):
        write(data.only(reactions[k : k + 1]), tmp_path / f"one-{k}.json")
    write(data, tmp_path / "four.json")
    return tmp_path


def read(folder: Path, text: str) -> config.Config:
    (folder / "small.toml").write_text(text)
    return config.read(folder / "small.toml")


LEAST = '[data]\ntrain = "one-0.json"\n[[stage]]\n'


def test_what_is_left_out_has_a_default(folder: Path) -> None:
    found = read(folder, LEAST)
    assert found.stages == (Stage(),)
    assert found.loss == Loss()
    assert (found.system, found.scf, found.seed) == ({}, {}, 0)
    assert found.directory == folder / "small"
    assert list(found.parts) == ["train"]
    assert [r.name for r in found.parts["train"].reactions] == ["H2 at 1.4"]
    assert jax.tree.structure(found.members) == jax.tree.structure((dqc.neural(),))


def test_every_key_arrives(folder: Path) -> None:
    found = read(
        folder,
        """
        [functional]
        parent = "pbe0"
        hidden = [3]
        seed = 5
        members = 2
        [data]
        train = ["one-0.json"]
        validation = "one-1.json"
        seed = 7
        [system]
        basis = "sto-3g"
        growth = 2.0
        [scf]
        tolerance = 1e-7
        [loss]
        energy = 2.0
        penalties = { one_electron = 0.5 }
        [[stage]]
        kind = "alternating"
        epochs = 3
        [[stage]]
        clip = 1.0
        loss = { energy = 0.0, dipole = 1.5 }
        [output]
        directory = "there"
        """,
    )
    assert found.directory == folder / "there"
    assert found.system == {"basis": "sto-3g", "growth": 2.0}
    assert (found.scf, found.seed) == ({"tolerance": 1e-7}, 7)
    assert found.loss == Loss(energy=2.0, penalties={"one_electron": 0.5})
    assert found.stages == (Stage("alternating", 3), Stage(clip=1.0, loss=Loss(energy=0.0, dipole=1.5)))
    assert {name: part.reactions[0].name for name, part in found.parts.items()} == {
        "train": "H2 at 1.4", "validation": "H2 at 2.0",
    }  # fmt: skip
    for k, member in enumerate(found.members):
        expected = dqc.neural("pbe0", hidden=(3,), seed=5 + k)
        np.testing.assert_array_equal(*(_flat(xc) for xc in (member, expected)))
    assert not np.array_equal(*map(_flat, found.members))


def _flat(xc: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(xc)])


def test_the_keys_are_those_of_the_classes() -> None:
    """A field that is added to a stage or to the loss cannot be forgotten in the files."""
    stage, loss = ({f.name for f in dataclasses.fields(cls)} for cls in (Stage, Loss))
    assert set(config._STAGE) == stage
    assert set(config._LOSS) == loss - {"own"} | {"anchor"}


def test_a_split(folder: Path) -> None:
    found = read(folder, '[data]\ntrain = "four.json"\nsplit = [0.5, 0.25, 0.25]\n[[stage]]\n')
    sizes = {name: len(part.reactions) for name, part in found.parts.items()}
    assert sizes == {"train": 2, "validation": 1, "test": 1}


def test_a_functional_to_go_on_from(folder: Path) -> None:
    xc = dqc.neural("pbe", hidden=(3,), seed=4)
    dqc.save(xc, folder / "old.safetensors")
    found = read(folder, LEAST + '[functional]\nstart = "old.safetensors"\n')
    np.testing.assert_array_equal(_flat(found.members[0]), _flat(xc))
    found = read(folder, LEAST + '[functional]\nparent = "pbe"\ntrainable = "mu"\n')
    assert float(_flat(found.members[0])[0]) == pytest.approx(0.2195, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stage = [", "no TOML"),
        (LEAST + "[sytem]\n", "sections: no 'sytem'.*nearest: system"),
        (LEAST + "[system]\nbasics = 'sto-3g'\n", r"\[system\]: no 'basics'"),
        (LEAST + "epoch = 3\n", r"\[stage\]: no 'epoch'.*nearest: epochs"),
        (LEAST + "loss = { dipol = 1 }\n", r"\[stage\], loss: no 'dipol'.*nearest: dipole"),
        (LEAST + "[loss]\nown = 1\n", r"\[loss\]: no 'own'"),
        (LEAST + "[loss]\nanchor = { folder = 'x' }\n", "anchor: no 'folder'"),
        (LEAST + "[loss]\nanchor = { directory = 'x' }\n", "anchor needs weight"),
        (
            LEAST + "[loss]\npenalties = { one_elektron = 1 }\n",
            "no penalty 'one_elektron'.*nearest: one_",
        ),
        (LEAST + "[loss]\npenalties = { one_electron = 'much' }\n", "one_electron is 'much', and a number"),
        (LEAST + "[loss]\nenergy = -1\n", "the weight of energy is -1"),
        (LEAST + "[loss]\nenergy = nan\n", "the weight of energy is nan"),
        (LEAST + "epochs = 2.5\n", "epochs is 2.5, and a whole number is expected"),
        (LEAST + "epochs = 0\n", "epochs is 0: a positive whole number"),
        (LEAST + "epochs = true\n", "epochs is True, and a whole number"),
        (LEAST + "kind = 'inscf'\n", "kind is 'inscf'.*nearest: in-scf"),
        (LEAST + "kind = 'in-scf'\nfields = 'hf'\n", "fields are 'hf', which goes with its kind 'post-scf'"),
        (LEAST + "optimizer = 'adan'\n", "optimizer is 'adan'.*nearest: adam"),
        (LEAST + "learning_rate = 'fast'\n", "learning_rate is 'fast', and a number"),
        (LEAST + "learning_rate = -1.0\n", "a positive number"),
        (LEAST + "[functional]\nhidden = 4\n", "hidden is 4, and a list of whole numbers is expected"),
        (LEAST + "[functional]\nhidden = [4, 0.5]\n", "and a list of whole numbers"),
        (LEAST + "[functional]\nconstraints = [1]\n", "and a text or a list of texts is expected"),
        (LEAST + "[functional]\nmembers = 0\n", "members is 0: one at least"),
        (LEAST + "[functional]\nstart = 'x'\nseed = 2\n", "goes with no other key"),
        (LEAST + "[functional]\ntrainable = ['mu']\nseed = 2\n", "goes with parent alone"),
        ("stage = 3\n[data]\ntrain = 'one-0.json'\n", "stage is 3, and a list of tables is expected"),
        ("data = 'one-0.json'\n[[stage]]\n", "data is 'one-0.json', and a table is expected"),
        ("[data]\ntrain = 'one-0.json'\n", r"at least one \[\[stage\]\]"),
        ("[[stage]]\n", r"needs a section \[data\]"),
        ("[data]\ntest = 'one-0.json'\n[[stage]]\n", "train names the file"),
        ("[data]\ntrain = 3\n[[stage]]\n", "train is 3, and a text or a list of texts"),
        (LEAST.replace("[[", "split = [0.9, 0.3]\n[["), "add up to 1"),
        (LEAST.replace("[[", "split = [0.4, 0.2, 0.2, 0.2]\n[["), "shares of train, validation, test"),
        (
            LEAST.replace("[[", "split = [0.6, 0.2, 0.2]\ntest = 'one-1.json'\n[["),
            "shares of train, validation",
        ),
    ],
)
def test_a_mistake_is_a_sentence(folder: Path, unchecked_types: None, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read(folder, text)


def test_files_that_are_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"one-2\.json.*nearest: one-"):
        read(folder, LEAST.replace("one-0", "one-2"))
    with pytest.raises(FileNotFoundError, match=r"functional\.safetensors"):
        read(folder, LEAST + "[loss]\nanchor = { directory = 'nowhere', weight = 1 }\n")
    with pytest.raises(FileNotFoundError, match=r"smal\.toml.*nearest: small\.toml"):
        config.read(folder / "smal.toml")
