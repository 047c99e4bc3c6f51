"""Derivatives of a self-consistent field where they are difficult: degeneracy, failure, zero modes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
import dqc.response
from dqc.batch import shape_of
from dqc.density import density_matrix
from dqc.energy import fock
from dqc.implicit import differentiable, eigenvectors
from dqc.linalg import diagonalize
from dqc.response import _linear_residual, rotation, smearing
from dqc.types import replace

TIGHT = {"tolerance": 1e-8}


@functools.cache
def case(atoms: str, spin: int | None = None):
    """A system and a functional; from grid 2 on the response has a coarse grid to be preconditioned on."""
    functional = dqc.functional("pbe", trainable=("kappa", "beta"))
    molecule = dqc.Molecule.from_string(atoms, spin=spin)
    return dqc.build(molecule, "sto-3g", functional, grid=2), functional


def moment(system: dqc.System, solution: dqc.Solution) -> jax.Array:
    """Something that needs the response: <x^2> in the electrons' first moments, and the dipole."""
    return (dqc.dipole(system, solution) ** 2).sum() + jnp.vdot(
        system.kinetic, solution.density_matrix.sum(0)
    )


@pytest.mark.parametrize("gap", [0.0, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-5), (jnp.float64, 1e-8)])
def test_gaps_inside_the_occupied_and_the_virtual_space_do_not_matter(gap, dtype, bound) -> None:
    """d tr(W P) / dF of a density matrix, against its formula with divided differences."""
    rng = np.random.default_rng(3)
    levels = np.array([-1.0, -0.5, -0.5 + gap, -0.5 + 2 * gap, 0.3, 0.3 + gap, 0.9])
    Q = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    F = jnp.asarray((Q * levels @ Q.T)[None], dtype)
    F = 0.5 * (F + F.transpose(0, 2, 1))
    W = rng.normal(size=(7, 7))
    W = W + W.T
    one, f = jnp.eye(7, dtype=dtype), jnp.full((1, 4), 2.0, dtype)

    def expectation(F: jax.Array) -> jax.Array:
        e, C = diagonalize(jax.lax.stop_gradient(F), one)
        C = eigenvectors(F, one, e, C, f)[:, :, :4]
        return jnp.vdot(jnp.asarray(W, dtype), density_matrix(C, f))

    gradient = np.asarray(jax.grad(expectation)(F)[0], float)
    e, C = np.linalg.eigh(np.asarray(F[0], float))  # of the rounded F
    O, V = C[:, :4], C[:, 4:]
    part = O @ ((O.T @ W @ V) * 2.0 / (e[:4, None] - e[4:])) @ V.T
    expected = part + part.T
    gradient = 0.5 * (gradient + gradient.T)
    assert np.abs(gradient - expected).max() < bound * np.abs(expected).max()


def test_an_energy_asks_for_no_response_and_a_density_for_one() -> None:
    system, xc = case("C 0 0 0; N 0 0 1.17")
    loss = lambda f: jax.grad(  # noqa: E731
        lambda xc, report: f(dqc.scf(system, xc, response=report, **TIGHT)), (0, 1)
    )(xc, dqc.no_response())
    gradient, report = loss(lambda sol: sol.energy)
    assert report.iterations == 0
    assert np.isfinite(gradient.trained["kappa"])
    gradient, report = loss(lambda sol: moment(system, sol))
    assert 0 < report.iterations < 30
    assert report.converged == 1
    assert report.residual < 1e-7
    assert np.isfinite(gradient.trained["kappa"])
    tangent = jax.jvp(lambda xc: dqc.scf(system, xc, **TIGHT), (xc,), (xc,))[1]
    assert tangent.response.converged == 1
    assert 0 < tangent.response.iterations < 30


def together(systems: list[dqc.System]) -> dqc.System:
    shape = dqc.common_shape(systems)
    return dqc.stack([dqc.pad(system, shape) for system in systems])


