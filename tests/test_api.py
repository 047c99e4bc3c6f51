"""The package's front door: lazy, complete, and not shadowed by its own modules."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dqc

HEAVY = ("jax", "numpy", "pyscf", "scipy", "flax")


def imported_after(code: str) -> set[str]:
    """Top-level packages in sys.modules after a fresh interpreter ran the code."""
    listing = "import sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.splitlines()[-1].split())


def test_import_is_light() -> None:
    loaded = imported_after("import dqc; dir(dqc); dqc.__all__")
    assert "dqc" in loaded
    assert not loaded & set(HEAVY)


def test_the_check_for_light_imports_can_fail() -> None:
    assert "numpy" in imported_after("import numpy")


@pytest.mark.parametrize("name", dqc.__all__)
def test_a_public_name_resolves(name: str) -> None:
    value = getattr(dqc, name)
    assert not isinstance(value, ModuleType)
    assert name in dir(dqc)


def test_editors_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING and the lazy table agree, module by module."""
    tree = ast.parse(Path(dqc.__file__).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dqc.")
        for alias in node.names
    }
    assert seen == dqc._HOME


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'molecules'"):
        dqc.molecules  # noqa: B018


def test_a_module_does_not_shadow_a_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dqc._HOME, "molecule", "dqc.molecule")
    before = dqc.__dict__.get("molecule")
    importlib.import_module("dqc.molecule")
    dqc.molecule = sys.modules["dqc.molecule"]  # what the import system does after a first import
    assert dqc.__dict__.get("molecule") is before
