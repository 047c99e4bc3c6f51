"""dqc train, from a file to a functional, a table and a picture."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import dqc
from dqc.cli import main
from dqc.data import Reaction, Reactions, write
from dqc.training.run import Training

CONFIG = """
[functional]
parent = "pbe"
hidden = [4]
[data]
train = "train.json"
validation = "held.json"
[system]
basis = "6-31g"
grid = 0
[[stage]]
kind = "post-scf"
epochs = 2
learning_rate = 0.1
[[stage]]
kind = "alternating"
epochs = 2
[[stage]]
kind = "in-scf"
epochs = 2
[output]
directory = "out"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    atom = dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    for part, bonds in {"train": {"H2": 1.4, "H2 far": 2.0}, "held": {"H2 near": 1.1}}.items():
        molecules = {name: dqc.Molecule(["H", "H"], [[0, 0, 0], [0, 0, r]]) for name, r in bonds.items()}
        reactions = tuple(Reaction(f"bond of {n}", (n, "H"), (-1.0, 2.0), 0.15) for n in bonds)
        write(Reactions(part, {"H": atom} | molecules, reactions), tmp_path / f"{part}.json")
    path = tmp_path / "small.toml"
    path.write_text(CONFIG)
    return path


def test_from_a_file_to_a_functional(
    config: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", str(config)]) == 0
    out, printed = config.parent / "out", capsys.readouterr().out
    assert "4 molecules; reactions: 2 for train, 1 for validation" in printed
    assert "2 epochs post-scf, 2 epochs alternating, 2 epochs in-scf" in printed
    rows = {line.split("  ")[1]: line.split() for line in table(printed)}
    assert set(rows) == {"bond of H2", "bond of H2 far", "bond of H2 near", "mean absolute error"}
    energy, reference, error, _ = map(float, rows["bond of H2"][-4:])
    assert reference == pytest.approx(94.13, abs=0.01)  # 0.15 hartree in kcal/mol
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in history] == ["post-scf"] * 2 + ["alternating"] * 2 + ["in-scf"] * 2
    assert energy == pytest.approx(reference + error, abs=0.02)
    xc = dqc.functional(out / "functional.safetensors")
    system = dqc.build(dqc.Molecule(["H", "H"], [[0, 0, 0], [0, 0, 1.4]]), "6-31g", xc, grid=0)
    assert bool(dqc.scf(system, xc).converged)
    pictured = importlib.util.find_spec("matplotlib") is not None
    assert (out / "training.png").is_file() == pictured
    assert ("no picture" in printed) != pictured
    if pictured:
        assert (out / "training.png").read_bytes().startswith(b"\x89PNG")

    def step(*args: object) -> None:
        raise AssertionError("a step is taken")

    monkeypatch.setattr(Training, "step", step)
    lines = (out / "history.jsonl").read_text()
    assert main(["train", str(config)]) == 0  # at its end already
    assert (out / "history.jsonl").read_text() == lines
    assert table(capsys.readouterr().out) == table(printed)


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("  ")]


def test_another_directory_and_other_settings(config: Path, capsys: pytest.CaptureFixture) -> None:
    short = config.with_name("short.toml")
    head = CONFIG.split("[[stage]]")[0]
    short.write_text(head + '[[stage]]\nkind = "post-scf"\nepochs = 1\n')
    there = config.parent / "there"
    assert main(["train", str(short), "--directory", str(there)]) == 0
    assert not (config.parent / "short").exists()
    capsys.readouterr()
    short.write_text(head + '[[stage]]\nkind = "post-scf"\nepochs = 2\n')
    assert main(["train", str(short), "--directory", str(there)]) == 2
    assert "other settings (stages)" in capsys.readouterr().err
    assert main(["train", str(short), "--directory", str(there), "--restart"]) == 0
    assert len((there / "history.jsonl").read_text().splitlines()) == 2


def test_a_mistake_is_one_sentence(config: Path, capsys: pytest.CaptureFixture) -> None:
    config.write_text(CONFIG.replace("basis", "bases"))
    assert main(["train", str(config)]) == 2
    assert "no 'bases'" in capsys.readouterr().err
    assert main(["train", str(config.with_name("smal.toml"))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dqc: no file")
    assert "small.toml" in error
    assert len(error.splitlines()) == 1
