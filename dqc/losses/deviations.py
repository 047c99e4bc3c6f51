"""Errors of several calculations, of which some may have failed."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dqc.types import pytree


@pytree
class Deviations:
    """By how much each of several calculations misses an exact statement, hartree."""

    error: Float[Array, " q"]
    converged: Bool[Array, " q"]  # whether every field that an error is made of has converged

    @property
    def loss(self) -> Float[Array, ""]:
        """Their mean square, hartree^2; where one has not converged, NaN with a gradient that is NaN."""
        failed = jnp.where(self.converged, 0.0, jnp.nan)
        return jnp.mean((self.error + failed) ** 2)

    @property
    def masked(self) -> Float[Array, ""]:
        """The mean square of those that have converged, hartree^2; NaN where none has."""
        count = self.converged.sum()
        errors = jnp.where(self.converged, self.error, 0.0)
        return jnp.where(count > 0, jnp.sum(errors**2) / jnp.maximum(count, 1), jnp.nan)
