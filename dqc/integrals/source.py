"""What libcint needs to compute integrals again at other nuclear positions, as arrays."""

from __future__ import annotations

from typing import Any

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
    fitting = (np.zeros((0, 8)), mole._env) if auxiliary is None else (auxiliary._bas, auxiliary._env)
    numbers: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    for table, env in ((mole._bas, mole._env), fitting, (mole._ecpbas, mole._env)):
        rows = np.array(table, np.int32).reshape(-1, 8)
        contractions = np.ones(len(rows), int) if table is mole._ecpbas else rows[:, CONTRACTIONS]
        tables.append(_repacked(rows, contractions, env, numbers))
    shells, fitted, cores = tables
    return Source(shells, fitted, cores, np.concatenate(numbers))  # type: ignore[arg-type]


def _repacked(
    table: np.ndarray, contractions: np.ndarray, env: np.ndarray, numbers: list[np.ndarray]
) -> np.ndarray:
    """The table with exponents and coefficients of its own for each row, appended to ``numbers``.

    Atoms of one element share theirs in libcint's tables, which makes the length depend on the elements;
    the shapes of a ``System`` depend on its shells alone.
    """
    place = sum(map(len, numbers))
    for row, count in zip(table, contractions, strict=True):
        exponents = row[PRIMITIVES]
        for column, length in ((EXPONENTS, exponents), (COEFFICIENTS, exponents * count)):
            numbers.append(env[row[column] : row[column] + length])
            row[column] = place
            place += length
    return table


def functions(table: Int[Array, "h 8"]) -> Int[Array, ""]:
    """How many functions the shells of a table have, ghosts left out."""
    return ((2 * table[:, ANGULAR] + 1) * table[:, CONTRACTIONS]).sum()


def atoms_of(table: Any, size: int) -> np.ndarray:
    """The atom of each of the functions of a table; ghosts, of the first atom, fill them up to ``size``."""
    table = np.asarray(table)
    atoms = np.repeat(table[:, ATOM], (2 * table[:, ANGULAR] + 1) * table[:, CONTRACTIONS])
    return np.pad(atoms, (0, size - len(atoms)))
