"""Doors to other programs; each module imports its program, and is imported when it is named."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("ase", "pyscf")


def __getattr__(name: str) -> ModuleType:
    if name not in _MODULES:
        raise AttributeError(f"module 'dqc.interop' has no attribute {name!r}; it has {', '.join(_MODULES)}")
    return importlib.import_module(f"dqc.interop.{name}")
