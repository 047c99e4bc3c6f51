"""Linear algebra of the self-consistent field."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

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
