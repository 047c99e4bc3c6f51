"""Derivatives of self-consistent fields: forward, reverse, unrolled and by differences of other fields."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.implicit import differentiable

ATOMS = {
    "CH2O": "C 0 0 0; O 0 0 1.205; H 0.9428 0 -0.5877; H -0.9428 0 -0.5877",
    "OH": "O 0 0 0; H 0 0 0.9697",
    "N2": "N 0 0 0; N 0 0 1.0977",
}
CASES = {  # a functional, its constant that moves, a field and options
    "CH2O": ("pbe0", "a0", (0.0, 0.0, 0.0), {}),
    # A field across the bond holds the hole of the pi shell where it is.
    "OH": ("lda,pw", "a", (0.03, 0.01, 0.0), {}),
    "OH r2scan": ("r2scan", "mgga_x_r2scan.c1", (0.03, 0.01, 0.0), {}),
    "N2": ("pbe", "mu", (0.0, 0.0, 0.05), {}),
    "N2 lda": ("lda,pw", "a", (0.0, 0.0, 0.05), {}),
    "N2 smeared": ("pbe", "mu", (0.0, 0.0, 0.0), {"smearing": 0.05}),
}
STEP = 0.01
ALONG = jnp.asarray([1.0, 0.7])
WEIGHTS = jnp.asarray([1.0, 0.3, 0.1, 0.2, 1.0])


@cache
def system(name: str, xc: str) -> dqc.System:
    return dqc.build(dqc.Molecule.from_string(ATOMS[name]), "sto-3g", dqc.functional(xc), grid=1)


def moved(case: str, x: jax.Array, system: dqc.System) -> tuple[dqc.System, dqc.Functional]:
    """At a relative change of the constant, and in a field along z that is added."""
    xc, constant, field, _ = CASES[case]
    known = dqc.functional(xc, trainable=(constant,))
    placed = dqc.in_field(system, jnp.asarray(field) + x[1] * jnp.asarray([0.0, 0.0, 0.1]))
    return placed, jax.tree.map(lambda value: value * (1 + x[0]), known)


def observed(system: dqc.System, solution: dqc.Solution) -> jax.Array:
    """The energy, a dipole moment, a potential, a square of the density matrix, and levels.

    None depends on how a hole in a pi shell is turned about the bond, which the field hardly decides.
    """
    P, S, T, V = solution.density_matrix, system.overlap, system.kinetic, system.screening
    filled = jnp.arange(S.shape[0]) < solution.occupations.shape[1]
    values = (
        solution.energy,
        dqc.dipole(system, solution)[2],
        jnp.einsum("spq,pq->", P, V),
        jnp.einsum("spq,qr,srt,tp->", P, S, P, T),
        (solution.mo_energy * filled).sum(),
    )
    return jnp.stack(values)


@partial(jax.jit, static_argnums=0)
def solved(case: str, x: jax.Array, system: dqc.System, guess) -> tuple[jax.Array, dqc.Solution]:
    placed, xc = moved(case, x, system)
    sol = dqc.scf(placed, xc, tolerance=1e-10, guess=guess, **CASES[case][3])
    return observed(placed, sol), sol


@partial(jax.jit, static_argnums=0)
def implicit(case: str, system: dqc.System, sol: dqc.Solution) -> tuple[jax.Array, jax.Array]:
    """J ALONG, forward, and J^T WEIGHTS, in reverse, of a solution: what ``dqc.scf`` does at its end."""

    def f(x: jax.Array) -> jax.Array:
        placed, xc = moved(case, x, system)
        return observed(placed, differentiable(placed, xc, sol))

    (_, forward), (_, pull) = jax.jvp(f, (jnp.zeros(2),), (ALONG,)), jax.vjp(f, jnp.zeros(2))
    return forward, pull(WEIGHTS)[0]


@cache
def solution(case: str) -> tuple[dqc.System, dqc.Solution]:
    base = system(case.split()[0], CASES[case][0])
    sad = jnp.asarray(base.atomic_density)[None].repeat(base.occupations.shape[0], 0)
    return base, solved(case, jnp.zeros(2), base, sad / len(sad))[1]


@pytest.mark.parametrize(
    "case", ["CH2O", "OH", "N2 smeared", pytest.param("OH r2scan", marks=pytest.mark.slow)]
)
def test_forward_is_reverse_is_a_difference(case: str) -> None:
    base, sol = solution(case)
    assert bool(sol.converged)
    forward, reverse = implicit(case, base, sol)
    assert float(WEIGHTS @ forward) == pytest.approx(float(ALONG @ reverse), abs=1e-8)

    f = {k: solved(case, k * STEP * ALONG, base, sol.density_matrix)[0] for k in (-4, -2, -1, 1, 2, 4)}
    near, far = ((8 * (f[k] - f[-k]) - (f[2 * k] - f[-2 * k])) / (12 * k * STEP) for k in (1, 2))
    floor = np.abs(near - far)
    assert floor.max() < 1e-5
    np.testing.assert_array_less(np.abs(forward - near), np.maximum(1e-6, floor))


def test_reverse_over_reverse() -> None:
    """Of a dipole moment, whose first derivative solved a response."""
    base, sol = solution("N2 lda")

    @jax.jit
    def curvature(x: jax.Array, base: dqc.System, sol: dqc.Solution) -> jax.Array:
        def value(x: jax.Array) -> jax.Array:
            placed, xc = moved("N2 lda", x, base)
            return observed(placed, differentiable(placed, xc, sol))[1]

        return jax.grad(lambda x: jax.grad(value)(x) @ ALONG)(x) @ ALONG

    f = {k: solved("N2 lda", k * STEP * ALONG, base, sol.density_matrix)[0][1] for k in (-2, -1, 0, 1, 2)}
    near, far = ((f[k] + f[-k] - 2 * f[0]) / (k * STEP) ** 2 for k in (1, 2))
    assert float(curvature(jnp.zeros(2), base, sol)) == pytest.approx(float((4 * near - far) / 3), abs=2e-6)


def test_unrolled_is_implicit() -> None:
    """In reverse mode as well, where the orbitals of a degenerate level must not turn on the way back."""
    base, sol = solution("N2")

    @jax.jit
    def slope(x: jax.Array, system: dqc.System) -> jax.Array:
        def loss(x: jax.Array) -> jax.Array:
            placed, xc = moved("N2", x, system)
            sol = dqc.scf(placed, xc, tolerance=1e-10, adjoint="unrolled", max_iterations=20)
            return WEIGHTS @ observed(placed, sol)

        return jax.grad(loss)(x)

    np.testing.assert_allclose(slope(jnp.zeros(2), base), implicit("N2", base, sol)[1], atol=1e-8)


def test_janak() -> None:
    """dE/df_i is the energy of orbital i: Janak (1978), doi:10.1103/PhysRevB.18.7165."""

    @jax.jit
    def slope(f: jax.Array, system: dqc.System) -> tuple[jax.Array, dqc.Solution]:
        def energy(f: jax.Array) -> tuple[jax.Array, dqc.Solution]:
            sol = dqc.scf(system, dqc.functional("lda,vwn"), occupations=f, tolerance=1e-7)
            return sol.energy, sol

        return jax.grad(energy, has_aux=True)(f)

    base = system("OH", "lda,vwn")
    by_occupations, sol = slope(base.occupations, base)
    assert bool(sol.converged)
    levels = sol.mo_energy[:, : base.occupations.shape[1]]
    filled = np.asarray(base.occupations) > 0  # an empty orbital is canonical among the virtual ones alone
    np.testing.assert_allclose(by_occupations[filled], levels[filled], atol=1e-6)
