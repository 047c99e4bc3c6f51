"""Forces: whatever runs at the same time, one result, also where it is traced; derivatives by theta."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.implicit import differentiable
from dqc.nuclei import follow

CASES = {
    "OH": (dqc.Molecule.from_string("O 0 0 0; H 0.5 0 0.9", spin=1), "pbe0", None),
    "CH2O": (
        dqc.Molecule.from_string("C 0 0 0; O 0 0 1.2; H 0.94 0 -0.54; H -0.94 0.1 -0.54"),
        "lc-wpbe",
        None,
    ),
    "O2, smeared": (dqc.Molecule.from_string("O 0 0 0; O 0.3 0 1.2", spin=2), "pbe", 0.02),
}


@cache
def solved(name: str) -> tuple[dqc.System, dqc.Functional, dqc.Solution]:
    """A field that has hardly converged."""
    molecule, xc, smearing = CASES[name]
    functional = dqc.functional(xc, trainable=("kappa",)) if xc.startswith("pbe") else dqc.functional(xc)
    system = dqc.build(molecule, "sto-3g", functional, grid=0)
    return system, functional, dqc.scf(system, functional, smearing=smearing, tolerance=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_they_are_the_gradient_of_the_energy_where_the_iterations_ended(name: str) -> None:
    """In one pass through the grid and all integrals."""
    system, xc, sol = solved(name)
    assert sol.converged
    assert sol.residual > 1e-6

    @jax.jit
    def gradient(coords: jax.Array) -> jax.Array:
        return jax.grad(lambda coords: differentiable(follow(system, coords), xc, sol).energy)(coords)

    np.testing.assert_allclose(dqc.forces(system, xc, sol), -gradient(system.coords), atol=1e-11)


@pytest.mark.parametrize("name", ["OH", pytest.param("O2, smeared", marks=pytest.mark.slow)])
def test_their_derivative_by_theta(name: str) -> None:
    """Against differences of forces that are not traced."""
    system, xc, _ = solved(name)
    options = {"tolerance": 1e-10, "smearing": CASES[name][2]}
    (kappa,), tree = jax.tree.flatten(xc)
    v = jnp.asarray(np.random.default_rng(0).normal(size=system.coords.shape))

    def along(kappa: jax.Array) -> jax.Array:
        return jnp.vdot(dqc.forces(system, jax.tree.unflatten(tree, [kappa]), **options), v)

    h = 1e-2
    a, b, c, d = (float(along(kappa + k * h)) for k in (1, -1, 2, -2))
    expected = (8 * (a - b) - (c - d)) / (12 * h)
    value, slope = jax.jit(jax.value_and_grad(along))(kappa)
    assert float(slope) == pytest.approx(expected, rel=1e-6)
    assert float(value) == pytest.approx(float(along(kappa)), abs=1e-9)


def test_unconverged_ones_are_nan() -> None:
    system, xc, _ = solved("OH")
    sol = dqc.scf(system, xc, max_iterations=2)
    assert not sol.converged
    assert np.isnan(dqc.forces(system, xc, sol)).all()
