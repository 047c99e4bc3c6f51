"""A training described by a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
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

# Section -> the keys that it may have; TOML's own types are what the functions behind them expect.
_FUNCTIONAL = (
    "parent",
    "rung",
    "constraints",
    "hidden",
    "precision",
    "seed",
    "start",
    "trainable",
    "members",
)
_DATA = ("train", "validation", "test", "split", "seed")
_SYSTEM = ("basis", "grid", "two_electron", "auxbasis", "growth", "lanes")
_SCF = ("smearing", "level_shift", "damping", "max_iterations", "tolerance")
_LOSS = ("energy", "density", "dipole", "forces", "ionisation", "stationarity", "penalties", "anchor")
_ANCHOR = ("directory", "weight")
_STAGE = tuple(f.name for f in fields(Stage))
_OUTPUT = ("directory",)


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

    Raises ``ValueError`` for sections and keys that there are none of, and what the functions behind them
    raise for their values; FileNotFoundError for files that are not there.
    """
    path = existing(path)
    try:
        given = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    sections = {
        "functional": _FUNCTIONAL, "data": _DATA, "system": _SYSTEM, "scf": _SCF, "loss": _LOSS,
        "stage": _STAGE, "output": _OUTPUT,
    }  # fmt: skip
    _known(given, sections, f"{path}, sections")
    for name, keys in sections.items():
        entries = given.get(name, {})
        for entry in entries if isinstance(entries, list) else [entries]:
            _known(entry, keys, f"{path}, [{name}]")
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


def _known(given: Mapping[str, Any], keys: Iterable[str], where: str) -> None:
    for key in given:
        if key not in keys:
            raise ValueError(f"{where}: no {key!r}{nearest(key, keys)}; there are {', '.join(keys)}")


def _members(given: dict[str, Any], folder: Path) -> tuple[Functional, ...]:
    """The functional, or several of different seeds."""
    given = dict(given)
    count, seed = given.pop("members", 1), given.pop("seed", 0)
    start, trainable = given.pop("start", None), tuple(given.pop("trainable", ()))
    if start is not None or trainable:
        if given.keys() - {"parent"} or count != 1:
            raise ValueError("[functional] start and trainable go with no other key, and with one member")
        return (functional(given["parent"], trainable) if start is None else functional(folder / start),)
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"])
    return tuple(neural(given.pop("parent", "pbe"), **given, seed=seed + k) for k in range(count))


def _parts(given: Mapping[str, Any], folder: Path, path: Path) -> dict[str, Reactions]:
    """The parts of the data: files of their own, or shares of those to train on."""
    read_all = {
        name: data.joined([data.read(folder / one) for one in _listed(given[name])])
        for name in ("train", "validation", "test")
        if name in given
    }
    if "train" not in read_all:
        raise ValueError(f"{path}, [data]: train names the file of the data, or several")
    if "split" in given:
        if len(read_all) > 1:
            raise ValueError(f"{path}, [data]: split shares out train; validation and test go without it")
        shares = given["split"]
        names = ("train", "validation", "test")[: len(shares)]
        split = data.split(read_all["train"], shares, given.get("seed", 0))
        return {name: part for name, part in zip(names, split, strict=True) if part.reactions}
    return read_all


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _loss(given: Mapping[str, Any], folder: Path) -> Loss:
    given = dict(given)
    penalties = dict(given.pop("penalties", {}))
    if "anchor" in given:
        chosen = given.pop("anchor")
        _known(chosen, _ANCHOR, "[loss.anchor]")
        penalties["anchor"] = (chosen["weight"], anchor(folder / chosen["directory"]))
    return Loss(**given, penalties=penalties)


def _stage(given: Mapping[str, Any], folder: Path) -> Stage:
    return Stage(**(dict(given) | ({"loss": _loss(given["loss"], folder)} if "loss" in given else {})))
