"""A training described by a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dqc import data
from dqc.data.sets import Reactions
from dqc.names import nearest
from dqc.paths import existing
from dqc.training.anchor import anchor
from dqc.training.objective import Loss
from dqc.training.stages import Stage
from dqc.xc.files import functional
from dqc.xc.functional import Functional
from dqc.xc.neural import neural

# What TOML can hold, by the words of an error.
_TEXT, _TEXTS = ("a text",), ("a text", "a list of texts")
_NUMBER, _NUMBERS = ("a number",), ("a list of numbers",)
_WHOLE, _WHOLES = ("a whole number",), ("a list of whole numbers",)
_TABLE = ("a table",)

# Section -> its keys, and what each of them holds.
_Keys = Mapping[str, tuple[str, ...]]
_FUNCTIONAL: _Keys = {
    "parent": _TEXT, "rung": _TEXT, "constraints": _TEXTS, "hidden": _WHOLES, "precision": _TEXT,
    "seed": _WHOLE, "start": _TEXT, "trainable": _TEXTS, "members": _WHOLE,
}  # fmt: skip
_FILES = (*_TEXTS, "a table", "a list of tables")
_FILE: _Keys = {"file": _TEXT, "only": _TEXTS, "leave_out": _TEXTS}
_DATA: _Keys = {"train": _FILES, "validation": _FILES, "test": _FILES, "split": _NUMBERS, "seed": _WHOLE}
_SYSTEM: _Keys = {
    "basis": _TEXT, "grid": _WHOLE, "two_electron": _TEXT, "auxbasis": _TEXT, "growth": _NUMBER,
    "lanes": _WHOLE,
}  # fmt: skip
_SCF: _Keys = {
    "smearing": _NUMBER, "level_shift": _NUMBER, "damping": _NUMBER, "max_iterations": _WHOLE,
    "tolerance": _NUMBER,
}  # fmt: skip
_LOSS: _Keys = {
    "energy": _NUMBER, "density": _NUMBER, "dipole": _NUMBER, "forces": _NUMBER, "ionisation": _NUMBER,
    "stationarity": _NUMBER, "penalties": _TABLE, "anchor": _TABLE,
}  # fmt: skip
_ANCHOR: _Keys = {"directory": _TEXT, "weight": _NUMBER}
_STAGE: _Keys = {
    "kind": _TEXT, "epochs": _WHOLE, "learning_rate": _NUMBER, "optimizer": _TEXT, "schedule": _TEXT,
    "clip": _NUMBER, "batch": _WHOLE, "refresh": _WHOLE, "validate": _WHOLE, "loss": _TABLE,
    "fields": _TEXT,
}  # fmt: skip
_SECTIONS: Mapping[str, _Keys] = {
    "functional": _FUNCTIONAL, "data": _DATA, "system": _SYSTEM, "scf": _SCF, "loss": _LOSS,
    "stage": _STAGE, "output": {"directory": _TEXT},
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What :func:`dqc.train` is to be called with."""

    members: tuple[Functional, ...]
    parts: dict[str, Reactions]  # "train", and "validation" and "test" where there are any
    stages: tuple[Stage, ...]
    loss: Loss
    system: dict[str, Any]
    scf: dict[str, Any]
    seed: int
    directory: Path


