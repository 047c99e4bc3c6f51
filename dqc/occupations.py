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
    Differentiable, the chemical potential's response included. Mermin (1965), doi:10.1103/PhysRev.137.A1441.
    """
    full = 3 - energies.shape[0]
    x = _shares(energies, chemical_potential(energies, electrons, temperature), temperature)
    return full * x, temperature * full * (_x_log_x(x) + _x_log_x(1 - x)).sum()


def _x_log_x(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    empty = x <= 0
    return jnp.where(empty, 0.0, x * jnp.log(jnp.where(empty, 1.0, x)))


def chemical_potential(
    energies: Float[Array, "s k"], electrons: Float[Array, " s"], temperature: Float[Array, ""]
) -> Float[Array, " s"]:
    """mu of each spin row, at which the occupations add up to its electrons, hartree."""
    full = 3 - energies.shape[0]

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        enough = full * _shares(fixed, middle, temperature).sum(1) > electrons
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    span = 50.0 * temperature + 1.0
    fixed = jax.lax.stop_gradient(energies)
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (fixed.min(1) - span, fixed.max(1) + span))
    mu = jax.lax.stop_gradient(0.5 * (low + high))
    # The root is there already: each Newton step from it adds an order to what differentiation sees.
    for _ in range(2):
        x = _shares(energies, mu, temperature)
        slope = full * (x * (1 - x)).sum(1) / temperature
        steep = slope > 1e-8
        step = (full * x.sum(1) - electrons) / jnp.where(steep, slope, 1.0)
        mu = mu - jnp.where(steep, step, 0.0)
    return mu


def fermi_slopes(
    energies: Float[Array, "s k"], mu: Float[Array, " s"], temperature: Float[Array, ""]
) -> Float[Array, "s k k"]:
    """-(f_i - f_j) / (e_i - e_j), the diagonal being -f'(e_i): positive, and exact for any gap.

    With a = (e - mu) / 2kT it is m / (4 kT) sinhc(a_i - a_j) / (cosh a_i cosh a_j).
    """
    full = 3 - energies.shape[0]
    x = _shares(energies, mu, temperature)
    difference = (energies[:, :, None] - energies[:, None, :]) / temperature
    near = jnp.abs(difference) < 1.0
    half = jnp.where(near, 0.5 * difference, 0.0)
    # 1 / (4 cosh a_i cosh a_j) as the root of x_i (1 - x_i) x_j (1 - x_j), which cannot overflow.
    root = jnp.sqrt(x * (1 - x))
    close = root[:, :, None] * root[:, None, :] * _sinhc(half)
    apart = (x[:, None, :] - x[:, :, None]) / jnp.where(near, 1.0, difference)
    return full / temperature * jnp.where(near, close, apart)


def _sinhc(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    small = jnp.abs(x) < 1e-2
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1.0 + x * x / 6.0 + x**4 / 120.0, jnp.sinh(safe) / safe)


def _shares(
    energies: Float[Array, "s k"], mu: Float[Array, " s"], temperature: Float[Array, ""]
) -> Float[Array, "s k"]:
    return jax.nn.sigmoid((mu[:, None] - energies) / temperature)
