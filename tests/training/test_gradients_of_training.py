"""The gradient of a step of a training, against differences of its loss and across kinds of stages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import scf
from toys import SCF, bent, descent, flat, trained

import dqc
from dqc.basis import pyscf_mole
from dqc.data import Density, Labels, Reaction, Reactions
from dqc.training import Loss

ATOMS = {  # two of one bucket, the smaller with ghosts, and an open shell; bent, so that no symmetry helps
    "CH2O": dqc.Molecule.from_string("C 0 0 0; O 0.1 0 1.205; H 0.9428 0 -0.5877; H -0.9428 0.05 -0.5877"),
    "HF": dqc.Molecule.from_string("H 0 0 0; F 0.1 0.2 0.9"),
    "CN": dqc.Molecule.from_string("C 0 0 0; N 0.2 0.1 1.17", spin=1),
}
LABELS = {"dipole", "ionisation", "density", "kinetic"}
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
    xc, rng = bent(size=0.15), np.random.default_rng(1)
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
        print(step @ flat(direction), best, near, parts)
        assert min(map(abs, parts.values())) > 1e-2 * abs(best), parts  # every part of the loss is tested
        # The next order that is left of a difference, by the one that was taken away.
        assert step @ flat(direction) == pytest.approx(best, rel=1e-5, abs=0.05 * abs(near - best))


def test_the_gradient_of_a_whole_step(labelled: Reactions) -> None:
    weights = {
        "energy": 1e-6,
        "dipole": 1.0,
        "ionisation": 0.3,
        "density": 30.0,
        "kinetic": 0.01,
        "one_electron": 1.0,
    }
    loss = Loss(
        energy=weights["energy"],
        dipole=weights["dipole"],
        ionisation=weights["ionisation"],
        density=weights["density"],
        penalties={"one_electron": weights["one_electron"]},
        own={"kinetic": (weights["kinetic"], kinetic)},
    )
    slopes(labelled, loss, weights)
