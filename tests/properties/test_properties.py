"""Properties of given density matrices against PySCF's; no self-consistent field of ours is run."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.properties.dipole import dipole
from dqc.properties.frontier import frontier
from dqc.properties.spin_square import spin_square

pyscf_scf = pytest.importorskip("pyscf.scf")
gto = pytest.importorskip("pyscf.gto")


def solution(**fields: Any) -> dqc.Solution:
    """A solution of which only some fields are known."""
    names = dqc.Solution.__dataclass_fields__
    return dqc.Solution(**{name: fields.get(name) for name in names})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[(0, 1), (-1, 0), (1, 2)], ids=["OH", "OH-", "OH+"])
def peer(request: pytest.FixtureRequest) -> Any:
    charge, spin = request.param
    mol = gto.M(
        atom="O 0 0.2 0.1; H 0.3 0 1.9", unit="bohr", charge=charge, spin=spin, basis="6-31g", verbose=0
    )
    return (pyscf_scf.UHF if spin else pyscf_scf.RHF)(mol).run()


def ours(peer: Any) -> tuple[dqc.System, dqc.Solution]:
    system = dqc.build(dqc.Molecule.from_pyscf(peer.mol), basis="6-31g", xc=dqc.functional("hf"))
    P = jnp.asarray(peer.make_rdm1()).reshape(-1, *system.overlap.shape)
    return system, solution(density_matrix=P)


def test_dipole(peer: Any) -> None:
    np.testing.assert_allclose(dipole(*ours(peer)), peer.dip_moment(unit="AU", verbose=0), atol=1e-10)


def test_spin_square(peer: Any) -> None:
    assert float(spin_square(*ours(peer))) == pytest.approx(peer.spin_square()[0], abs=1e-10)


def levels(mo_energy: list, occupations: list) -> list[float]:
    found = frontier(solution(mo_energy=jnp.array(mo_energy), occupations=jnp.array(occupations)))
    return [float(found.homo), float(found.lumo), float(found.gap)]


def test_frontier() -> None:
    assert levels([[-2.0, -1.0, 0.5]], [[2.0, 2.0]]) == [-1.0, 0.5, 1.5]
    assert levels([[-2.0, -1.0, 0.5], [-1.8, -0.5, 0.75]], [[1.0, 1.0], [1.0, 0.0]]) == [-1.0, -0.5, 0.5]
    assert levels([[-2.0, -1.0, 0.5]], [[1.9, 1.2, 0.9]]) == [-1.0, 0.5, 1.5]
    assert levels([[-2.0]], [[2.0]]) == [-2.0, np.inf, np.inf]
    assert levels([[-2.0, 1.0], [-2.0, 1.0]], [[1.0], [0.0]]) == [-2.0, -2.0, 0.0]
