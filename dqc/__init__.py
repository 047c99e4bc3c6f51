"""Differentiable quantum chemistry in JAX.

``Molecule`` (what, on the host) -> ``System`` (arrays only) -> ``Solution`` (the result), and a
``Functional`` that is independent of all three. Nothing is imported until a name below is used;
the first name that needs JAX switches on its 64-bit mode.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# SciPy's OpenBLAS diagonalises between XLA's passes over the grid; by default its threads then keep the
# cores busy waiting for more work (2^26 cycles), which costs XLA an eighth of the time of an SCF.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

if TYPE_CHECKING:
    import dqc.xc.constraints as constraints  # noqa: F401
    from dqc import data as data
    from dqc import interop as interop
    from dqc import losses as losses
    from dqc import orbitals as orbitals
    from dqc import training as training
    from dqc.batch import bucket as bucket
    from dqc.batch import common_shape as common_shape
    from dqc.batch import pad as pad
    from dqc.batch import padding_waste as padding_waste
    from dqc.batch import stack as stack
    from dqc.batch import unstack as unstack
    from dqc.molecule import Molecule as Molecule
    from dqc.nuclei import at as at
    from dqc.properties.dipole import dipole as dipole
    from dqc.properties.field import in_field as in_field
    from dqc.properties.field import polarizability as polarizability
    from dqc.properties.forces import forces as forces
    from dqc.properties.on_points import density_on as density_on
    from dqc.properties.on_points import orbitals_on as orbitals_on
    from dqc.properties.vibrations import Vibrations as Vibrations
    from dqc.properties.vibrations import hessian as hessian
    from dqc.properties.vibrations import vibrations as vibrations
    from dqc.response import Response as Response
    from dqc.response import no_response as no_response
    from dqc.scf import iterate as iterate
    from dqc.scf import scf as scf
    from dqc.solution import Solution as Solution
    from dqc.stability import stability as stability
    from dqc.storage import load as load
    from dqc.storage import save as save
    from dqc.system import System as System
    from dqc.system import build as build
    from dqc.training.evaluate import evaluate as evaluate
    from dqc.training.run import train as train
    from dqc.types import pytree as pytree
    from dqc.types import static as static
    from dqc.variational import minimise as minimise
    from dqc.xc.algebra import Algebra as Algebra
    from dqc.xc.features import Features as Features
    from dqc.xc.files import functional as functional
    from dqc.xc.functional import Functional as Functional
    from dqc.xc.functional import Needs as Needs
    from dqc.xc.neural import Neural as Neural
    from dqc.xc.neural import neural as neural
    from dqc.xc.variables import variables as variables

# Where each public name lives; a name and its home appear here and, for editors, in the imports above.
_HOME = {
    "Algebra": "dqc.xc.algebra",
    "Features": "dqc.xc.features",
    "Functional": "dqc.xc.functional",
    "Molecule": "dqc.molecule",
    "Needs": "dqc.xc.functional",
    "Solution": "dqc.solution",
    "System": "dqc.system",
    "at": "dqc.nuclei",
    "bucket": "dqc.batch",
    "build": "dqc.system",
    "common_shape": "dqc.batch",
    "density_on": "dqc.properties.on_points",
    "functional": "dqc.xc.files",
    "iterate": "dqc.scf",
    "load": "dqc.storage",
    "minimise": "dqc.variational",
    "orbitals_on": "dqc.properties.on_points",
    "pad": "dqc.batch",
    "padding_waste": "dqc.batch",
    "save": "dqc.storage",
    "scf": "dqc.scf",
    "stability": "dqc.stability",
    "stack": "dqc.batch",
    "unstack": "dqc.batch",
    "dipole": "dqc.properties.dipole",
    "forces": "dqc.properties.forces",
    "hessian": "dqc.properties.vibrations",
    "vibrations": "dqc.properties.vibrations",
    "Vibrations": "dqc.properties.vibrations",
    "in_field": "dqc.properties.field",
    "polarizability": "dqc.properties.field",
    "Response": "dqc.response",
    "no_response": "dqc.response",
    "Neural": "dqc.xc.neural",
    "neural": "dqc.xc.neural",
    "pytree": "dqc.types",
    "static": "dqc.types",
    "variables": "dqc.xc.variables",
    "train": "dqc.training.run",
    "evaluate": "dqc.training.evaluate",
}

# Modules to be had as ``dqc.<name>`` without an import of their own.
_FOLDERS = {
    "constraints": "dqc.xc.constraints",
    "data": "dqc.data",
    "interop": "dqc.interop",
    "losses": "dqc.losses",
    "orbitals": "dqc.orbitals",
    "training": "dqc.training",
}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


class _Package(ModuleType):
    """``dqc.scf`` is a function; importing the module of the same name must not replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(_FOLDERS[name])
    if name not in _HOME:
        raise AttributeError(f"module 'dqc' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_FOLDERS})
