"""A ``System`` as one file, so that a machine without PySCF can compute with it.

The file is safetensors: the arrays under their paths in the tree (``repulsion.0.factor``), and the tree
itself as JSON in the header. Values of orbitals on the grid are not written; loading computes them anew.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dqc import tensors
from dqc.basis import Shells
from dqc.grid import Block, Grid
from dqc.integrals.coulomb import Exact, Fitted
from dqc.integrals.source import Source
from dqc.system import System, ao_bytes, memory_bytes, store_ao, strip_ao
from dqc.types import on_device
from dqc.xc import files
from dqc.xc.functional import Functional

WHAT, VERSION = "system", "3"

_CLASSES: dict[str, type] = {
    cls.__name__: cls for cls in (System, Shells, Block, Grid, Fitted, Exact, Source)
}
_ARRAY = "array"  # stands in the tree where the file holds an array of that path


def save(what: System | Functional, path: str | Path, record: dict[str, Any] | None = None) -> None:
    """Write a system or a functional to one file (in atomic units, as it is), replacing it in one step.

    With a functional goes the ``record`` of its training, anything that JSON can hold; see
    :mod:`dqc.xc.files`, whose ``functional`` reads it back.
    """
    if not isinstance(what, System):
        return files.write(what, path, record)
    system, arrays = what, dict[str, np.ndarray]()
    tree = _described(strip_ao(system), "", arrays)
    return tensors.write(path, WHAT, VERSION, arrays, {"units": "atomic", "tree": json.dumps(tree)})


def load(path: str | Path, ao: Literal["auto", "stored", "recomputed"] = "auto") -> System:
    """Read a system that :func:`save` wrote; functionals are read by :func:`dqc.functional`.

    ``ao`` says, as in :func:`dqc.build`, whether values of orbitals on the grid are stored or recomputed in
    every iteration. Raises FileNotFoundError with the nearest names, and ValueError for a file that is
    no system, of an unknown version, incomplete, or with numbers that are not finite.
    """
    if ao not in ("auto", "stored", "recomputed"):
        raise ValueError(f"ao={ao!r} is not one of 'auto', 'stored', 'recomputed'")
    system = _read(Path(path))
    if ao == "stored" or (ao == "auto" and ao_bytes(system) < memory_bytes() / 4):
        return store_ao(system)
    return system


def _read(path: Path) -> System:
    with tensors.opened(path, WHAT, VERSION, ": write one with dqc.save(system, path)") as (header, file):
        system = _rebuilt(json.loads(header["tree"]), "", file, path)
    if not isinstance(system, System):
        raise ValueError(f"{path} holds a {type(system).__name__}, and a System is expected")
    return system


def _described(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of a value as JSON; its arrays are put aside by their paths."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return [_described(item, f"{name}.{number}", arrays) for number, item in enumerate(value)]
    if type(value).__name__ in _CLASSES:
        fields = dataclasses.fields(value)
        parts = {f.name: _described(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in fields}
        return {"class": type(value).__name__, "fields": parts}
    arrays[name.lstrip(".")] = np.asarray(value)
    return _ARRAY


def _rebuilt(tree: Any, name: str, file: Any, path: Path) -> Any:
    if tree is None:
        return None
    if isinstance(tree, list):
        return tuple(_rebuilt(item, f"{name}.{number}", file, path) for number, item in enumerate(tree))
    if isinstance(tree, dict):
        cls = _CLASSES[tree["class"]]
        fields = {key: _rebuilt(item, f"{name}.{key}", file, path) for key, item in tree["fields"].items()}
        missing = {field.name for field in dataclasses.fields(cls)} ^ set(fields)
        if missing:
            raise ValueError(
                f"{path} does not fit this program's {tree['class']}: {', '.join(sorted(missing))}"
            )
        return cls(**fields)
    array = file.get_tensor(name.lstrip("."))
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(
            f"{path} holds numbers that are not finite, in {name.lstrip('.')}: save the system again"
        )
    return on_device(array)
