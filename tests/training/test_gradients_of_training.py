"""The gradient of a step of a training, against differences of its loss and across kinds of stages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import scf
from toys import SCF, SYSTEM, bent, bond, descent, flat, gradient, hydrogen, small, trained

import dqc
from dqc.basis import pyscf_mole
from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.data import Density, Labels, Reaction, Reactions
from dqc.energy import energies
from dqc.training import Loss
from dqc.training.systems import cached
from dqc.training.terms import stationarity
from dqc.types import replace

ATOMS = {  # two of one bucket, the smaller with ghosts, and an open shell; bent, so that no symmetry helps
    "CH2O": dqc.Molecule.from_string("C 0 0 0; O 0.1 0 1.205; H 0.9428 0 -0.5877; H -0.9428 0.05 -0.5877"),
    "HF": dqc.Molecule.from_string("H 0 0 0; F 0.1 0.2 0.9"),
    "CN": dqc.Molecule.from_string("C 0 0 0; N 0.2 0.1 1.17", spin=1),
}
STEP = 0.02


def kinetic(system: dqc.System, xc: dqc.Functional, field: dqc.Solution, label: None) -> jax.Array:
    """A term of one's own: the kinetic energy."""
    return jnp.einsum("pq,spq->", system.kinetic, field.density_matrix) ** 2


@pytest.fixture(scope="module")
def labelled() -> Reactions:
    """Labels that are off, of some of the molecules each, and reactions between all."""
    densities = {}
    for name in ("HF", "CN"):
        mole = pyscf_mole(ATOMS[name], "sto-3g")
        P = scf.UHF(mole).run(verbose=0).make_rdm1()
        densities[name] = Density(np.asarray(P), "sto-3g")
    labels = {
        "CH2O": Labels(dipole=np.array([0.1, 0.2, -0.7]), ionisation=0.3, forces=np.full((4, 3), 0.02)),
        "HF": Labels(dipole=np.array([0.1, 0.2, -0.3]), density=densities["HF"]),
        "CN": Labels(ionisation=0.4, density=densities["CN"], forces=np.full((2, 3), 0.02)),
    }
    reactions = (
        Reaction("a", ("CH2O", "HF"), (1.0, -1.15), 0.0),
        Reaction("b", ("CN", "CH2O"), (1.0, -0.8), 0.0),
    )
    return Reactions("small", ATOMS, reactions, labels)


def slopes(data: Reactions, loss: Loss, weights: dict[str, float]) -> None:
    """The derivative along two directions, against differences of the loss, in one ensemble."""
    xc, rng = bent(xc=dqc.neural("pbe", hidden=(4,)), size=0.15), np.random.default_rng(1)
    directions = [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), xc) for _ in range(2)]
    places = (-2, -1, 1, 2)
    members = [xc] + [
        jax.tree.map(lambda x, d, k=k: x + k * STEP * d, xc, d) for d in directions for k in places
    ]
    found = trained(
        members, data, descent("in-scf", rate=1e-6), loss, basis="sto-3g", grid=0, growth=10.0, scf=SCF
    )
    (record,) = found.history
    assert not record["failed"]
    assert record["skipped"] == 0
    step = (flat(xc) - flat(found.functionals[0])) / 1e-6
    for number, direction in enumerate(directions):

        def differences(values: list[float], number: int = number) -> tuple[float, float]:
            """Of second order, and with the error of that order extrapolated away."""
            f = dict(zip(places, values[1 + 4 * number : 5 + 4 * number], strict=True))
            near, far = ((f[k] - f[-k]) / (2 * k * STEP) for k in (1, 2))
            return near, (4 * near - far) / 3

        near, best = differences(record["loss"])
        parts = {name: w * differences(record["terms"][name])[1] for name, w in weights.items()}
        assert min(map(abs, parts.values())) > 1e-2 * abs(best), parts  # every part of the loss is tested
        # The next order that is left of a difference, by the one that was taken away.
        assert step @ flat(direction) == pytest.approx(best, rel=1e-5, abs=0.05 * abs(near - best))


WEIGHTS = {
    "energy": 1e-5,
    "dipole": 4.0,
    "ionisation": 0.1,
    "density": 1500.0,
    "kinetic": 0.1,
    "one_electron": 8.0,
}


def test_the_gradient_of_a_whole_step(labelled: Reactions) -> None:
    parts = {name: WEIGHTS[name] for name in ("energy", "dipole", "ionisation", "density")}
    penalties, own = {"one_electron": WEIGHTS["one_electron"]}, {"kinetic": (WEIGHTS["kinetic"], kinetic)}
    slopes(labelled, Loss(**parts, penalties=penalties, own=own), WEIGHTS)


@pytest.mark.slow
def test_the_gradient_of_forces(labelled: Reactions) -> None:
    slopes(labelled, Loss(energy=0.0, forces=1.0), {"forces": 1.0})


def system(molecule: dqc.Molecule) -> dqc.System:
    return cached(molecule, small(), two_electron="df", auxbasis=None, **SYSTEM)


