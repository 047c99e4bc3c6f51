"""Linear algebra of the self-consistent field."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

OVERLAP_THRESHOLD = 1e-9  # combinations of AOs with a smaller overlap eigenvalue are dropped


def ghost_level(dtype: jnp.dtype) -> float:
    """Ghost orbitals lie here and above, one hartree apart: high, and harmless to the precision."""
    return 1e4 if dtype == jnp.float64 else 1e2


def orthogonalizer(overlap: Float[Array, "n n"]) -> Float[Array, "n k"]:
    """X with X^T S X = 1, by canonical orthogonalisation; the columns of dropped combinations are zero.

    Lowdin (1970), doi:10.1016/S0065-3276(08)60339-1.
    """
    values, vectors = jnp.linalg.eigh(overlap)
    keep = values > OVERLAP_THRESHOLD
    return jnp.where(keep, vectors / jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)


def diagonalize(
    fock: Float[Array, "s n n"], X: Float[Array, "n k"]
) -> tuple[Float[Array, "s k"], Float[Array, "s n k"]]:
    """Orbital energies and orbitals of F C = S C e, dropped combinations as zero orbitals high up."""
    dropped = (X == 0).all(axis=0)
    level = jnp.where(dropped, ghost_level(X.dtype) + jnp.arange(X.shape[1]), 0.0)
    values, vectors = jnp.linalg.eigh(X.T @ fock @ X + jnp.diag(level))
    return values, X @ vectors


def natural_orbitals(
    density: Float[Array, "s n n"], overlap: Float[Array, "n n"], X: Float[Array, "n k"]
) -> tuple[Float[Array, "s k"], Float[Array, "s n k"]]:
    """Natural occupations, falling, and natural orbitals: P = sum_k C_k n_k C_k^T."""
    SX = overlap @ X
    values, vectors = jnp.linalg.eigh(SX.T @ density @ SX)
    return values[..., ::-1], (X @ vectors)[..., ::-1]


def canonicalize(
    fock: Float[Array, "s n n"], orbitals: Float[Array, "s n k"], occupations: Float[Array, "s k"]
) -> tuple[Float[Array, "s k"], Float[Array, "s n k"]]:
    """Orbital energies, and orbitals that diagonalise F within each set of equal occupations.

    The density matrix stays as it is, and so does the place of each occupation.
    """
    in_orbitals = orbitals.transpose(0, 2, 1) @ fock @ orbitals
    blocks, offset, place = _sets(in_orbitals, orbitals, occupations)
    values, vectors = jnp.linalg.eigh(blocks)
    rotated = jnp.take_along_axis(orbitals @ vectors, place[:, None, :], axis=2)
    return jnp.take_along_axis(values, place, axis=1) - offset, rotated


def levels_of_sets(
    fock: Float[Array, "s k k"], orbitals: Float[Array, "s n k"], occupations: Float[Array, "s k"]
) -> Float[Array, "s k"]:
    """The orbital energies of :func:`canonicalize`, of a Fock matrix in the orbitals; differentiable.

    A second derivative is NaN where levels are degenerate.
    """
    blocks, offset, place = _sets(fock, orbitals, occupations)
    return jnp.take_along_axis(jnp.linalg.eigvalsh(blocks), place, axis=1) - offset


def _sets(
    fock: Float[Array, "s k k"], orbitals: Float[Array, "s n k"], occupations: Float[Array, "s k"]
) -> tuple[Float[Array, "s k k"], Float[Array, "s k"], Int[Array, "s k"]]:
    """F within sets of equal occupation; what was added to each level; its place among the eigenvalues.

    One large level for each set of higher occupation keeps the sets apart and in order.
    """
    k = occupations.shape[1]
    equal = occupations[:, :, None] == occupations[:, None, :]
    first = ~(equal & jnp.tril(jnp.ones((k, k), bool), -1)).any(2)
    above = occupations[:, None, :] > occupations[:, :, None]
    rank = (above & first[:, None, :]).sum(2)
    dropped = (orbitals == 0).all(axis=1)
    level = jnp.where(dropped, ghost_level(fock.dtype) + jnp.arange(k), 0.0)
    one = jnp.eye(k, dtype=fock.dtype)
    within = jnp.where(equal, fock, 0.0) + level[:, :, None] * one
    span = jax.lax.stop_gradient(2.0 * jnp.abs(within).sum(2).max(1) + 1.0)
    offset = span[:, None] * rank
    place = jnp.argsort(jnp.argsort(rank, axis=1, stable=True), axis=1)
    return within + offset[:, :, None] * one, offset, place


def inverse_square_root(matrix: Float[Array, "s i i"]) -> Float[Array, "s i i"]:
    """M^(-1/2) of a matrix whose value is one, by Newton's iteration, for its derivatives.

    Each step doubles the order in M - 1 to which it is right: derivatives are exact to the seventh.
    Higham, Functions of Matrices (2008), equation (6.35).
    """
    one = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    root = 1.5 * one - 0.5 * matrix
    for _ in range(2):
        root = 0.5 * root @ (3.0 * one - matrix @ root @ root)
    return root
