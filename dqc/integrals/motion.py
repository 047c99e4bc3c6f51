"""How integrals change as nuclei move: values at new positions, and directional derivatives.

A function p on a nucleus that moves by dR_p changes by -nabla p . dR_p, and an operator O on a nucleus
that moves by dR_O changes an integral as if p and q had moved the other way, so that

    d(p|O|q) = -(E_pq + E_qp),   E_pq = sum_x (nabla_x p|O|q) (dR_p - dR_O)_x.

The integrals with a gradient are computed on the host, chunk by chunk, and contracted there at once: with
the motion of the nuclei, ``push``, or, by the transposed map, with the derivatives of an energy by the
integrals, ``pull``. Neither stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.derivatives import linear_on_host, undifferentiated
from dqc.integrals import libcint_derivatives as host
from dqc.integrals.coulomb import Exact, Fitted
from dqc.integrals.source import Source, atoms_of

CHUNK_BYTES = 64 * 2**20  # integrals with a gradient that are in memory at a time
SECOND = (
    "second derivatives of the integrals with respect to nuclear positions are not available; "
    "dqc.hessian takes differences of analytic forces"
)


def fetch(function: Callable[..., Any], shapes: Any, *args: Any) -> Any:
    """What a function of the host returns, float64 arrays of the shapes."""
    is_shape = lambda x: isinstance(x, tuple) and all(isinstance(k, int) for k in x)  # noqa: E731
    result = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float64), shapes, is_leaf=is_shape)
    return jax.pure_callback(function, result, *args, vmap_method="sequential")


def one_electron(
    n: int, source: Source, charges: Float[Array, " a"], coords: Float[Array, "a x"]
) -> dict[str, Array]:
    """Overlap, kinetic energy, nuclear attraction and dipole; zero for ghost orbitals."""
    shapes = {"overlap": (n, n), "kinetic": (n, n), "nuclear": (n, n), "dipole": (3, n, n)}
    return fetch(partial(host.one_electron, n), shapes, source, charges, coords)


def repulsion(
    old: Fitted | Exact, source: Source, charges: Float[Array, " a"], coords: Float[Array, "a x"]
) -> Array:
    """The two-electron integrals of an operator, in the form and shape of ``old``."""
    if isinstance(old, Fitted):
        shape, function = old.factor.shape, host.fitted
    else:
        shape, function = old.integrals.shape, host.four_index
    return fetch(partial(function, shape), shape, source, charges, coords, old.omega)


class Place(NamedTuple):
    """What all integrals are computed from."""

    source: Source
    charges: Array | np.ndarray
    coords: Array | np.ndarray  # bohr


def place(source: Source, charges: Float[Array, " a"], coords: Float[Array, "a x"]) -> Place:
    """A place whose integrals' derivatives refuse to be differentiated by its coordinates."""
    return Place(source, charges, undifferentiated(SECOND, coords))


class Motion(NamedTuple):
    """The linear map dR -> d(integrals), and its transpose, dE/d(integrals) -> dE/dR, on the host.

    Both functions read what they map, the shape of what they return, the :class:`Place`, and what else the
    integrals are computed from.
    """

    pushed: Callable[..., np.ndarray]
    pulled: Callable[..., np.ndarray]

    def push(self, move: Float[Array, "a x"], value: Array, at: Place, *own: Array) -> Array:
        """The change of the integrals, whose ``value`` says their shape, as the nuclei move by ``move``."""
        return linear_on_host(self.pushed, self.pulled, value.shape, move, at, *own)

    def pull(self, slope: Array, at: Place, *own: Array) -> Float[Array, "a x"]:
        """dE/dR through integrals of which ``slope`` is dE/d(integral)."""
        return linear_on_host(self.pulled, self.pushed, at.coords.shape, slope, at, *own)


def _push_one_body(name: str, move: np.ndarray, shape: tuple, at: Place) -> np.ndarray:
    n = shape[-1]
    gradient = host.one_body_gradient(name, n, *at)
    E = np.einsum("xkpq,px->kpq", gradient, move[atoms_of(at.source.shells, n)])
    return -(E + E.transpose(0, 2, 1)).reshape(shape)


def _pull_one_body(name: str, slope: np.ndarray, shape: tuple, at: Place) -> np.ndarray:
    n = slope.shape[-1]
    gradient = host.one_body_gradient(name, n, *at)
    slope = slope.reshape(-1, n, n)
    of_functions = -np.einsum("xkpq,kpq->px", gradient, slope + slope.transpose(0, 2, 1))
    return _of_atoms(shape, of_functions, atoms_of(at.source.shells, n))


def _push_attraction(move: np.ndarray, shape: tuple, at: Place) -> np.ndarray:
    """Nucleus by nucleus."""
    n, E = shape[-1], np.zeros(shape)
    on_functions = move[atoms_of(at.source.shells, n)]
    gradient = host.attraction_gradient(n, *at)
    for atom, own in enumerate(move):
        E += np.einsum("xpq,px->pq", gradient(atom), on_functions - own)
    return -(E + E.T)


def _pull_attraction(slope: np.ndarray, shape: tuple, at: Place) -> np.ndarray:
    n, total = len(slope), np.zeros(shape)
    atoms, slope = atoms_of(at.source.shells, n), slope + slope.T
    gradient = host.attraction_gradient(n, *at)
    for atom in range(len(total)):
        of_functions = -np.einsum("xpq,pq->px", gradient(atom), slope)
        total += _of_atoms(shape, of_functions, atoms)
        total[atom] -= of_functions.sum(0)
    return total


