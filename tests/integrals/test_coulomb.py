"""J and K, fitted and exact, against PySCF's, for density matrices of no special kind."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import df, scf

import dqc
from dqc.basis import auxiliary_mole, pyscf_mole
from dqc.density import density_matrix
from dqc.integrals import coulomb, libcint
from dqc.integrals.coulomb import Exact, Fitted, pack_density, unpack

WATER = dqc.Molecule(["O", "H", "H"], [[0.0, 0.0, 0.22], [0.1, 1.43, -0.89], [0.0, -1.43, -0.89]])
OMEGA = 0.33


@cache
def moles() -> tuple[Any, Any]:
    mole = pyscf_mole(WATER, "def2-svp")
    return mole, auxiliary_mole(mole, "def2-svp", None, exact_exchange=True)


@cache
def tensor(kind: str, omega: float) -> Fitted | Exact:
    mole, auxiliary = moles()
    if kind == "fitted":
        return Fitted(jnp.asarray(omega), jnp.asarray(libcint.fitted(mole, auxiliary, omega)))
    return Exact(jnp.asarray(omega), jnp.asarray(libcint.four_index(mole, omega)))


def theirs(kind: str, omega: float, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mole, auxiliary = moles()
    if kind == "exact":
        with mole.with_range_coulomb(omega or None):
            return scf.hf.get_jk(mole, density, hermi=1)
    fit = df.DF(mole, auxbasis=auxiliary._basis)
    with fit.range_coulomb(omega or None) as ranged:
        return ranged.get_jk(density, hermi=1)


def factors(spins: int, slots: int = 4) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Orbitals and weights of both signs."""
    n = moles()[0].nao
    rng = np.random.default_rng(spins)
    weights = rng.normal(size=(spins, slots))
    assert weights.min() < 0 < weights.max()
    return jnp.asarray(rng.normal(size=(spins, n, slots))), jnp.asarray(weights)


@pytest.mark.parametrize("omega", [0.0, OMEGA])
@pytest.mark.parametrize("kind", ["fitted", "exact"])
@pytest.mark.parametrize("spins", [1, 2])
def test_coulomb_and_exchange_are_those_of_pyscf(kind: str, omega: float, spins: int) -> None:
    orbitals, weights = factors(spins)
    P = np.asarray(density_matrix(orbitals, weights))
    J, K = theirs(kind, omega, P)
    ours = tensor(kind, omega)
    for s in range(spins):
        np.testing.assert_allclose(ours.coulomb(jnp.asarray(P[s])), J[s], rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(ours.exchange(orbitals, weights), K, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_blocks_do_not_change_the_exchange(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that divide the auxiliary functions evenly or not; by default here, one serves all."""
    orbitals, weights = factors(2)
    fitted = tensor("fitted", 0.0)
    n = orbitals.shape[1]
    assert fitted.factor.shape[0] % 7
    whole = fitted.exchange(orbitals, weights)
    monkeypatch.setattr(coulomb, "BLOCK_BYTES", rows * 8 * n * n)
    np.testing.assert_allclose(fitted.exchange(orbitals, weights), whole, rtol=1e-11, atol=1e-11)


def test_fitting_is_close_to_exact() -> None:
    mole, _ = moles()
    C = jnp.linalg.eigh(jnp.asarray(mole.intor("int1e_kin") + mole.intor("int1e_nuc")))[1][None, :, :5]
    f = jnp.ones((1, 5))
    P = density_matrix(C, f)[0]
    for name in ("coulomb", "exchange"):
        a, b = (
            jnp.vdot(P, t.coulomb(P) if name == "coulomb" else t.exchange(C, f)[0])
            for t in (tensor("fitted", 0.0), tensor("exact", 0.0))
        )
        np.testing.assert_allclose(a, b, rtol=1e-4)
        assert abs(float(a - b)) > 1e-9


def test_packing() -> None:
    rng = np.random.default_rng(0)
    A, P = rng.normal(size=(2, 5, 5))
    A = A + A.T
    packed = jnp.asarray(A[np.tril_indices(5)])
    np.testing.assert_array_equal(unpack(packed, 5), A)
    np.testing.assert_array_equal(unpack(jnp.stack([packed, 2 * packed]), 5), [A, 2 * A])
    np.testing.assert_allclose(packed @ pack_density(jnp.asarray(P)), np.vdot(A, P), rtol=1e-13)


def test_the_fitted_tensor_is_the_projection_of_the_exact_one() -> None:
    """B^T B = (pq|P) M^(-1) (P|rs)."""
    mole, auxiliary = moles()
    B = libcint.fitted(mole, auxiliary)
    metric = auxiliary.intor("int2c2e")
    three = df.incore.aux_e2(mole, auxiliary, "int3c2e", aosym="s2ij")
    np.testing.assert_allclose(B.T @ B, three @ np.linalg.solve(metric, three.T), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("omega", [0.0, 0.1])
def test_a_singular_metric_loses_rows_but_not_its_shape(omega: float) -> None:
    """Fitting functions so dense that a Cholesky factor does not exist."""
    mole = pyscf_mole(dqc.Molecule(["He"], [[0.0, 0.0, 0.0]]), "def2-tzvp")
    dense = {"He": [[0, [0.3 * 1.05**k, 1.0]] for k in range(40)]}
    auxiliary = auxiliary_mole(mole, "def2-tzvp", dense, exact_exchange=True)
    with auxiliary.with_range_coulomb(omega or None):
        values = np.linalg.eigvalsh(auxiliary.intor("int2c2e"))
    kept = int((values > libcint.METRIC_THRESHOLD).sum())
    assert 0 < kept < 40
    B = libcint.fitted(mole, auxiliary, omega)
    assert B.shape == (40, mole.nao * (mole.nao + 1) // 2)
    assert np.isfinite(B).all()
    assert int((np.abs(B).max(1) > 0).sum()) == kept
    exact = libcint.four_index(mole, omega)
    s = 5  # the pair of the third AO, the most diffuse s function, with itself
    np.testing.assert_allclose(B[:, s] @ B[:, s], exact[s, s], rtol=1e-3)
    # What is dropped was hardly there: a sparser set of functions gives the same tensor.
    sparse = {"He": [[0, [0.3 * 1.5**k, 1.0]] for k in range(6)]}
    again = libcint.fitted(mole, auxiliary_mole(mole, "def2-tzvp", sparse, exact_exchange=True), omega)
    np.testing.assert_allclose(again[:, s] @ again[:, s], B[:, s] @ B[:, s], rtol=1e-3)
