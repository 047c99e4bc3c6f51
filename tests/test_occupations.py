"""Fermi-Dirac occupations against their formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dqc.occupations import fermi

LEVELS = jnp.asarray([[-2.0, -0.51, -0.5, -0.45, 0.1, 1.0], [-1.9, -0.5, -0.4, -0.1, 0.2, 1.1]])


def occupy(energies: jnp.ndarray, electrons: list[float], temperature: float):
    return fermi(energies, jnp.asarray(electrons), jnp.asarray(temperature))


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize(("rows", "electrons"), [(1, [5.3]), (2, [3.0, 1.5])])
def test_electrons_are_counted_and_shares_follow_one_chemical_potential(
    rows: int, electrons: list[float], temperature: float
) -> None:
    e, full = LEVELS[:rows], 3 - rows
    f, _ = occupy(e, electrons, temperature)
    np.testing.assert_allclose(f.sum(1), electrons, atol=1e-10)
    x = np.asarray(f / full)
    inside = (x > 1e-8) & (x < 1 - 1e-8)
    assert inside.any()
    for row in np.flatnonzero(inside.any(1)):
        chosen = inside[row]
        mu = np.asarray(e[row])[chosen] + temperature * np.log(x[row][chosen] / (1 - x[row][chosen]))
        np.testing.assert_allclose(mu, mu[0], atol=1e-6 * temperature + 1e-9)


@pytest.mark.parametrize(("rows", "electrons"), [(1, [5.3]), (2, [3.0, 1.5])])
def test_entropy(rows: int, electrons: list[float]) -> None:
    f, minus_ts = occupy(LEVELS[:rows], electrons, 0.2)
    x = np.asarray(f) / (3 - rows)
    expected = 0.2 * (3 - rows) * (x * np.log(x) + (1 - x) * np.log(1 - x)).sum()
    np.testing.assert_allclose(minus_ts, expected, rtol=1e-12)
    assert float(minus_ts) < 0


def test_cold_electrons_fill_the_lowest_levels() -> None:
    f, minus_ts = occupy(LEVELS, [3.0, 2.0], 1e-5)
    np.testing.assert_allclose(f, [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(minus_ts, 0.0, atol=1e-12)


def test_degenerate_levels_share_equally() -> None:
    f, _ = occupy(jnp.asarray([[-1.0, -0.5, -0.5, -0.5, 0.5]]), [4.0], 1e-4)
    np.testing.assert_allclose(f, [[2, 2 / 3, 2 / 3, 2 / 3, 0]], atol=1e-10)


@pytest.mark.parametrize("electrons", [0.0, 12.0])
def test_empty_and_full_rows_are_finite(electrons: float) -> None:
    f, minus_ts = occupy(LEVELS[:1], [electrons], 0.01)
    np.testing.assert_allclose(f, electrons / 6, atol=1e-10)
    np.testing.assert_allclose(minus_ts, 0.0, atol=1e-10)


def test_the_free_energy_is_least() -> None:
    """At fixed N the occupations minimise sum f e - T S: moving electrons between levels raises it."""
    temperature = 0.2
    f, minus_ts = occupy(LEVELS[:1], [5.3], temperature)

    def free(f: np.ndarray) -> float:
        x = f / 2
        return float(
            (f * np.asarray(LEVELS[:1])).sum()
            + 2 * temperature * (x * np.log(x) + (1 - x) * np.log(1 - x)).sum()
        )

    rng = np.random.default_rng(0)
    best = free(np.asarray(f))
    np.testing.assert_allclose(best, float((f * LEVELS[:1]).sum() + minus_ts), rtol=1e-13)
    for _ in range(20):
        change = rng.normal(size=f.shape)
        change -= change.mean()
        moved = np.asarray(f) + 1e-3 * np.abs(np.asarray(f) * (2 - np.asarray(f))).min() * change
        assert free(moved) > best


def test_occupations_vary_smoothly_with_the_levels() -> None:
    """Second differences of a sum over occupations fall as the square of the step."""
    direction = jnp.asarray([[0.1, 1.0, -0.7, 0.3, -0.2, 0.5]])

    def weighted(t: float) -> float:
        f, _ = occupy(LEVELS[:1] + t * direction, [5.3], 0.05)
        return float((f * jnp.arange(6.0)).sum())

    curvature = [(weighted(h) - 2 * weighted(0.0) + weighted(-h)) / h**2 for h in (4e-3, 2e-3, 1e-3)]
    assert abs(curvature[1] - curvature[2]) < 0.3 * abs(curvature[0] - curvature[1])
    assert abs(curvature[2]) > 1e-3


def test_it_batches() -> None:
    batch = jnp.stack([LEVELS[:1], LEVELS[1:]])
    electrons = jnp.asarray([[5.3], [2.0]])
    f, minus_ts = jax.vmap(fermi, (0, 0, None))(batch, electrons, jnp.asarray(0.1))
    for k in range(2):
        alone = fermi(batch[k], electrons[k], jnp.asarray(0.1))
        np.testing.assert_allclose(f[k], alone[0], rtol=1e-12)
        np.testing.assert_allclose(minus_ts[k], alone[1], rtol=1e-12)