def _push_fitted(move: np.ndarray, shape: tuple, at: Place, omega: np.ndarray, B: np.ndarray) -> np.ndarray:
    """dB = W (dT - 1/2 dM W^T B) for B = W T, with T = (P|pq), M = (P|Q) and W^T W = M^(-1).

    B counts in B^T B alone, of which this is the derivative, T^T M^(-1) dT - 1/2 T^T M^(-1) dM M^(-1) T
    and its transpose; B turned by a rotation would serve as well. Where the metric is singular, M^(-1)
    is the inverse in the space of the eigenvectors that are kept, whose own change is left out: it moves
    forces by 1.1e-8 hartree/bohr at most where it was measured (water, CAM-B3LYP, def2-TZVP).
    """
    size, n = len(B), orbitals_of(B.shape[1])
    W = host.inverse_root(size, *at, omega)
    p, q = np.tril_indices(n)
    on_functions = move[atoms_of(at.source.shells, n)]
    on_fits = move[atoms_of(at.source.auxiliary, size)]
    dT, dM = np.zeros(shape), np.zeros((size, size))
    gradient = host.fitting_gradient(size, n, *at, omega)
    for rows in _chunks(size, n * n + size):
        three, two = gradient(rows)
        own = on_fits[rows]
        E = sum(three[x] * (on_functions[:, x] - own[:, x, None, None]) for x in range(3))
        dT[rows] = -(E[:, p, q] + E[:, q, p])
        dM[rows] = -sum(two[x] * (own[:, x, None] - on_fits[:, x]) for x in range(3))
    return W @ dT - 0.5 * (W @ dM @ W.T) @ B


def _pull_fitted(slope: np.ndarray, shape: tuple, at: Place, omega: np.ndarray, B: np.ndarray) -> np.ndarray:
    size, n = len(B), orbitals_of(B.shape[1])
    W = host.inverse_root(size, *at, omega)
    p, q = np.tril_indices(n)
    by_M = -0.5 * (W.T @ (slope @ B.T) @ W)
    by_T = W.T @ slope
    by_T[:, p == q] *= 2.0
    of_functions, of_fits = np.zeros((n, 3)), np.zeros((size, 3))
    gradient = host.fitting_gradient(size, n, *at, omega)
    for rows in _chunks(size, n * n + size):
        three, two = gradient(rows)
        by_E = np.empty((len(by_T[rows]), n, n))
        by_E[:, p, q] = by_E[:, q, p] = by_T[rows]
        for x in range(3):
            moved = np.einsum("Pqp,Pqp->Pp", three[x], by_E)
            of_functions[:, x] -= moved.sum(0)
            of_fits[rows, x] += moved.sum(1)
            moved = two[x] * by_M[rows]
            of_fits[rows, x] -= moved.sum(1)
            of_fits[:, x] += moved.sum(0)
    by_functions = _of_atoms(shape, of_functions, atoms_of(at.source.shells, n))
    return by_functions + _of_atoms(shape, of_fits, atoms_of(at.source.auxiliary, size))


def _push_exact(move: np.ndarray, shape: tuple, at: Place, omega: np.ndarray) -> np.ndarray:
    """d(pq|rs) = A_pq,rs + A_rs,pq with A_pq,rs = -(E_pq,rs + E_qp,rs), row p by row of E."""
    pairs, n = shape[0], orbitals_of(shape[0])
    on_functions, A = move[atoms_of(at.source.shells, n)], np.zeros(shape)
    gradient = host.repulsion_gradient(n, pairs, *at, omega)
    for rows in _chunks(n, n * pairs):
        E = np.einsum("xpqk,px->pqk", gradient(rows), on_functions[rows])
        pair, twice = _pairs(rows, n)
        np.add.at(A, pair, -twice * E)
    return A + A.T


def _pull_exact(slope: np.ndarray, shape: tuple, at: Place, omega: np.ndarray) -> np.ndarray:
    pairs, n = len(slope), orbitals_of(len(slope))
    slope, of_functions = slope + slope.T, np.zeros((n, 3))
    gradient = host.repulsion_gradient(n, pairs, *at, omega)
    for rows in _chunks(n, n * pairs):
        pair, twice = _pairs(rows, n)
        of_functions[rows] = -np.einsum("xpqk,pqk->px", gradient(rows), twice * slope[pair])
    return _of_atoms(shape, of_functions, atoms_of(at.source.shells, n))


ONE_ELECTRON = {
    name: Motion(partial(_push_one_body, name), partial(_pull_one_body, name))
    for name in ("overlap", "kinetic", "dipole")
} | {"nuclear": Motion(_push_attraction, _pull_attraction)}
FITTED = Motion(_push_fitted, _pull_fitted)  # reads omega and the factor B
EXACT = Motion(_push_exact, _pull_exact)  # reads omega


def _of_atoms(shape: tuple, of_functions: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Sums over the functions of each atom."""
    total = np.zeros(shape)
    np.add.at(total, atoms, of_functions)
    return total


def _pairs(rows: slice, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the pairs of functions p of ``rows`` with all q: their places among packed ones, and 2 for p = q."""
    p, q = np.arange(n)[rows, None], np.arange(n)
    high, low = np.maximum(p, q), np.minimum(p, q)
    return high * (high + 1) // 2 + low, np.where(p == q, 2.0, 1.0)[:, :, None]


def _chunks(rows: int, size: int) -> Iterator[slice]:
    """Chunks of ``rows`` rows, each row three times ``size`` integrals."""
    step = chunk_rows(rows, size)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def chunk_rows(rows: int, size: int) -> int:
    """How many of ``rows`` rows of three times ``size`` integrals make a chunk."""
    return max(1, min(rows, CHUNK_BYTES // (24 * size)))


def orbitals_of(pairs: int) -> int:
    """n of n (n + 1) / 2 packed pairs."""
    return (isqrt(8 * pairs + 1) - 1) // 2
