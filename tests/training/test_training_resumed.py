"""Trainings that are killed: they go on from their last checkpoint and end with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from toys import SCF, bent, bond, flat, hydrogen, trained

from dqc import checkpoint, tensors
from dqc.data import Density, Labels, Reactions
from dqc.training import Loss, Stage, log
from dqc.training.log import settings_of
from dqc.training.result import Trained
from dqc.training.run import Training

STAGES = (Stage("post-scf", 2, 0.02), Stage("in-scf", 3, 0.02, batch=1))


def whole(directory: Path | None, **options: Any) -> Trained:
    """Two epochs of one step on fixed fields, three of two steps on self-consistent ones."""
    data, held = hydrogen("H2", "H2 far"), hydrogen("H2 near")
    return trained(bent(), data, STAGES, validation=held, directory=directory, **options)


def killed(directory: str, number: int, torn: bool) -> None:
    """The same, with a checkpoint after everything; killed when one is about to be written, or half is."""
    log.SECONDS = -1.0
    write, save, count = checkpoint.write, tensors.save_file, 0

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(*args: Any) -> None:
        nonlocal count
        count += 1
        if count == number and not torn:
            end()
        write(*args)

    def half(arrays: dict, path: Path, metadata: dict) -> None:
        save(arrays, path, metadata)
        if count == number:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            end()

    checkpoint.write, tensors.save_file = counted, half
    whole(Path(directory))


def kill(directory: Path, number: int, torn: bool = False) -> dict[str, Any]:
    """Run and kill it in a process of its own; returns where the checkpoint stands."""
    code = f"from test_training_resumed import killed\nkilled({str(directory)!r}, {number}, {torn})"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    ran = subprocess.run(
        [sys.executable, "-c", "import dqc.cache; dqc.cache.enable()\n" + code],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    with safe_open(directory / log.CHECKPOINT, framework="numpy") as file:
        at: dict[str, Any] = json.loads(file.metadata()["progress"])
    return at


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def lines(directory: Path) -> list[dict[str, Any]]:
    return timeless([json.loads(line) for line in (directory / log.HISTORY).read_text().splitlines()])


def test_killed_twice_and_resumed_it_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, resumed = tmp_path / "a", tmp_path / "b"
    expected = whole(uninterrupted)
    # Before the checkpoint that follows the second epoch: its line is in the history, and is written again.
    at = kill(resumed, 4)
    assert (at["stage"], at["epoch"], at["step"], at["lines"]) == (0, 1, 1, 1)
    assert len(lines(resumed)) == 2
    # Between two minibatches of the second epoch in the field, with half a checkpoint written.
    at = kill(resumed, 7, torn=True)
    assert (at["stage"], at["epoch"], at["step"], at["lines"]) == (1, 1, 1, 3)
    assert len(at["partial"]) == 1
    assert len(list(resumed.glob(".*"))) == 1  # the half
    steps, step = 0, Training.step

    def counted(self: Training, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        return step(self, *args)

    monkeypatch.setattr(Training, "step", counted)
    found = whole(resumed)
    assert steps == 3  # one of the second epoch and two of the third
    np.testing.assert_array_equal(flat(found.functional), flat(expected.functional))
    np.testing.assert_array_equal(flat(found.fisher), flat(expected.fisher))
    assert timeless(found.history) == timeless(expected.history) == lines(resumed) == lines(uninterrupted)
    for part in ("train", "validation"):
        np.testing.assert_array_equal(found.errors[part].before, expected.errors[part].before)
        np.testing.assert_array_equal(found.errors[part].after, expected.errors[part].after)
    states = [load_file(folder / log.CHECKPOINT) for folder in (resumed, uninterrupted)]
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():  # parameters, optimiser, fields
        np.testing.assert_array_equal(array, states[1][name])
    assert sorted(p.name for p in resumed.iterdir()) == sorted(p.name for p in uninterrupted.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("finished")
    return whole(folder), folder


def test_a_finished_training_is_not_repeated(
    finished: tuple[Trained, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, folder = finished

    def step(*args: object) -> None:
        raise AssertionError("a step is taken")

    monkeypatch.setattr(Training, "step", step)
    again = whole(folder)
    np.testing.assert_array_equal(flat(again.functional), flat(expected.functional))
    np.testing.assert_array_equal(again.errors["train"].after, expected.errors["train"].after)
    assert again.history == expected.history
    with pytest.raises(AssertionError, match="a step is taken"):
        whole(folder, restart=True)
    assert not (folder / log.CHECKPOINT).exists()
    assert lines(folder) == []


def test_a_checkpoint_of_another_training_is_refused(finished: tuple[Trained, Path]) -> None:
    folder = finished[1].parent / "other settings"
    stage, data = Stage("post-scf", 1), hydrogen("H2")
    trained(bent(), data, stage, directory=folder)
    for what, arguments, options in (
        ("functional", (bent(1), data, stage), {}),
        ("data", (bent(), hydrogen("H2 far"), stage), {}),
        ("data", (bent(), hydrogen("H2", labels={"H2": Labels(ionisation=0.5)}), stage), {}),
        ("stages", (bent(), data, Stage("post-scf", 2)), {}),
        ("loss", (bent(), data, stage, Loss(energy=2.0)), {}),
        ("systems", (bent(), data, stage), {"scf": SCF | {"damping": 0.1}}),
        ("systems", (bent(), data, stage), {"grid": 1}),
        ("seed", (bent(), data, stage), {"seed": 1}),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({what}\).*restart=True"):
            trained(*arguments, directory=folder, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(functional, seed\)"):
        trained(bent(1), data, stage, directory=folder, seed=1)
    assert (folder / log.CHECKPOINT).is_file()


def test_settings_are_the_same_in_another_process() -> None:
    """Where functions lie in memory is no setting; what is known of a molecule is one, densities included."""

    def digests(**labels: Any) -> dict[str, str]:
        loss = Loss(penalties={"p": (1.0, lambda xc: 0.0)})
        stage = Stage("in-scf", 1, optimizer=optax.sgd(1.0), loss=loss)
        data = Reactions("x", {"H2": bond(1.4)}, (), {"H2": Labels(**labels)})
        return settings_of([bent()], {"train": data}, [stage], [Loss()], {}, (), 0)

    def changed(**labels: Any) -> list[str]:
        return [name for name, digest in digests(**labels).items() if digest != digests()[name]]

    assert changed() == []
    assert changed(energy=-1.0) == changed(dipole=np.zeros(3)) == ["data"]
    one, two = (Density(np.stack([k * np.eye(2)] * 2), "sto-3g") for k in (1.0, 2.0))
    assert digests(density=one)["data"] != digests(density=two)["data"]
    np.testing.assert_equal(digests(density=one), digests(density=one))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / log.CHECKPOINT
    path.write_bytes(b"half of a checkpoint")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        trained(bent(), hydrogen("H2"), Stage("post-scf", 1), directory=tmp_path)
    state = {"a": np.zeros(3), "b": np.ones((2, 2))}
    checkpoint.write(path, state, {"seed": "x"}, {"step": 1})
    assert checkpoint.progress_of(path, {"seed": "x"}, "start anew") == {"step": 1}
    for name, array in checkpoint.read(path, state).items():
        np.testing.assert_array_equal(array, state[name])
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        checkpoint.read(path, state | {"a": np.zeros(4)})
    with pytest.raises(ValueError, match="another number of arrays"):
        checkpoint.read(path, {"a": np.zeros(3)})
