"""What a training writes while it runs: progress, the history as JSON lines, and checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from dqc import checkpoint
from dqc.data.sets import Labels, Reactions
from dqc.paths import replacing
from dqc.training.objective import Loss, mean_absolute
from dqc.training.result import fingerprint
from dqc.training.stages import Stage
from dqc.xc.functional import Functional

CHECKPOINT, HISTORY = "checkpoint.safetensors", "history.jsonl"
SECONDS = 30.0  # between checkpoints
OTHERWISE = "give another directory, or restart (restart=True, --restart) and lose it"


@dataclass
class Position:
    """Where a training stands: what will be done next, and what has been seen of the epoch so far."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    partial: list[dict[str, Any]] = field(default_factory=list)  # records of the steps of this epoch
    lines: int = 0  # of the history
    before: dict[str, Any] = field(default_factory=dict)  # errors of the functional at the start


class Log:
    """The files of a training's directory, where it has one, and its progress bars."""

    def __init__(self, directory: Path | None, settings: dict[str, str], progress: bool) -> None:
        self.directory, self.settings, self.progress = directory, settings, progress
        self.history: list[dict[str, Any]] = []
        self.saved = time.monotonic()
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                for partial in directory.glob(f".{CHECKPOINT}.*"):  # left by a training that was killed
                    partial.unlink(missing_ok=True)

    def position(self) -> Position | None:
        """Where the checkpoint of this training stands; None without one. The history goes back to there."""
        if self.directory is None or not (self.directory / CHECKPOINT).is_file():
            return None
        at = Position(**checkpoint.progress_of(self.directory / CHECKPOINT, self.settings, OTHERWISE))
        lines = (self.directory / HISTORY).read_text().splitlines()[: at.lines] if at.lines else []
        self.history = [json.loads(line) for line in lines]
        self._rewrite()
        return at

    def restart(self) -> None:
        """Forget what the directory holds of an earlier training."""
        if self.directory is not None and jax.process_index() == 0:
            (self.directory / CHECKPOINT).unlink(missing_ok=True)
            self._rewrite()

    def _rewrite(self) -> None:
        if self.directory is not None and jax.process_index() == 0:
            with replacing(self.directory / HISTORY) as partial:
                partial.write_text("".join(json.dumps(r) + "\n" for r in self.history))

    def state(self, like: Any) -> Any:
        """The arrays of the checkpoint."""
        assert self.directory is not None
        return checkpoint.read(self.directory / CHECKPOINT, like)

    def checkpoint(self, state: Any, at: Position, now: bool = False) -> None:
        """Write a checkpoint, if it is time for one."""
        if self.directory is None or not (now or time.monotonic() - self.saved > SECONDS):
            return
        if jax.process_index() == 0:
            checkpoint.write(self.directory / CHECKPOINT, state, self.settings, asdict(at))
        self.saved = time.monotonic()

    def record(self, entry: dict[str, Any]) -> int:
        """Add a line to the history, and return their number."""
        self.history.append(entry)
        if self.directory is not None and jax.process_index() == 0:
            with (self.directory / HISTORY).open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return len(self.history)

    def over(self, what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        """A wrapper for an iteration that shows its progress."""
        return lambda items: tqdm(items, desc=what, disable=not self.progress, leave=False)

    @contextmanager
    def bar(self, total: int, done: int) -> Iterator[None]:
        """Show the progress of all steps."""
        with tqdm(total=total, initial=done, disable=not self.progress, unit="step") as self._bar:
            yield

    def advance(self, kind: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Show the latest step."""
        last = records[-1]
        error = mean_absolute(np.array(last["error"]))
        shown = {"loss": f"{np.mean(last['loss']):.4g}", "MAE": f"{error:.2f} kcal/mol"}
        held = [r["validation"]["error"] for r in self.history[-1:] if "validation" in r]
        if held:
            shown["held out"] = f"{mean_absolute(np.array(held[0])):.2f}"
        if last["failed"]:
            shown["failed"] = str(len(last["failed"]))
        self._bar.set_description(kind, refresh=False)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()


def settings_of(
    members: Sequence[Functional],
    parts: Mapping[str, Reactions],
    stages: Sequence[Stage],
    losses: Sequence[Loss],
    build: Mapping[str, Any],
    options: tuple[tuple[str, Any], ...],
    seed: int,
) -> dict[str, str]:
    """A digest of each group of settings that a training's bits depend on."""
    groups = {
        "functional": fingerprint(members),
        "data": {name: _facts(part) for name, part in parts.items()},
        "stages": [text(stage) for stage in stages],
        "loss": [text(loss) for loss in losses],
        "systems": [text(sorted(build.items())), text(options)],
        "seed": seed,
    }
    return {k: hashlib.sha256(json.dumps(v).encode()).hexdigest()[:16] for k, v in groups.items()}


def _facts(data: Reactions) -> list[Any]:
    molecules = [[name, m.symbols, m.coords.tolist(), m.charge, m.spin] for name, m in data.molecules.items()]
    reactions = [[r.name, r.molecules, r.coefficients, r.value] for r in data.reactions]
    return [molecules, reactions, [[name, _known(labels)] for name, labels in data.labels.items()]]


def _known(labels: Labels) -> dict[str, Any]:
    facts = {name: np.asarray(getattr(labels, name)).tolist() for name in labels.known if name != "density"}
    if labels.density is not None:
        matrix = hashlib.sha256(np.ascontiguousarray(labels.density.matrix).tobytes()).hexdigest()
        facts["density"] = [matrix, labels.density.basis]
    return facts


def text(value: Any) -> str:
    """What Python prints of a value, less where its functions lie in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def summary(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of an epoch from those of its steps: means, weighed by the reactions of each."""

    def mean(rows: Sequence[list | None]) -> list:
        held = [(step["reactions"], row) for step, row in zip(steps, rows, strict=True) if row is not None]
        weights = np.array([count for count, _ in held]) / sum(count for count, _ in held)
        return (weights @ np.array([row for _, row in held])).tolist()

    names = dict.fromkeys(name for step in steps for name in step["terms"])  # a batch may lack a label
    return {
        "loss": mean([step["loss"] for step in steps]),
        "terms": {name: mean([step["terms"].get(name) for step in steps]) for name in names},
        "error": mean([step["error"] for step in steps]),
        "failed": sorted({name for step in steps for name in step["failed"]}),
        "skipped": sum(step["skipped"] for step in steps),
    }