def read(path: str | Path) -> Config:
    """Read a TOML file; the paths in it are relative to its folder.

    Raises ``ValueError`` for sections and keys that there are none of, for values of another kind than their
    key has, and what the functions behind them raise; FileNotFoundError for files that are not there.
    """
    path = existing(path)
    try:
        given = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    expected = {name: ("a list of tables",) if name == "stage" else _TABLE for name in _SECTIONS}
    _checked(given, expected, f"{path}, sections")
    for name, keys in _SECTIONS.items():
        entries = given.get(name, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            _checked(entry, keys, f"{path}, [{name}]")
    if "data" not in given or not given.get("stage"):
        raise ValueError(f"{path} needs a section [data] and at least one [[stage]]")
    folder = path.parent
    return Config(
        members=_members(given.get("functional", {}), folder),
        parts=_parts(given["data"], folder, path),
        stages=tuple(_stage(entry, folder) for entry in given["stage"]),
        loss=_loss(given.get("loss", {}), folder),
        system=given.get("system", {}),
        scf=given.get("scf", {}),
        seed=given["data"].get("seed", 0),
        directory=folder / given.get("output", {}).get("directory", path.stem),
    )


def _checked(given: Mapping[str, Any], expected: _Keys, where: str) -> None:
    for key, value in given.items():
        if key not in expected:
            raise ValueError(f"{where}: no {key!r}{nearest(key, expected)}; there are {', '.join(expected)}")
        if not set(_kinds(value)) & set(expected[key]):
            raise ValueError(f"{where}: {key} is {value!r}, and {' or '.join(expected[key])} is expected")


def _kinds(value: Any) -> tuple[str, ...]:
    """What a value is called."""
    if isinstance(value, list):
        shared = set(_TEXT + _WHOLE + _NUMBER + _TABLE).intersection(*map(_kinds, value))
        return tuple(f"a list of {kind.removeprefix('a ')}s" for kind in shared)
    if isinstance(value, bool):
        return ()
    names = {str: _TEXT, int: (*_WHOLE, *_NUMBER), float: _NUMBER, dict: _TABLE}
    return names.get(type(value), ())


def _members(given: dict[str, Any], folder: Path) -> tuple[Functional, ...]:
    """The functional, or several of different seeds."""
    if "start" in given:
        if len(given) > 1:
            raise ValueError("[functional] start, a file to go on from, goes with no other key")
        return (functional(folder / given["start"]),)
    if "trainable" in given:
        if given.keys() - {"parent", "trainable"}:
            raise ValueError("[functional] trainable, constants of a functional, goes with parent alone")
        return (functional(given.get("parent", "pbe"), tuple(_listed(given["trainable"]))),)
    given = dict(given)
    count, seed = given.pop("members", 1), given.pop("seed", 0)
    if count < 1:
        raise ValueError(f"[functional] members is {count}: one at least")
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"])
    return tuple(neural(**given, seed=seed + k) for k in range(count))


def _parts(given: Mapping[str, Any], folder: Path, path: Path) -> dict[str, Reactions]:
    """The parts of the data: files of their own, or shares of those to train on."""
    read_all = {
        name: data.joined([_file(one, folder, f"{path}, [data], {name}") for one in _listed(given[name])])
        for name in ("train", "validation", "test")
        if name in given
    }
    if "train" not in read_all:
        raise ValueError(f"{path}, [data]: train names the file of the data, or several")
    if "split" in given:
        shares = given["split"]
        names = [n for n in ("train", "validation", "test") if n == "train" or n not in read_all]
        if not 1 <= len(shares) <= len(names):
            raise ValueError(f"{path}, [data]: split is {shares}: shares of {', '.join(names)} are expected")
        split = data.split(read_all["train"], shares, given.get("seed", 0))
        return read_all | {name: part for name, part in zip(names, split, strict=False) if part.reactions}
    return read_all


def _file(given: str | dict[str, Any], folder: Path, where: str) -> Reactions:
    """A data set, or those of its reactions whose names match."""
    if isinstance(given, str):
        return data.read(folder / given)
    _checked(given, _FILE, where)
    if "file" not in given:
        raise ValueError(f"{where}: file= names the file of the data")
    whole = data.read(folder / given["file"])
    return whole.matching(_listed(given.get("only", "*")), _listed(given.get("leave_out", [])))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _loss(given: Mapping[str, Any], folder: Path, where: str = "[loss]") -> Loss:
    _checked(given, _LOSS, where)
    given = dict(given)
    penalties = dict(given.pop("penalties", {}))
    _checked(penalties, dict.fromkeys(penalties, _NUMBER), f"{where}, penalties")
    if "anchor" in given:
        chosen = given.pop("anchor")
        _checked(chosen, _ANCHOR, f"{where}, anchor")
        if missing := _ANCHOR.keys() - chosen.keys():
            raise ValueError(f"{where}, anchor needs {', '.join(sorted(missing))}")
        penalties["anchor"] = (chosen["weight"], anchor(folder / chosen["directory"]))
    return Loss(**given, penalties=penalties)


def _stage(given: Mapping[str, Any], folder: Path) -> Stage:
    loss = _loss(given["loss"], folder, "[stage], loss") if "loss" in given else None
    return Stage(**(dict(given) | {"loss": loss}))
