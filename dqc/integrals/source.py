"""What libcint needs to compute integrals again at other nuclear positions, as arrays."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dqc.types import pytree

ATOM, ANGULAR, PRIMITIVES, CONTRACTIONS, EXPONENTS, COEFFICIENTS = 0, 1, 2, 3, 5, 6  # columns of a table


@pytree
class Source:
    """The shells of a molecule as libcint's tables; positions and charges are the ``System``'s.

    A row of a table is libcint's ``bas``: atom, angular momentum, primitives, contractions, two columns
    that are 0 here, or a power of r and 0 in an effective core potential, with the places of exponents
    and coefficients in ``numbers`` after the first four of them. A row without primitives is a ghost.
    """

    shells: Int[Array, "h 8"]
    auxiliary: Int[Array, "h 8"]  # of the fitting functions; no rows where integrals are exact
    cores: Int[Array, "h 8"]  # of effective core potentials, whose terms count as shells
    numbers: Float[Array, " e"]  # exponents and coefficients


def source_of(mole: Any, auxiliary: Any = None) -> Source:
    """The tables of a PySCF ``Mole`` and of its fitting functions, which sit on the same atoms."""
    empty = np.zeros((0, 8), np.int32)
    tables = [np.asarray(mole._bas, np.int32), empty, np.asarray(mole._ecpbas, np.int32).reshape(-1, 8)]
    numbers = mole._env
    if auxiliary is not None:
        tables[1] = _shifted(np.asarray(auxiliary._bas, np.int32), len(numbers))
        numbers = np.concatenate([numbers, auxiliary._env])
    first = int(tables[0][:, [EXPONENTS, COEFFICIENTS]].min())  # what stands before is of the atoms
    shells, fitting, cores = (_shifted(table, -first) for table in tables)
    return Source(shells=shells, auxiliary=fitting, cores=cores, numbers=numbers[first:])  # type: ignore[arg-type]


def _shifted(table: np.ndarray, places: int) -> np.ndarray:
    table = table.copy()
    table[:, [EXPONENTS, COEFFICIENTS]] += places
    return table


def functions(table: Int[Array, "h 8"]) -> Int[Array, ""]:
    """How many functions the shells of a table have, ghosts left out."""
    return ((2 * table[:, ANGULAR] + 1) * table[:, CONTRACTIONS]).sum()


def atoms_of(table: Int[Array, "h 8"], size: int) -> Int[Array, " n"]:
    """The atom of each of the functions of a table, which ghosts fill up to ``size``."""
    counts = (2 * table[:, ANGULAR] + 1) * table[:, CONTRACTIONS]
    return jnp.repeat(table[:, ATOM], counts, total_repeat_length=size)
