"""Real solid harmonics of any degree."""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def degrees(lmax: int) -> np.ndarray:
    """The l of each of the (lmax + 1)^2 harmonics, which stand in the order l^2 + l + m."""
    return np.repeat(np.arange(lmax + 1), 2 * np.arange(lmax + 1) + 1)


def solid_harmonics(lmax: int, r: Float[Array, "*b x"]) -> Float[Array, "*b y"]:
    """r^l Y_lm(r), orthonormal on the unit sphere, for l = 0..lmax; polynomials, smooth at the origin.

    r^l Y_lm = Q_lm(z, r^2) {Re, Im}(x + i y)^|m| with
    Q_lm = sqrt((4 l^2 - 1)/(l^2 - m^2)) [z Q_(l-1)m - sqrt(((l-1)^2 - m^2)/(4 (l-1)^2 - 1)) r^2 Q_(l-2)m].
    Helgaker, Jorgensen, Olsen, Molecular Electronic-Structure Theory (2000), section 6.4.
    """
    x, y, z = jnp.moveaxis(r, -1, 0)
    square = x * x + y * y + z * z
    up, down, seed = (
        jnp.asarray(table).reshape(lmax + 1, lmax + 1, *[1] * x.ndim) for table in _factors(lmax)
    )

    # Loops, not unrolled sums: XLA would evaluate each harmonic from the start again.
    def degree(before: tuple[Array, Array], factors: tuple[Array, Array, Array]) -> tuple[tuple, Array]:
        one, two = before
        up, down, seed = factors
        Q = seed + up * (z * one - down * square * two)
        return (Q, one), Q

    def power(before: tuple[Array, Array], _: None) -> tuple[tuple, tuple]:
        real, imaginary = before
        return (x * real - y * imaginary, x * imaginary + y * real), before

    nothing = jnp.zeros((lmax + 1, *x.shape), r.dtype)
    Q = jax.lax.scan(degree, (nothing, nothing), (up, down, seed))[1]
    one = jnp.ones_like(x)
    azimuth = jnp.concatenate(jax.lax.scan(power, (one, jnp.zeros_like(x)), length=lmax + 1)[1])
    l = degrees(lmax)
    m = np.arange((lmax + 1) ** 2) - l * (l + 1)
    rows = Q[l, np.abs(m)] * azimuth[np.where(m < 0, lmax + 1 - m, m)]
    return jnp.moveaxis(rows, 0, -1)


@lru_cache(maxsize=32)
def _factors(lmax: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The recursion's factors, and Q_mm on its diagonal, by l and m."""
    up, down, seed = (np.zeros((lmax + 1, lmax + 1)) for _ in range(3))
    value = 1.0 / sqrt(4.0 * pi)
    for m in range(lmax + 1):
        seed[m, m] = value * (sqrt(2.0) if m else 1.0)
        value *= sqrt((2 * m + 3) / (2 * m + 2))
        for l in range(m + 1, lmax + 1):
            up[l, m] = sqrt((4 * l * l - 1) / (l * l - m * m))
            down[l, m] = sqrt(max(0.0, ((l - 1) ** 2 - m * m) / (4 * (l - 1) ** 2 - 1)))
    return up, down, seed
