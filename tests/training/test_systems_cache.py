"""Integrals of a data set are computed once and kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from toys import SYSTEM, bond, hydrogen, small

import dqc
from dqc.training import systems
from dqc.training.systems import Prepared, prepare


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; compiled programs go on to theirs."""
    monkeypatch.setenv("DQC_CACHE", str(tmp_path))
    return tmp_path / "systems"


def ready(**options: Any) -> Prepared:
    return prepare(hydrogen("H2", "H2 far").molecules, small(), **(SYSTEM | options))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*args: object, **options: object) -> None:
        raise AssertionError("integrals are computed")

    monkeypatch.setattr(systems, "build", build)


def leaves(prepared: Prepared) -> list[np.ndarray]:
    return [np.asarray(x) for chunk in prepared.chunks for x in jax.tree.leaves(chunk.system)]


def test_a_second_time_nothing_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready()
    assert len(list(folder.iterdir())) == 2
    forbid(monkeypatch)
    for a, b in zip(leaves(first), leaves(ready()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options", [{"basis": "sto-3g"}, {"grid": 1}, {"two_electron": "exact"}, {"auxbasis": "def2-svp-jkfit"}]
)
def test_other_options_are_other_systems(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict
) -> None:
    ready()
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match="integrals are computed"):
        ready(**options)


def test_a_functional_that_needs_more_is_another_system(folder: Path) -> None:
    given = {"two_electron": "df", "auxbasis": None} | SYSTEM
    kept = [systems.cached(bond(1.4), xc, **given) for xc in (small(), dqc.functional("camb3lyp"))]
    assert [len(system.repulsion) for system in kept] == [1, 2]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    first = ready()
    broken = sorted(folder.iterdir())[0]
    whole = broken.read_bytes()
    broken.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"nothing of the kind"}[damage]
    )
    for a, b in zip(leaves(first), leaves(ready()), strict=True):
        np.testing.assert_array_equal(a, b)
    forbid(monkeypatch)
    ready()


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQC_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    ready()
    assert list(tmp_path.iterdir()) == []
