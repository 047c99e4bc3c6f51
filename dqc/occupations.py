"""Fermi-Dirac occupations at a fixed number of electrons."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BISECTIONS = 100


def fermi(
    energies: Float[Array, "s k"], electrons: Float[Array, " s"], temperature: Float[Array, ""]
) -> tuple[Float[Array, "s k"], Float[Array, ""]]:
    """Occupations f = m / (1 + exp((e - mu) / kT)) with sum f the electrons of each spin row, and -T S.

    m is 2 for one spin row, 1 for two; -T S = kT m sum(x log x + (1 - x) log(1 - x)) with x = f / m.
    Mermin (1965), doi:10.1103/PhysRev.137.A1441.
    """
    full = 3 - energies.shape[0]

    def shares(mu: Float[Array, " s"]) -> Float[Array, "s k"]:
        return jax.nn.sigmoid((mu[:, None] - energies) / temperature)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = full * shares(middle).sum(1) > electrons
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    span = 50.0 * temperature + 1.0
    bounds = (energies.min(1) - span, energies.max(1) + span)
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, bounds)
    x = shares(0.5 * (low + high))
    entropy = jax.scipy.special.xlogy(x, x) + jax.scipy.special.xlogy(1 - x, 1 - x)
    return full * x, temperature * full * entropy.sum()
