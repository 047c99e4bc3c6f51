"""How integrals change as nuclei move: values at new positions, and directional derivatives.

A function p on a nucleus that moves by dR_p changes by -nabla p . dR_p, and an operator O on a nucleus
that moves by dR_O changes an integral as if p and q had moved the other way, so that

    d(p|O|q) = -(E_pq + E_qp),   E_pq = sum_x (nabla_x p|O|q) (dR_p - dR_O)_x.

The integrals with a gradient come from the host, chunk by chunk, and are contracted at once. A chunk is
recomputed when the linear map dR -> d(p|O|q) is transposed, so that neither mode of differentiation
stores them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.derivatives import undifferentiated
from dqc.integrals import libcint_derivatives as host
from dqc.integrals.coulomb import Exact, Fitted, pack
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


def one_body_motion(
    name: str, move: Float[Array, "a x"], coords: Float[Array, "a x"], value: Array, known: tuple
) -> Array:
    """The change of overlap, kinetic energy or dipole, whose ``value`` says their shape."""
    n = value.shape[-1]
    coords = undifferentiated(SECOND, coords)

    @jax.checkpoint
    def change(move: Float[Array, "a x"], coords: Float[Array, "a x"]) -> Float[Array, "k n n"]:
        source, charges = known
        shape = (3, 3 if name == "dipole" else 1, n, n)
        gradient = fetch(partial(host.one_body_gradient, name, n), shape, source, charges, coords)
        E = jnp.einsum("xkpq,px->kpq", gradient, move[atoms_of(source.shells, n)])
        return -(E + E.transpose(0, 2, 1))

    return change(move, coords).reshape(value.shape)


def attraction_motion(
    move: Float[Array, "a x"], coords: Float[Array, "a x"], value: Float[Array, "n n"], known: tuple
) -> Float[Array, "n n"]:
    """The change of the nuclear attraction, summed nucleus by nucleus."""
    n = value.shape[-1]
    source, charges = known
    coords = undifferentiated(SECOND, coords)
    on_orbitals = move[atoms_of(source.shells, n)]

    @jax.checkpoint
    def add(E: Float[Array, "n n"], nucleus: tuple) -> tuple[Float[Array, "n n"], None]:
        atom, own = nucleus
        shape = (3, n, n)
        gradient = fetch(partial(host.attraction_gradient, n), shape, source, charges, coords, atom)
        return E + jnp.einsum("xpq,px->pq", gradient, on_orbitals - own), None

    E, _ = jax.lax.scan(add, jnp.zeros_like(value), (jnp.arange(len(charges)), move))
    return -(E + E.T)


def fitted_motion(
    move: Float[Array, "a x"],
    coords: Float[Array, "a x"],
    B: Float[Array, "P pq"],
    omega: Float[Array, ""],
    known: tuple,
) -> Float[Array, "P pq"]:
    """dB = W (dT - 1/2 dM W^T B) for B = W T, with T = (P|pq), M = (P|Q) and W^T W = M^(-1).

    B counts in B^T B alone, of which this is the derivative, T^T M^(-1) dT - 1/2 T^T M^(-1) dM M^(-1) T
    and its transpose; B turned by a rotation would serve as well. Where the metric is singular, M^(-1)
    is the inverse in the space of the eigenvectors that are kept, whose own change is left out: it moves
    forces by 1.1e-8 hartree/bohr at most where it was measured (water, CAM-B3LYP, def2-TZVP).
    """
    source, charges = known
    coords = undifferentiated(SECOND, coords)
    size, n = B.shape[0], orbitals_of(B.shape[1])
    rows = chunk_rows(size, n * n + size)
    starts = jnp.arange(0, size, rows)
    fill = len(starts) * rows - size
    W = fetch(partial(host.inverse_root, size), (size, size), source, charges, coords, omega)
    on_orbitals, on_fits = move[atoms_of(source.shells, n)], move[atoms_of(source.auxiliary, size)]

    @jax.checkpoint
    def add(total: tuple, chunk: tuple) -> tuple[tuple, None]:
        WdT, WdMW = total
        start, columns, own = chunk
        shapes = ((3, rows, n, n), (3, rows, size))
        fitting = partial(host.fitting_gradient, (rows, size, n))
        three, two = fetch(fitting, shapes, source, charges, coords, omega, start)
        E = sum(three[x] * (on_orbitals[:, x] - own[:, x, None, None]) for x in range(3))
        dM = -sum(two[x] * (own[:, x, None] - on_fits[:, x]) for x in range(3))
        return (WdT - columns.T @ pack(E + E.transpose(0, 2, 1)), WdMW + columns.T @ (dM @ W.T)), None

    parts = (
        jnp.pad(W.T, ((0, fill), (0, 0))).reshape(-1, rows, size),
        jnp.pad(on_fits, ((0, fill), (0, 0))).reshape(-1, rows, 3),
    )
    (WdT, WdMW), _ = jax.lax.scan(add, (jnp.zeros_like(B), jnp.zeros_like(W)), (starts, *parts))
    return WdT - 0.5 * WdMW @ B


def exact_motion(
    move: Float[Array, "a x"],
    coords: Float[Array, "a x"],
    value: Float[Array, "pq pq"],
    omega: Float[Array, ""],
    known: tuple,
) -> Float[Array, "pq pq"]:
    """d(pq|rs) = A_pq,rs + A_rs,pq with A_pq,rs = -(E_pq,rs + E_qp,rs), row p by row of E."""
    source, charges = known
    coords = undifferentiated(SECOND, coords)
    pairs, n = len(value), orbitals_of(len(value))
    rows = chunk_rows(n, n * pairs)
    starts = jnp.arange(0, n, rows)
    on_orbitals = move[atoms_of(source.shells, n)]
    q = jnp.arange(n)

    @jax.checkpoint
    def add(A: Float[Array, "pq pq"], chunk: tuple) -> tuple[Float[Array, "pq pq"], None]:
        start, own = chunk
        shape, repulsion = (3, rows, n, pairs), partial(host.repulsion_gradient, (rows, n, pairs))
        gradient = fetch(repulsion, shape, source, charges, coords, omega, start)
        E = jnp.einsum("xpqk,px->pqk", gradient, own)
        p = start + jnp.arange(rows)[:, None]
        low, high = jnp.minimum(p, q), jnp.maximum(p, q)
        E = jnp.where((p == q)[:, :, None], 2.0 * E, E)
        return A.at[high * (high + 1) // 2 + low].add(-E, mode="drop"), None

    own = jnp.pad(on_orbitals, ((0, len(starts) * rows - n), (0, 0))).reshape(-1, rows, 3)
    A, _ = jax.lax.scan(add, jnp.zeros_like(value), (starts, own))
    return A + A.T


def chunk_rows(rows: int, size: int) -> int:
    """How many of ``rows`` rows of three times ``size`` integrals make a chunk."""
    return max(1, min(rows, CHUNK_BYTES // (24 * size)))


def orbitals_of(pairs: int) -> int:
    """n of n (n + 1) / 2 packed pairs."""
    return (isqrt(8 * pairs + 1) - 1) // 2
