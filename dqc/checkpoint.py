"""Checkpoints: every array of a state, and where it stands, in one file replaced in one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from dqc import tensors
from dqc.types import on_device

WHAT, VERSION = "checkpoint", "2"
S = TypeVar("S")


def write(path: Path, state: Any, settings: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Write a state (any pytree of arrays), what it belongs to, and how far it is, as JSON can hold these."""
    arrays = {f"{k:05d}": leaf for k, leaf in enumerate(jax.tree.leaves(state))}
    header = {"settings": json.dumps(settings), "progress": json.dumps(progress)}
    tensors.write(path, WHAT, VERSION, arrays, header)


def progress_of(path: Path, settings: Mapping[str, Any], advice: str) -> dict[str, Any]:
    """How far a checkpoint is.

    Raises ValueError, with an ``advice``, where it is no checkpoint, or one of other settings.
    """
    with tensors.opened(path, WHAT, VERSION, f": {advice}") as (header, _):
        found, progress = json.loads(header["settings"]), json.loads(header["progress"])
    changed = [name for name, value in settings.items() if found.get(name) != value]
    if changed:
        raise ValueError(f"{path} belongs to a run with other settings ({', '.join(changed)}): {advice}")
    return dict(progress)


def read(path: Path, like: S) -> S:
    """The state of a checkpoint, of the structure and shapes of ``like``."""
    leaves, structure = jax.tree.flatten(like)
    with tensors.opened(path, WHAT, VERSION) as (_, file):
        held = [file.get_tensor(name) for name in sorted(file.keys())]
    if len(held) != len(leaves):
        raise ValueError(f"{path} holds another number of arrays than this run's state")
    for array, leaf in zip(held, leaves, strict=True):
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise ValueError(f"{path} does not fit this run: {array.shape} and {leaf.shape}")
    state: S = jax.tree.unflatten(structure, on_device(held))
    return state
