"""Checkpoints: every array of a training's state, and where it stands, in one file replaced in one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dqc.paths import replacing

FORMAT = "dqc training"
VERSION = "1"
S = TypeVar("S")


def write(path: Path, state: Any, progress: dict[str, Any], settings: dict[str, str]) -> None:
    """Write a state (any pytree of arrays), the progress, and a digest of each group of settings."""
    leaves = {f"{k:05d}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
    header = {"format": FORMAT, "version": VERSION}
    header |= {"progress": json.dumps(progress), "settings": json.dumps(settings)}
    with replacing(path) as partial:
        save_file({k: np.ascontiguousarray(x).reshape(x.shape) for k, x in leaves.items()}, partial, header)


def progress_of(path: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Where a checkpoint stands; raises ValueError where it is no checkpoint, or one of other settings."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no checkpoint ({error})") from None
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path} is no checkpoint of this version")
    other = json.loads(header["settings"])
    changed = [name for name, digest in settings.items() if other.get(name) != digest]
    if changed:
        raise ValueError(
            f"{path} belongs to a training with other settings ({', '.join(changed)}): give another "
            "directory, or restart (restart=True, --restart) and lose it"
        )
    progress: dict[str, Any] = json.loads(header["progress"])
    return progress


def read(path: Path, like: S) -> S:
    """The state of a checkpoint, of the structure and shapes of ``like``."""
    leaves, structure = jax.tree.flatten(like)
    with safe_open(path, framework="numpy") as file:
        held = [file.get_tensor(f"{k:05d}") for k in range(len(leaves))]
        if len(list(file.keys())) != len(leaves):
            raise ValueError(f"{path} holds another number of arrays than this training's state")
    for array, leaf in zip(held, leaves, strict=True):
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise ValueError(f"{path} does not fit this training: {array.shape} and {leaf.shape}")
    state: S = jax.tree.unflatten(structure, jax.device_put(held))
    return state
