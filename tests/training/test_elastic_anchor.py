"""Fine-tuning that is held near the old parameters where these mattered."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import SCF, SYSTEM, bent, flat, hydrogen, small, trained

import dqc
from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.training import Loss, Stage
from dqc.training.anchor import anchor, elastic
from dqc.training.result import Trained
from dqc.training.systems import cached


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A functional that was trained on two reactions, and where it was written."""
    folder = tmp_path_factory.mktemp("old")
    return trained(bent(), hydrogen("H2", "H2 far"), Stage("post-scf", 10, 0.02), directory=folder), folder


def test_the_fisher_information_is_the_mean_square_slope(old: tuple[Trained, Path]) -> None:
    found, data = old[0], hydrogen("H2", "H2 far")

    @jax.jit
    def slope(xc: dqc.Functional, system: dqc.System) -> dqc.Functional:
        return jax.grad(lambda xc: dqc.scf(system, xc, **SCF).energy)(xc)

    dE = {
        name: flat(slope(found.functional, cached(m, small(), two_electron="df", auxbasis=None, **SYSTEM)))
        for name, m in data.molecules.items()
    }
    rows = [
        sum(c * dE[name] for name, c in zip(r.molecules, r.coefficients, strict=True)) for r in data.reactions
    ]
    expected = np.mean(np.square(rows), axis=0) * HARTREE_IN_KCAL_PER_MOL**2
    assert expected.max() > 1e-3
    np.testing.assert_allclose(flat(found.fisher), expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_the_penalty_is_zero_at_the_old_parameters_and_quadratic(old: tuple[Trained, Path]) -> None:
    found, folder = old
    penalty = anchor(folder)
    assert float(penalty(found.functional)) == 0.0
    rng = np.random.default_rng(2)
    d = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), found.functional)
    for size in (0.1, 1.0):
        moved = jax.tree.map(lambda x, d, size=size: x + size * d, found.functional, d)
        expected = 0.5 * size**2 * flat(found.fisher) @ flat(d) ** 2
        assert float(penalty(moved)) == pytest.approx(expected, rel=1e-12)
        assert float(elastic(found.functional, found.fisher)(moved)) == pytest.approx(expected, rel=1e-12)


def test_an_anchor_holds_what_mattered(old: tuple[Trained, Path]) -> None:
    """Fine-tuning on another bond length: the heavier the anchor, the less the old energies change."""
    found, folder = old
    distances, changes = [], []
    for weight in (0.0, 10.0, 1e6):
        loss = Loss(penalties={"anchor": (weight, anchor(folder))})
        stage, data = Stage("post-scf", 60, 0.01), hydrogen("H2 near")
        tuned = trained(found.functional, data, stage, loss, test=hydrogen("H2", "H2 far"))
        distances.append(tuned.history[-1]["terms"]["anchor"][0])
        errors = tuned.errors["test"]
        changes.append(np.sqrt(np.mean((errors.after - errors.before) ** 2)))
    assert distances[0] > 5 * distances[1] > 50 * distances[2]
    assert changes[0] > 1.0  # kcal/mol
    assert changes[0] > changes[1] > 5 * changes[2]
