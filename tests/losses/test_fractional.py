"""Fractional charges and spins, Janak's theorem, the ionisation potential and the tail of the potential."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc import losses
from dqc.losses import Deviations

NONE, ONE, HALF = (jnp.asarray([[up], [down]]) for up, down in ((0.0, 0.0), (1.0, 0.0), (0.5, 0.5)))


@pytest.fixture(scope="module")
def hydrogen() -> dqc.System:
    molecule = dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    return dqc.build(molecule, "aug-cc-pvqz", two_electron="exact", grid=3)


@pytest.fixture(scope="module")
def small() -> dqc.System:
    molecule = dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    return dqc.build(molecule, "cc-pvdz", two_electron="exact", grid=1)


def test_hydrogen_with_pbe(hydrogen: dqc.System) -> None:
    """Figures in mHa, recomputed with PySCF by experiments/constraints."""
    pbe = dqc.functional("pbe")
    charge = losses.fractional_charge(hydrogen, pbe, NONE, ONE, (0.5,))
    assert 1e3 * float(charge.error[0]) == pytest.approx(-53.2, abs=0.05)
    assert float(charge.loss) == float(charge.masked) == pytest.approx(float(charge.error[0]) ** 2)
    spin = losses.fractional_spin(hydrogen, pbe, ONE, HALF, -0.5)
    assert 1e3 * float(spin.error[0]) == pytest.approx(41.1, abs=0.05)
    plane = losses.flat_plane(hydrogen, pbe, jnp.asarray([[0.5, 0.5], [0.5, 0.0], [1.0, 1.0]]))
    assert float(plane.error[0]) == pytest.approx(float(spin.error[0]), abs=1e-9)
    alone = losses.fractional_spin(hydrogen, pbe, ONE, HALF)
    E = 0.5 * (float(plane.error[1]) - float(charge.error[0])) * 2  # E(1)/2 + 1/4, by the two definitions
    assert float(spin.error[0] - alone.error[0]) == pytest.approx(2 * E, abs=1e-9)
    ion = losses.ionization_potential(hydrogen, pbe, NONE, ONE)
    exact = losses.ionization_potential(hydrogen, pbe, NONE, ONE, reference=0.5)
    assert float(ion.error[0]) == pytest.approx(0.2209, abs=1e-3)
    assert float(exact.error[0] - ion.error[0]) == pytest.approx(0.5 + 2 * E - 0.5, abs=1e-4)


def test_exact_exchange_is_linear_in_one_electron(small: dqc.System) -> None:
    hf = dqc.functional("hf")
    assert abs(losses.fractional_charge(small, hf, NONE, ONE).error).max() < 1e-9
    assert abs(losses.janak(small, hf, NONE, ONE).error).max() < 1e-8
    assert abs(losses.ionization_potential(small, hf, NONE, ONE).error).max() < 1e-9
    solution = dqc.scf(small, hf, ONE)
    assert abs(float(losses.curvature(small, hf, solution, ONE))) < 1e-12
    empty = dqc.scf(small, hf, NONE)
    assert abs(losses.fractional_charge_at(small, hf, empty, solution).error).max() < 1e-12
    assert float(losses.fractional_spin(small, hf, ONE, HALF).error[0]) > 0.1  # at the price of the spins


def test_fixed_density_janak_and_curvature_are_derivatives_of_the_energy(small: dqc.System) -> None:
    lda = dqc.functional("lda,vwn")
    solution, empty = dqc.scf(small, lda, ONE, tolerance=1e-8), dqc.scf(small, lda, NONE)
    fixed = losses.fractional_charge_at(small, lda, empty, solution, (0.98, 0.99))
    E = np.array([*np.asarray(fixed.error), 0.0])
    assert float(losses.curvature(small, lda, solution, ONE)) == pytest.approx(
        (E[0] - 2 * E[1] + E[2]) / 1e-4, rel=2e-2
    )
    moving = losses.fractional_charge(small, lda, NONE, ONE, (0.499, 0.5, 0.501), tolerance=1e-8)
    slope = (moving.error[2] - moving.error[0]) / 2e-3  # of E(w) less the line
    found = losses.janak(small, lda, NONE, ONE, (0.5,), tolerance=1e-8).error[0]
    assert float(found) == pytest.approx(float(slope), abs=1e-6)
    relaxed = losses.fractional_charge(small, lda, NONE, ONE, (0.98,)).error[0]
    assert float(relaxed) < float(fixed.error[0]) < -1e-3  # relaxation lowers the energy


def test_gradients_through_the_field_are_differences_of_fields(small: dqc.System) -> None:
    def trained(ax: float) -> dqc.Functional:
        parts = (dqc.functional("lda,"), dqc.functional(",vwn"))
        return parts[0] * jnp.asarray(ax) + parts[1]

    def loss(xc: dqc.Functional) -> jax.Array:
        ion = losses.ionization_potential(small, xc, NONE, ONE, reference=0.5, tolerance=1e-9)
        charge = losses.fractional_charge(small, xc, NONE, ONE, (0.5,), tolerance=1e-9)
        return ion.loss + charge.loss

    value, slope = jax.value_and_grad(loss)(trained(1.0))
    (derivative,) = jax.tree.leaves(slope)
    difference = (loss(trained(1.001)) - loss(trained(0.999))) / 2e-3
    assert float(value) > 1e-2
    assert float(derivative) == pytest.approx(float(difference), rel=1e-4)


def test_a_field_that_fails_is_not_a_zero() -> None:
    errors = jnp.asarray([0.1, 5.0])
    half = Deviations(errors, jnp.asarray([True, False]))
    none = Deviations(errors, jnp.asarray([False, False]))
    assert np.isnan(half.loss)
    assert float(half.masked) == pytest.approx(0.01)
    assert np.isnan(none.masked)
    slope = jax.grad(lambda e: Deviations(e, half.converged).masked)(errors)
    np.testing.assert_allclose(slope, [0.2, 0.0])


def test_a_field_that_fails_has_no_gradient(small: dqc.System) -> None:
    lda = dqc.functional("lda,vwn") * jnp.asarray(1.0)

    def loss(xc: dqc.Functional, kind: str) -> jax.Array:
        found = losses.flat_plane(small, xc, jnp.asarray([[1.0, 0.0]]), max_iterations=1)
        return getattr(found, kind)

    value, slope = jax.value_and_grad(loss)(lda, "loss")
    assert np.isnan(value)
    assert all(np.isnan(x) for x in jax.tree.leaves(slope))


@pytest.mark.parametrize(("name", "low", "high"), [("pbe", 0.2, 1.0), ("hf", 0.0, 5e-3)])
def test_tail_of_helium(name: str, low: float, high: float) -> None:
    """Exact exchange decays as -1/r on the occupied orbital, semilocal potentials decay exponentially."""
    molecule = dqc.Molecule(["He"], np.zeros((1, 3)))
    system = dqc.build(molecule, "aug-cc-pvqz", two_electron="exact", grid=3)
    xc = dqc.functional(name)
    assert low <= float(losses.tail(system, xc, dqc.scf(system, xc))) < high


def density(r: jax.Array) -> jax.Array:
    n = jnp.exp(-2 * r) / jnp.pi
    return jnp.stack([n, 0.5 * n])


def test_radial_potential_is_that_of_libxc() -> None:
    """LDA in closed form; a GGA by the energy's change under a change of the density."""
    r, lda, pbe = jnp.linspace(0.3, 6.0, 9), dqc.functional("lda,"), dqc.functional("pbe")
    np.testing.assert_allclose(
        losses.radial_potential(lda, density, r), -((6 / jnp.pi * density(r)) ** (1 / 3)), rtol=1e-10
    )
    x, w = np.polynomial.legendre.leggauss(300)
    grid, weights = jnp.asarray((1 + x) / (1 - x)), jnp.asarray(2 * w / (1 - x) ** 2)

    def energy(c: jax.Array) -> jax.Array:
        def changed(r: jax.Array) -> jax.Array:
            return density(r) + c[:, None] * r**2 * jnp.exp(-3 * r)

        n, slope = jax.jvp(changed, (grid,), (jnp.ones_like(grid),))
        zero = 0 * slope
        e = pbe(dqc.Features(n, jnp.stack([slope, zero, zero], 1), None))
        return jnp.sum(4 * jnp.pi * grid**2 * weights * e)

    v = losses.radial_potential(pbe, density, grid)
    change = (4 * jnp.pi * grid**4 * weights * jnp.exp(-3 * grid) * v).sum(1)
    np.testing.assert_allclose(jax.grad(energy)(jnp.zeros(2)), change, rtol=1e-6)


def test_radial_tail() -> None:
    r = jnp.linspace(8.0, 12.0, 20)
    assert float(losses.radial_tail(dqc.functional("lda,"), density, r)) == pytest.approx(1.0, abs=0.1)
    with pytest.raises(ValueError, match="no local potential"):
        losses.radial_potential(dqc.functional("tpss"), density, r)


def test_radial_density_of_a_field(small: dqc.System) -> None:
    solution = dqc.scf(small, dqc.functional("hf"), ONE)
    r = jnp.linspace(0.1, 5.0, 7)
    points = jnp.stack([0 * r, r, 0 * r], 1)
    np.testing.assert_allclose(
        losses.radial_density(small, solution)(r), dqc.density_on(small, solution, points), atol=1e-12
    )