def test_a_field_that_failed_is_zero_where_it_is_masked_and_nan_where_not() -> None:
    """Of three molecules the last needs more iterations than there are."""
    systems = [
        case(atoms)[0] for atoms in ("B 0 0 0; O 0 0 1.2", "C 0 0 0; N 0 0 1.17", "C 0 0 0; N 0 0 2.4")
    ]
    xc = case("C 0 0 0; N 0 0 1.17")[1]
    solve = functools.partial(dqc.scf, max_iterations=17, tolerance=1e-6)
    batch = together(systems)

    @jax.jit
    def both(xc, batch, weights):
        """The batch's loss, of energies and of what responds."""

        def one(system):
            sol = solve(system, xc)
            return sol.converged, jnp.stack([sol.energy, moment(system, sol)])

        converged, values = jax.vmap(one)(batch)
        return jnp.where(converged[:, None] | (weights > 0), weights * values, 0.0).sum(), converged

    def gradient(weights):
        slope, converged = jax.grad(both, has_aux=True)(xc, batch, jnp.asarray(weights))
        return slope.trained["kappa"], converged

    masked = [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    value, converged = gradient(masked)
    assert converged.tolist() == [True, True, False]
    single = jax.jit(jax.grad(lambda xc, s: (sol := solve(s, xc)).energy + moment(s, sol)))
    alone = [single(xc, system).trained["kappa"] for system in dqc.unstack(batch)[:2]]
    np.testing.assert_allclose(value, sum(alone), rtol=1e-5)
    assert np.isnan(gradient([*masked[:2], [1.0, 0.0]])[0])
    assert np.isnan(gradient([*masked[:2], [0.0, 1.0]])[0])


def test_a_response_that_failed_is_zero_where_it_is_masked_and_nan_where_not(monkeypatch) -> None:
    """Too few iterations for one of two molecules: hydrogen has one pair of orbitals, and needs one."""
    monkeypatch.setattr(dqc.response, "MAX_CORRECTIONS", 1)
    jax.clear_caches()
    systems = [case(atoms)[0] for atoms in ("H 0 0 0; H 0 0 1.0", "Li 0 0 0; H 0 0 1.6")]
    xc = case("H 0 0 0; H 0 0 1.0")[1]
    batch = together(systems)

    def total(xc, weights):
        sol = jax.vmap(lambda s: dqc.scf(s, xc, tolerance=1e-7))(batch)
        return (weights * sol.density_matrix[:, 0, 0, 0]).sum()

    gradient = lambda *weights: jax.grad(total)(xc, jnp.asarray(weights)).trained["kappa"]  # noqa: E731
    first = gradient(1.0, 0.0)
    assert np.isfinite(first)
    assert np.isnan(gradient(1.0, 1.0))
    monkeypatch.undo()
    jax.clear_caches()
    np.testing.assert_allclose(gradient(1.0, 0.0), first, rtol=1e-5, atol=1e-12)
    assert np.isfinite(gradient(1.0, 1.0))


@pytest.mark.parametrize("temperature", [None, 0.02])
def test_at_convergence_the_orbital_gradient_has_the_derivative_that_is_solved_with(temperature) -> None:
    system, xc = case("O 0 0 0; H 0.2 0.3 0.9", 1)
    solution = dqc.scf(system, xc, smearing=temperature, tolerance=1e-9)
    C, e, f = solution.mo_coeff, solution.mo_energy, solution.occupations
    chart = rotation(C, e, f) if temperature is None else smearing(C, e, f, jnp.asarray(temperature))
    y = jnp.asarray(np.random.default_rng(0).normal(size=chart.start().shape))

    def field(C: jax.Array, f: jax.Array) -> jax.Array:
        return fock(system, xc, C, f, system.grid)[0]

    def residual(y: jax.Array) -> jax.Array:
        C = chart.moved(y, system.overlap)
        return chart.gradient(y, C, system.overlap, field(C, f))

    _, expected = jax.jvp(residual, (chart.start(),), (y,))
    assert float(jnp.abs(expected).max()) > 1.0
    np.testing.assert_allclose(_linear_residual(field, chart, (f,), y), expected, atol=3e-7)


def test_a_zero_mode_is_reported() -> None:
    """The hole of an oxygen atom turns freely, at a finite gap; in a weak field it does not."""
    system, xc = case("O 0 0 0", spin=2)
    rng = np.random.default_rng(0)
    W = rng.normal(size=system.overlap.shape)

    def report(system):
        loss = lambda r: jnp.vdot(W, dqc.scf(system, xc, response=r, **TIGHT).density_matrix[1])  # noqa: E731
        return jax.grad(loss)(dqc.no_response())

    assert report(system).zero_mode
    pinned = replace(system, nuclear=system.nuclear + 0.05 * jnp.diag(jnp.array([0.0, 0, 0, 0.2, 1.0])))
    assert not report(pinned).zero_mode


def test_under_smearing_the_energy_has_second_derivatives_and_the_density_says_it_has_none() -> None:
    system, xc = case("N 0 0 0; N 0 0 1.3")
    options = {"smearing": 0.05, "tolerance": 1e-8}
    energy = lambda xc: dqc.scf(system, xc, **options).energy  # noqa: E731
    slope = lambda xc: jax.grad(energy)(xc).trained["kappa"]  # noqa: E731
    along = replace(xc, trained={"kappa": jnp.ones(()), "beta": jnp.zeros(())})
    second = jax.jvp(slope, (xc,), (along,))[1]
    h = 1e-3
    moved = [slope(jax.tree.map(lambda a, b, h=h: a + h * b, xc, along)) for h in (h, -h)]
    np.testing.assert_allclose(second, (moved[0] - moved[1]) / (2 * h), rtol=1e-5)
    curved = jax.jvp(
        lambda xc: jax.jvp(lambda xc: moment(system, dqc.scf(system, xc, **options)), (xc,), (along,))[1],
        (xc,),
        (along,),
    )[1]
    assert np.isnan(curved)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_choices_are_refused() -> None:
    system, xc = case("H 0 0 0; H 0 0 1.0")
    with pytest.raises(ValueError, match="neither 'implicit' nor 'unrolled'"):
        dqc.scf(system, xc, adjoint="magic")
    with pytest.raises(ValueError, match="leave out smearing="):
        dqc.scf(system, xc, adjoint="unrolled", smearing=0.01)


def test_slots_that_are_empty_change_no_derivative() -> None:
    """A molecule beside a larger one: its field has slots without electrons, and ghosts beyond these."""
    own, xc = case("H 0 0 0; F 0 0 0.9")
    room = shape_of(own)._replace(orbitals=7, slots=6)

    @jax.jit
    def derivatives(xc: dqc.Functional, system: dqc.System, solution: dqc.Solution) -> tuple:
        def f(xc: dqc.Functional) -> jax.Array:
            return moment(system, differentiable(system, xc, solution))

        return jax.grad(f)(xc), jax.jvp(f, (xc,), (jax.tree.map(jnp.ones_like, xc),))[1]

    found = []
    for system in (own, dqc.pad(own, room)):
        reverse, forward = derivatives(xc, system, dqc.scf(system, xc, **TIGHT))
        assert float(sum(reverse.trained.values())) == pytest.approx(float(forward), rel=1e-7)
        found.append(float(forward))
    assert abs(found[0]) > 1e-4
    assert found[1] == pytest.approx(found[0], rel=1e-6)
