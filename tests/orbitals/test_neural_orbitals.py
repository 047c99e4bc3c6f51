"""Neural orbitals: what is built into them, their energy, its gradient, and what the minimisation finds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from local_hybrids import ALL, bent

import dqc
from dqc.energy import fock
from dqc.orbitals.expectation import expectation, orbitals_on, orthonormal, slope, spheres
from dqc.orbitals.field import on_points
from dqc.orbitals.neural import Neural, Orbitals, nuclei_of
from dqc.orbitals.quadrature import placed, quadrature, rotation
from dqc.orbitals.training import descend, finish, prepare, step, turned
from dqc.types import replace

SMALL = Neural(shells=(3, 1), hidden=(6,), spread=0.5)
LIH = ((3, 1), np.array([[0.1, 0.0, 0.0], [0.4, -0.3, 2.9]]))
H2 = dqc.Molecule.from_string("H 0 0 0; H 0 0 1.4", unit="bohr")
PBE = dqc.functional("pbe")
LOCAL_HYBRID = bent("0.25*hf + 0.75*r2scan, r2scan")
NETWORK = Neural(shells=(2,), hidden=(16, 16), spread=0.3)  # the README's, so that programs are shared


def setting(numbers, coords, network=SMALL, level=0):
    nuclei = nuclei_of(numbers, jnp.asarray(coords))
    g = quadrature(coords, numbers, level)
    return nuclei, network.init(jax.random.key(1), nuclei), placed(g, g.coords, rotation(jax.random.key(2)))


def test_the_cusp_is_exact_at_every_nucleus() -> None:
    """The spherical mean of d phi/dr is -Z phi, for functions of this atom and of the other one."""
    nuclei, parameters, g = setting(*LIH)
    r = 1e-5
    for A, Z in enumerate(LIH[0]):
        points = nuclei.coords[A] + r * g.directions
        here = SMALL.functions_on(parameters, nuclei, nuclei.coords[A][None])[0]
        mean = g.solid_angle @ SMALL.functions_on(parameters, nuclei, points)
        np.testing.assert_allclose((mean - here) / r, -Z * here, atol=2e-3 * np.abs(here).max())
        assert np.abs(here).min() < 1e-12 < np.abs(here[here != 0]).max()


def test_functions_decay_exponentially() -> None:
    nuclei, parameters, _ = setting(*LIH)
    points = jnp.asarray([[0.0, 30.0, 0.0], [0.0, 60.0, 0.0]])
    near, far = np.log(np.abs(SMALL.functions_on(parameters, nuclei, points)[:, :3]))
    zeta = np.exp(np.asarray(parameters["zeta"])) + 0.15
    np.testing.assert_allclose((near - far) / 30.0, zeta[nuclei.element[0], :3], rtol=1e-2)


def test_equal_atoms_are_exchanged_with_their_functions() -> None:
    numbers, coords = (1, 8, 1), np.array([[0.0, 1.4, 1.1], [0.0, 0.0, 0.0], [0.3, -1.5, 1.0]])
    nuclei, parameters, g = setting(numbers, coords)
    swapped = nuclei_of(numbers, nuclei.coords[jnp.array([2, 1, 0])])
    points = spheres(g)[::7].reshape(-1, 3)
    one = SMALL.functions_on(parameters, nuclei, points).reshape(len(points), 3, -1)
    two = SMALL.functions_on(parameters, swapped, points).reshape(len(points), 3, -1)
    np.testing.assert_allclose(one[:, [2, 1, 0]], two, atol=1e-14)


def test_the_span_of_the_functions_turns_with_the_molecule() -> None:
    nuclei, parameters, g = setting(*LIH)
    turn = rotation(jax.random.key(11))
    turned = replace(nuclei, coords=nuclei.coords @ turn)
    points = spheres(g)[::9].reshape(-1, 3)
    one = SMALL.functions_on(parameters, nuclei, points)
    two = SMALL.functions_on(parameters, turned, points @ turn)
    np.testing.assert_allclose(one[:, :3], two[:, :3], atol=1e-13)  # s
    p = [np.asarray(x.reshape(len(points), 2, 6)[:, 0, 3:]) for x in (one, two)]
    np.testing.assert_allclose((p[0] ** 2).sum(1), (p[1] ** 2).sum(1), atol=1e-13)


def test_gradients_of_functions_are_their_derivatives() -> None:
    nuclei, parameters, g = setting(*LIH)
    points = spheres(g)[12]
    values = SMALL.values(parameters, nuclei, points)
    h = 1e-5
    for k in range(3):
        step = h * np.eye(3)[k]
        up, down = (SMALL.functions_on(parameters, nuclei, points + s * step) for s in (1, -1))
        np.testing.assert_allclose(values[1 + k], (up - down) / (2 * h), atol=1e-7)


CLOSED, OPEN = [[2.0, 2.0]], [[1.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("xc", "rows"),
    [
        pytest.param("pbe0", CLOSED, id="PBE0"),
        pytest.param("tpss", OPEN, id="TPSS"),
        pytest.param("hf", CLOSED, id="HF"),
        pytest.param(LOCAL_HYBRID, OPEN, id="local hybrid"),
        pytest.param(LOCAL_HYBRID, CLOSED, id="local hybrid, closed", marks=pytest.mark.slow),
    ],
)
def test_the_gradient_is_the_expectation_value_of_the_fock_operator(xc, rows: list) -> None:
    """dE/dtheta = 2 sum_i f_i <d phi_i/dtheta| F |phi_i>, with orbitals orthonormal for every theta."""
    xc, f = dqc.functional(xc) if isinstance(xc, str) else xc, jnp.asarray(rows)
    nuclei, parameters, g = setting(*LIH)
    C = jax.random.normal(jax.random.key(3), (len(rows), 2 * SMALL.functions, 2), float)
    direction = jax.tree.map(lambda x: jax.random.normal(jax.random.key(4), x.shape, float), parameters)

    def orbitals(p):
        psi = orbitals_on(Orbitals(p, nuclei, C, f, SMALL), g)
        S = on_points(g, psi, f).overlap
        return jnp.einsum("bdck,ski->bdcsi", psi, orthonormal(S, len(rows))).reshape(*psi.shape)

    psi, change = jax.jvp(orbitals, (parameters,), (direction,))
    k = psi.shape[-1]
    system = on_points(g, jnp.concatenate([psi, change], axis=-1), f)
    own = jnp.eye(2 * k)[:, :k].reshape(2 * k, len(rows), 2).transpose(1, 0, 2)
    F, terms = fock(system, xc, own, f, system.grid)
    expected = 2.0 * jnp.einsum("si,ski,ski->", f, own, F @ jnp.roll(own, k, axis=1))
    energy, gradient = slope(Orbitals(parameters, nuclei, C, f, SMALL), g, xc)
    found = sum(
        jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert float(energy) == pytest.approx(float(terms.total), abs=1e-10)
    assert float(found) == pytest.approx(float(expected), abs=1e-10, rel=1e-10)
    assert abs(float(found)) > 0.1


@pytest.mark.parametrize("rows", [CLOSED, OPEN], ids=["closed", "open"])
def test_exact_exchange_by_its_energy_density_is_exact_exchange(rows: list) -> None:
    """Energy and Fock matrix; by another path through the Poisson solver."""
    nuclei, parameters, g = setting(*LIH)
    f = jnp.asarray(rows)
    C = jax.random.normal(jax.random.key(3), (len(rows), 2 * SMALL.functions, 2), float)
    system = on_points(g, orbitals_on(Orbitals(parameters, nuclei, C, f, SMALL), g), f)
    own = orthonormal(system.overlap, len(rows))
    (F, E), (expected, theirs) = (fock(system, xc, own, f, system.grid) for xc in (ALL, dqc.functional("hf")))
    assert float(E.xc) == pytest.approx(float(theirs.exact_exchange), abs=1e-12)
    occupied = own * (f > 0)[:, None]
    np.testing.assert_allclose(F @ occupied, expected @ occupied, atol=1e-11)


def test_a_local_hybrid_has_no_self_interaction() -> None:
    """Whatever its networks say, and the basis-set limit of the H atom is -1/2 hartree."""
    atom, network = dqc.Molecule(["H"], [[0.0, 0.0, 0.0]], spin=1), Neural(shells=(3,), hidden=(6,))
    sol = dqc.minimise(atom, LOCAL_HYBRID, orbitals=network, grid=1, steps=3)
    assert float(sol.energy) == pytest.approx(-0.5, abs=1e-6)
    assert abs(float(sol.energies.xc + sol.energies.coulomb)) < 1e-9 < 0.1 < float(sol.energies.coulomb)


def test_energies_of_a_batch_are_those_of_its_molecules() -> None:
    xc, f = dqc.functional("pbe"), jnp.asarray([[2.0]])
    coords = jnp.asarray([[[0.0, 0, 0], [0, 0, R]] for R in (1.3, 1.6)])
    nuclei, parameters, g = setting((1, 1), coords[0])
    C = jnp.zeros((1, 2 * SMALL.functions, 1)).at[0, 2, 0].set(1.0).at[0, 2 + SMALL.functions, 0].set(1.0)

    def energy(coords):
        moved = replace(nuclei, coords=coords)
        orbitals = Orbitals(parameters, moved, C, f, SMALL)
        return expectation(orbitals, placed(g, coords, jnp.eye(3)), xc).total

    np.testing.assert_allclose(jax.vmap(energy)(coords), [energy(x) for x in coords], atol=1e-11)


def test_steps_of_a_batch_are_those_of_its_molecules() -> None:
    molecules = [dqc.Molecule.from_string(f"H 0 0 0; H 0 0 {R}", unit="bohr") for R in (1.3, 1.6)]
    started = [prepare(molecule, PBE, NETWORK, 1, seed=0) for molecule in molecules]

    def advanced(problem, state):
        return turned(problem, step(problem, state))

    problem, state = jax.tree.map(lambda *x: jnp.stack(x), *started)
    together = jax.vmap(advanced)(problem, state)
    for k, (problem, state) in enumerate(started):
        alone = advanced(problem, state)
        assert float(alone.energy) < float(state.energy) - 1e-4
        np.testing.assert_allclose(together.energy[k], alone.energy, rtol=0, atol=1e-9)


def test_single_precision_in_the_perceptron() -> None:
    xc, f = dqc.functional("pbe"), jnp.asarray([[2.0, 2.0]])
    nuclei, parameters, g = setting(*LIH)
    C = jax.random.normal(jax.random.key(3), (1, 2 * SMALL.functions, 2), float)
    one, two = (
        expectation(Orbitals(parameters, nuclei, C, f, SMALL._replace(precision=p)), g, xc).total
        for p in ("float64", "float32")
    )
    assert 1e-12 < abs(float(one - two)) < 1e-5


@pytest.fixture(scope="module")
def hydrogen():
    return dqc.minimise(H2, PBE, orbitals=NETWORK, grid=1, steps=9)


def test_hydrogen_molecule(hydrogen) -> None:
    sol = hydrogen
    assert float(sol.energy) == pytest.approx(-1.1666914700, abs=2e-4)  # HelFEM
    assert float(sol.history.energy[-1]) <= float(sol.history.energy[0])
    assert 0 < float(sol.energy_error) < 2e-5
    assert float(sol.energies.total) == pytest.approx(float(sol.energy), abs=1e-12)
    np.testing.assert_allclose(sol.overlap(), np.eye(1)[None], atol=1e-5)
    assert float(sol.mo_energy[0, 0]) == pytest.approx(-0.3815, abs=2e-3)


def test_orbitals_and_density_on_points(hydrogen) -> None:
    sol = hydrogen
    points = sol.grid.points.reshape(-1, 3)
    rho = sol.density(points)
    assert rho.shape == (1, len(points))
    assert sol.orbital(points[:5]).shape == (1, 5, 1)
    assert float(rho[0] @ sol.grid.weights.reshape(-1)) == pytest.approx(2.0, abs=2e-5)
    mirrored = sol.density(jnp.asarray([[0.2, 0.1, -0.3], [0.2, 0.1, 1.7]]))[0]
    assert float(mirrored[0]) == pytest.approx(float(mirrored[1]), rel=1e-4)


def test_gradient_of_the_minimum_by_the_functional(hydrogen) -> None:
    """Hellmann-Feynman against energies minimised anew."""
    xc = dqc.functional("pbe", trainable=("mu",))
    slope = jax.grad(lambda xc: dqc.orbitals.energy(hydrogen, xc))(xc).trained["mu"]
    h = 0.02
    up, down = (
        dqc.minimise(H2, replace(xc, trained={"mu": xc.trained["mu"] + s * h}),
                     orbitals=NETWORK, grid=1, steps=9).energy
        for s in (1, -1)
    )  # fmt: skip
    assert float(slope) == pytest.approx(float(up - down) / (2 * h), rel=1e-2)
    assert float(slope) < -1e-3


def test_forces_are_derivatives_of_the_energy(hydrogen) -> None:
    sol = hydrogen
    F = dqc.orbitals.forces(sol, PBE)
    h = 1e-3

    def energy(z):
        coords = sol.nuclei.coords.at[1, 2].add(z)
        moved = replace(
            sol, nuclei=replace(sol.nuclei, coords=coords), grid=placed(sol.grid, coords, jnp.eye(3))
        )
        return float(dqc.orbitals.energy(moved, PBE))

    assert float(F[1, 2]) == pytest.approx(-(energy(h) - energy(-h)) / (2 * h), abs=1e-6)
    np.testing.assert_allclose(F.sum(0), 0.0, atol=1e-4)


def test_first_order_steps_descend() -> None:
    sol = dqc.minimise(H2, PBE, orbitals=NETWORK, grid=1, steps=5, optimizer=optax.adam(0.02))
    assert int(sol.iterations) == 5
    assert not bool(sol.converged)
    assert -1.1666914700 < float(sol.energy) < float(sol.history.energy[0]) - 1e-4


@pytest.mark.slow
def test_steps_go_on_from_a_state() -> None:
    """Of an open shell, with a functional that is itself a network."""
    lithium = dqc.Molecule(["Li"], [[0, 0, 0]])
    problem, start = prepare(lithium, dqc.neural("pbe"), Neural((5,), (6,)), 1, 0)
    states = list(descend(problem, start, 4, 1e-12))
    through = finish(problem, states[-1])
    *_, last = descend(problem, states[2], 4, 1e-12)
    again = finish(problem, last)
    assert int(states[2].step) == 2
    assert float(states[1].damping) < float(states[0].damping)  # the energy fell as the quadratic model said
    np.testing.assert_allclose(again.energy, through.energy, atol=1e-12)
    np.testing.assert_allclose(again.history.energy, through.history.energy, atol=1e-12)
    assert through.mo_coeff.shape[0] == 2
    assert float(through.energy) == pytest.approx(
        -7.462174613, abs=2e-4
    )  # of PBE, from which the network starts


@pytest.mark.parametrize(
    ("what", "options", "sentence"),
    [
        (H2, {}, "needs orbitals="),
        (H2, {"orbitals": "mlp"}, "needs orbitals="),
        (H2, {"orbitals": SMALL, "grid": 9}, "grid=9 is not one of 1, 2, 3, 4"),
        (H2, {"orbitals": SMALL, "steps": 0}, "steps=0"),
        (H2, {"orbitals": SMALL, "smearing": 0.1}, "smearing cannot be given"),
        (dqc.Molecule(["Ag"], [[0, 0, 0]]), {"orbitals": SMALL}, "up to krypton"),
        ("H2", {"orbitals": SMALL}, "str given"),
    ],
)
def test_bad_input(what, options, sentence, unchecked_types) -> None:
    with pytest.raises(ValueError, match=sentence):
        dqc.minimise(what, dqc.functional("pbe"), **options)


LIMITS = {("He", "hf"): -2.861679996, ("Be", "pbe"): -14.629945521, ("Li", "hf"): -7.432750921}


@pytest.mark.slow
@pytest.mark.parametrize(("atom", "xc"), LIMITS)
def test_atoms_at_the_limit(atom: str, xc: str) -> None:
    sol = dqc.minimise(dqc.Molecule([atom], [[0, 0, 0]]), dqc.functional(xc), orbitals=Neural())
    assert float(sol.energy) == pytest.approx(LIMITS[atom, xc], abs=5e-5)
    assert float(sol.energy) > LIMITS[atom, xc] - float(sol.energy_error) - 1e-8