def by_scf(xc: dqc.Functional, data: Reactions) -> np.ndarray:
    """The gradient of the mean square error of reactions, by the derivatives of dqc.scf."""
    of = {name: system(molecule) for name, molecule in data.molecules.items()}

    @jax.jit
    def loss(xc: dqc.Functional, systems: dict[str, dqc.System]) -> jax.Array:
        E = {name: dqc.scf(system, xc, **SCF).energy for name, system in systems.items()}
        errors = [
            HARTREE_IN_KCAL_PER_MOL
            * (sum(c * E[n] for n, c in zip(r.molecules, r.coefficients, strict=True)) - r.value)
            for r in data.reactions
        ]
        return jnp.mean(jnp.stack(errors) ** 2)

    return flat(jax.jit(jax.grad(loss))(xc, of))


def test_every_kind_of_stage_begins_with_the_gradient_of_the_self_consistent_energy() -> None:
    """Fixed fields are those of the functional that the stage begins with: its first gradient is exact.

    At orbitals with a residual r the derivative at fixed orbitals is off by a multiple of r, 1e-9 here.
    """
    xc, data = bent(), hydrogen("H2", "H2 far")
    expected = by_scf(xc, data)
    scale = np.abs(expected).max()
    assert scale > 1.0
    for kind in ("in-scf", "post-scf", "alternating"):
        np.testing.assert_allclose(
            gradient(xc, data, kind), expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max()
        )


def test_alternating_fields_are_refreshed_and_post_scf_ones_are_not() -> None:
    """The gradient after two steps: in-SCF's where the fields have just been solved, another where not."""
    xc, data, rate = bent(), hydrogen("H2", "H2 far"), 3e-6
    slopes = {}
    for kind, refresh in (("alternating", 2), ("alternating", 3), ("post-scf", 2)):
        two, three = (
            trained(xc, data, descent(kind, epochs, rate, refresh=refresh)).functional for epochs in (2, 3)
        )
        slopes[kind, refresh] = (flat(two) - flat(three)) / rate, gradient(two, data, "in-scf")
    scale = np.abs(slopes["alternating", 2][1]).max()
    stale, exact = slopes["alternating", 3]
    np.testing.assert_allclose(*slopes["alternating", 2], rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_array_equal(stale, slopes["post-scf", 2][0])
    assert np.abs(stale - exact).max() > 1e-5 * scale  # so that the first comparison says something


def lost(field: dqc.Solution, system: dqc.System, xc: dqc.Functional) -> tuple[float, float]:
    """The energy that a field loses by becoming self-consistent, and its estimate, kcal/mol."""
    fixed = energies(system, xc, field.mo_coeff[:, :, : field.occupations.shape[1]], field.occupations).total
    end = dqc.scf(system, xc, guess=field.density_matrix, tolerance=1e-9)
    assert bool(end.converged)
    return float(fixed - end.energy) * HARTREE_IN_KCAL_PER_MOL, float(stationarity(system, xc, field))


@pytest.mark.parametrize("spin", [0, 2])
def test_stationarity_is_the_energy_lost_where_the_potential_does_not_follow(spin: int) -> None:
    """Electrons that do not see one another, in a field: perturbation theory of second order is exact."""
    molecule = dqc.Molecule(["H", "He", "H"], [[0, 0, 0], [0, 0.3, 1.7], [0, 0.2, 3.6]], spin=spin)
    hf = dqc.functional("hf")
    system = dqc.build(molecule, "6-31g", hf, two_electron="exact")
    free = replace(system, repulsion=jax.tree.map(jnp.zeros_like, system.repulsion))
    field = dqc.scf(free, hf, tolerance=1e-10)
    ratios = []
    for strength in (1e-3, 5e-4, 2.5e-4):
        moved = dqc.in_field(free, jnp.asarray([0.0, 0.3, 1.0]) * strength)
        true, estimate = lost(field, moved, hf)
        assert true > 1e-6  # the energies' own errors are below 1e-9
        ratios.append(estimate / true - 1.0)
    assert abs(ratios[2]) < abs(ratios[1]) < abs(ratios[0])
    first = 2 * ratios[1] - ratios[0], 2 * ratios[2] - ratios[1]  # the next order extrapolated away
    assert (4 * first[1] - first[0]) / 3 == pytest.approx(0.0, abs=1e-4)


def test_stationarity_of_a_changed_functional() -> None:
    """It falls with the square of the change, and so does the energy lost, which is smaller."""
    h2, old, new = system(bond(1.4)), small(), bent()
    field = dqc.scf(h2, old, tolerance=1e-10)
    assert float(stationarity(h2, old, field)) < 1e-12
    found = []
    for share in (0.04, 0.02, 0.01):
        xc = jax.tree.map(lambda a, b, share=share: a + share * (b - a), old, new)
        found.append(lost(field, h2, xc))
    (true, estimate), (half, half_estimate), (quarter, quarter_estimate) = found
    assert estimate / half_estimate == pytest.approx(4.0, rel=0.1)
    ratios = [true / estimate, half / half_estimate, quarter / quarter_estimate]
    assert abs(ratios[2] - ratios[1]) < abs(ratios[1] - ratios[0]) < 0.02
    assert 0.3 < ratios[2] < 1.0
