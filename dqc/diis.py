"""Direct inversion in the iterative subspace, in a ring buffer.

Pulay (1982), doi:10.1002/jcc.540030413: F = sum_k c_k F_k with sum_k c_k = 1 and |sum_k c_k e_k| least.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.types import pytree

SMALLEST = 1e-14  # eigenvalue, for each vector, of the scaled inner products of the errors


@pytree
class DIIS:
    """The last Fock matrices and their errors; unused places hold zeros."""

    focks: Float[Array, "t s n n"]
    errors: Float[Array, "t s k k"]
    gram: Float[Array, "t t"]  # inner products of the errors
    count: Int[Array, ""]  # vectors seen since the start


def start(size: int, spins: int, n: int, k: int) -> DIIS:
    """An empty history of ``size`` vectors."""
    return DIIS(
        focks=jnp.zeros((size, spins, n, n)),
        errors=jnp.zeros((size, spins, k, k)),
        gram=jnp.zeros((size, size)),
        count=jnp.zeros((), int),
    )


def extrapolate(
    history: DIIS, fock: Float[Array, "s n n"], error: Float[Array, "s k k"]
) -> tuple[DIIS, Float[Array, "s n n"]]:
    """Add a Fock matrix with its error, and return the extrapolated one."""
    size = history.gram.shape[0]
    place = history.count % size
    focks = history.focks.at[place].set(fock)
    errors = history.errors.at[place].set(error)
    row = errors.reshape(size, -1) @ error.reshape(-1)
    gram = history.gram.at[place].set(row).at[:, place].set(row)
    history = DIIS(focks, errors, gram, history.count + 1)
    used = jnp.arange(size) < history.count
    # Written with differences, which shrink as the errors do: the coefficients' derivatives grow as these
    # do, and those of a reverse pass would else drown in round-off.
    differences = jnp.where(used[:, None, None, None], focks - fock, 0.0)
    return history, fock + jnp.tensordot(_coefficients(gram, used), differences, axes=1)


def shifted(history: DIIS, fock: Float[Array, "s n n"], error: Float[Array, "s k k"]) -> DIIS:
    """The history with the same added to each of its Fock matrices and to each of its errors."""
    size = history.gram.shape[0]
    used = (jnp.arange(size) < history.count)[:, None, None, None]
    focks = history.focks + jnp.where(used, fock, 0.0)
    errors = history.errors + jnp.where(used, error, 0.0)
    rows = errors.reshape(size, -1)
    return DIIS(focks, errors, rows @ rows.T, history.count)


def _coefficients(gram: Float[Array, "t t"], used: Array) -> Float[Array, " t"]:
    """Solve [B 1; 1 0] [c; l] = [0; 1] with B scaled to a unit diagonal.

    The scaled system is solved through its eigenvectors with the smallest eigenvalues raised: this
    bounds the coefficients of a history that has become linearly dependent, and finds the combination
    where the errors cancel. (Leaving those eigenvectors out would lose just that combination.)
    """
    size = gram.shape[0]
    diagonal = jnp.where(used, jnp.diag(gram), 1.0)
    smallest = jnp.sqrt(jnp.finfo(gram.dtype).tiny)
    scale = jnp.where(used, 1.0 / jnp.sqrt(jnp.maximum(diagonal, smallest)), 0.0)
    scaled = gram * scale[:, None] * scale + jnp.diag(jnp.where(used, 0.0, 1.0))
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(scaled))

    def solve(_: Any, b: Array) -> Array:
        return vectors @ ((vectors.T @ b) / jnp.maximum(values, SMALLEST * size))

    # Differentiated as the linear equations that they are, not through the eigenvectors.
    solution = jax.lax.custom_linear_solve(lambda c: scaled @ c, scale, solve, symmetric=True)
    weights = scale * solution
    return weights / weights.sum()
