"""Integrals at given nuclear positions, and their first derivatives, from libcint on the host.

Every function takes the arrays of a :class:`~dqc.integrals.source.Source`, charges and coordinates, and
fills what it returns with zeros where ghosts stand. A gradient acts on the coordinates of the electron
in the first function, (nabla p|...): the function's own motion is the opposite.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from dqc.integrals import libcint
from dqc.integrals.source import COEFFICIENTS, EXPONENTS, PRIMITIVES, Source


def moles(source: Source, charges: Any, coords: Any) -> tuple[Any, Any]:
    """PySCF ``Mole`` objects, of the orbitals and of the fitting functions, that serve integrals only."""
    from pyscf import gto

    charges, coords = np.asarray(charges), np.asarray(coords, float)
    start = gto.mole.PTR_ENV_START
    atm = np.zeros((len(charges), 6), np.int32)
    atm[:, gto.mole.CHARGE_OF] = np.rint(charges)
    atm[:, gto.mole.PTR_COORD] = start + 3 * np.arange(len(charges))
    atm[:, gto.mole.NUC_MOD_OF] = gto.mole.NUC_POINT
    env = np.concatenate([np.zeros(start), coords.ravel(), np.asarray(source.numbers)])

    def table(rows: Any) -> np.ndarray:
        rows = np.array(rows, np.int32)
        rows[:, [EXPONENTS, COEFFICIENTS]] += start + coords.size
        return rows[rows[:, PRIMITIVES] > 0]

    def mole(shells: np.ndarray, cores: np.ndarray) -> Any:
        made = gto.Mole()
        made.verbose, made._built = 0, True
        made._atm, made._bas, made._ecpbas, made._env = atm.copy(), shells, cores, env.copy()
        return made

    cores = table(source.cores)
    return mole(table(source.shells), cores), mole(table(source.auxiliary), cores[:0])


def half_the_threads() -> Any:
    """A context in which libcint and NumPy leave half of their threads to programs that run beside them.

    OpenBLAS's wait for more work by spinning, for some 25 ms: beside them a program on as many cores takes
    half as long again.
    """
    pools = _pools()
    return pools.limit(limits=max(1, max(pool.num_threads for pool in pools.lib_controllers) // 2))


@cache
def _pools() -> ThreadpoolController:
    from pyscf.df import incore  # noqa: F401  # so that libcint's are among them

    return ThreadpoolController()


def one_electron(n: int, source: Source, charges: Any, coords: Any) -> dict[str, np.ndarray]:
    """The one-electron integrals of :func:`dqc.integrals.libcint.one_electron`."""
    found = libcint.one_electron(moles(source, charges, coords)[0])
    return {name: _grown(x, (*x.shape[:-2], n, n)) for name, x in found.items()}


def fitted(shape: tuple[int, ...], source: Source, charges: Any, coords: Any, omega: Any) -> np.ndarray:
    """B = M^(-1/2) (P|pq)."""
    return _grown(libcint.fitted(*moles(source, charges, coords), float(omega)), shape)


def four_index(shape: tuple[int, ...], source: Source, charges: Any, coords: Any, omega: Any) -> np.ndarray:
    """(pq|rs)."""
    return _grown(libcint.four_index(moles(source, charges, coords)[0], float(omega)), shape)


def inverse_root(size: int, source: Source, charges: Any, coords: Any, omega: Any) -> np.ndarray:
    """W of B = W (P|pq): W^T W is the inverse of the fitting metric."""
    auxiliary = moles(source, charges, coords)[1]
    return _grown(libcint.inverse_root(libcint.metric(auxiliary, float(omega))), (size, size))


def one_body_gradient(name: str, n: int, source: Source, charges: Any, coords: Any) -> np.ndarray:
    """(nabla_x p| O_k |q) as (x, k, p, q), with O the unit, -1/2 nabla^2 or r (k = 1, 1 or 3)."""
    mole = moles(source, charges, coords)[0]
    if name == "dipole":
        gradient = mole.intor("int1e_irp", comp=9)  # (p| r_k nabla_x |q)
        gradient = gradient.reshape(3, 3, mole.nao, mole.nao).transpose(1, 0, 3, 2)
    else:
        gradient = mole.intor({"overlap": "int1e_ipovlp", "kinetic": "int1e_ipkin"}[name], comp=3)[:, None]
    return _grown(gradient, (*gradient.shape[:2], n, n))


def attraction_gradient(n: int, source: Source, charges: Any, coords: Any) -> Callable[[int], np.ndarray]:
    """Of a nucleus A: (nabla_x p| V_A |q), its attraction and that of its effective core potential."""
    mole = moles(source, charges, coords)[0]

    def gradient(atom: int) -> np.ndarray:
        with mole.with_rinv_at_nucleus(atom):
            found = -mole.atom_charge(atom) * mole.intor("int1e_iprinv", comp=3)
            if atom in mole._ecpbas[:, 0]:
                found = found + mole.intor("ECPscalar_iprinv", comp=3)
        return _grown(found, (3, n, n))

    return gradient


def fitting_gradient(
    size: int, n: int, source: Source, charges: Any, coords: Any, omega: Any
) -> Callable[[slice], tuple[np.ndarray, np.ndarray]]:
    """Of a chunk of P: (P|nabla_x p q) as (x, P, q, p) and (nabla_x P|Q) as (x, P, Q).

    ``size`` is the number of all fitting functions, ``n`` that of orbitals.
    """
    from pyscf.df import incore

    mole, auxiliary = moles(source, charges, coords)
    omega = float(omega) or None

    def gradient(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        count = rows.stop - rows.start
        three, two = np.zeros((3, count, n, n)), np.zeros((3, count, size))
        first, last, inside = _covering(auxiliary, rows)
        if first < last:
            with mole.with_range_coulomb(omega), auxiliary.with_range_coulomb(omega):
                shells = (0, mole.nbas, 0, mole.nbas, first, last)
                slab = incore.aux_e2(mole, auxiliary, "int3c2e_ip1", comp=3, shls_slice=shells)
                pair = auxiliary.intor("int2c2e_ip1", comp=3, shls_slice=(first, last, 0, auxiliary.nbas))
            slab, pair = slab.transpose(0, 3, 2, 1)[:, inside], pair[:, inside]
            three[:, : slab.shape[1], : mole.nao, : mole.nao] = slab
            two[:, : pair.shape[1], : auxiliary.nao] = pair
        return three, two

    return gradient


def repulsion_gradient(
    n: int, pairs: int, source: Source, charges: Any, coords: Any, omega: Any
) -> Callable[[slice], np.ndarray]:
    """Of a chunk of p: (nabla_x p q|rs) as (x, p, q, rs), of ``n`` orbitals and their ``pairs``."""
    mole = moles(source, charges, coords)[0]
    omega = float(omega) or None

    def gradient(rows: slice) -> np.ndarray:
        out = np.zeros((3, rows.stop - rows.start, n, pairs))
        first, last, inside = _covering(mole, rows)
        if first < last:
            shells = (first, last, *(0, mole.nbas) * 3)
            with mole.with_range_coulomb(omega):
                slab = mole.intor("int2e_ip1", comp=3, aosym="s2kl", shls_slice=shells)
            slab = slab.reshape(3, -1, mole.nao, slab.shape[-1])[:, inside]
            out[:, : slab.shape[1], : mole.nao, : slab.shape[-1]] = slab
        return out

    return gradient


def _covering(mole: Any, rows: slice) -> tuple[int, int, slice]:
    """The shells that hold the functions of ``rows``, and where among theirs these stand."""
    ends = mole.ao_loc_nr()
    start, stop = rows.start, min(rows.stop, int(ends[-1]))
    if stop <= start:
        return 0, 0, slice(0)
    first = int(np.searchsorted(ends, start, side="right")) - 1
    return first, int(np.searchsorted(ends, stop)), slice(start - ends[first], stop - ends[first])


def _grown(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(array, [(0, target - size) for target, size in zip(shape, array.shape, strict=True)])
