"""Spherical harmonics, atomic quadratures and the Poisson solver against closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyscf import gto, scf
from scipy.special import erf, eval_legendre, sph_harm_y

from dqc.orbitals import poisson
from dqc.orbitals.field import on_points
from dqc.orbitals.harmonics import solid_harmonics
from dqc.orbitals.quadrature import attenuated_kernel, node_of, placed, quadrature, radius, rotation

TWO = np.array([[0.0, 0.0, 0.0], [0.3, -0.4, 2.0]])


def grid(coords, numbers, level):
    g = quadrature(coords, numbers, level)
    return placed(g, g.coords, rotation(jax.random.key(7)))


def test_solid_harmonics_are_scipys() -> None:
    r = np.random.default_rng(0).normal(size=(40, 3))
    ours = np.asarray(solid_harmonics(9, jnp.asarray(r)))
    length = np.linalg.norm(r, axis=1)
    for l in range(10):
        for m in range(l + 1):
            theirs = (
                (-1) ** m
                * length**l
                * sph_harm_y(l, m, np.arccos(r[:, 2] / length), np.arctan2(r[:, 1], r[:, 0]))
            )
            np.testing.assert_allclose(
                ours[:, l * l + l + m], theirs.real * (2**0.5 if m else 1), atol=1e-11 * 9**l
            )
            if m:
                np.testing.assert_allclose(ours[:, l * l + l - m], theirs.imag * 2**0.5, atol=1e-11 * 9**l)


def test_solid_harmonics_are_smooth_at_the_origin() -> None:
    slope = jax.jacfwd(lambda r: solid_harmonics(3, r))(jnp.zeros(3))
    np.testing.assert_allclose(
        slope[1:4], np.sqrt(3 / (4 * np.pi)) * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    )
    assert np.abs(np.delete(slope, [1, 2, 3], axis=0)).max() == 0


def test_the_node_of_a_radius_is_the_inverse() -> None:
    t = np.linspace(-2.3, 3.4, 200)
    np.testing.assert_allclose(node_of(radius(jnp.asarray(t))), t, atol=1e-12)


@pytest.mark.parametrize("z", [1, 7, 10])
def test_hydrogenic_densities(z: int) -> None:
    """One electron, <1/r> = Z and E_H = 5 Z / 16."""
    g = grid(np.zeros((1, 3)), (z,), 2)
    n = z**3 / np.pi * jnp.exp(-2 * z * g.distance)[:, :, None] * jnp.ones_like(g.share)
    assert float((g.weights * n).sum()) == pytest.approx(1.0, abs=1e-12)
    assert float((g.weights * n / g.distance[:, :, None]).sum()) == pytest.approx(z, rel=1e-8)
    assert float(poisson.hartree(g, n)) == pytest.approx(5 * z / 16, rel=1e-6)


def gaussians(g, exponents=(0.6, 2.3)):
    """Normalised Gaussian charges on the two atoms, and their potentials."""
    rho, V = [], []
    for center, a in zip(TWO, exponents, strict=True):
        r = jnp.linalg.norm(g.points - center, axis=-1)
        rho.append((a / np.pi) ** 1.5 * jnp.exp(-a * r**2))
        V.append(erf(np.sqrt(a) * np.asarray(r)) / r)
    return rho, V


@pytest.mark.parametrize(
    ("level", "pointwise", "energy"), [(1, 4e-4, 1e-5), (2, 2e-4, 3e-6), (4, 1e-5, 5e-8)]
)
def test_two_gaussian_charges(level: int, pointwise: float, energy: float) -> None:
    g = grid(TWO, (7, 7), level)
    (one, two), V = gaussians(g)
    rho = one + two
    found = poisson.potential(g, rho[None])[0]
    np.testing.assert_allclose(found, V[0] + V[1], atol=pointwise)
    R, a = np.linalg.norm(TWO[1]), 0.6 * 2.3 / 2.9
    exact = np.sqrt(0.6 / (2 * np.pi)) + np.sqrt(2.3 / (2 * np.pi)) + erf(np.sqrt(a) * R) / R
    assert float(poisson.hartree(g, rho)) == pytest.approx(exact, abs=energy)


def test_the_attenuated_kernel_is_the_projection_of_the_operator() -> None:
    cosine, weight = np.polynomial.legendre.leggauss(200)
    r, s, omega = np.array([[1e-4], [0.3], [2.0], [9.0]]), np.array([2e-5, 0.4, 2.1, 25.0]), 0.4
    R = np.sqrt(r[..., None] ** 2 + s[:, None] ** 2 - 2 * r[..., None] * s[:, None] * cosine)
    values = weight * erf(omega * R) / R
    found = attenuated_kernel(5, r, s, omega)
    for l in range(6):
        expected = (2 * l + 1) / 2 * (values * eval_legendre(l, cosine)).sum(-1)
        np.testing.assert_allclose(found[l], expected, rtol=1e-9, atol=1e-13)


def test_potentials_under_attenuated_operators() -> None:
    g = quadrature(TWO, (1, 7), 2, (0.3, 0.5))
    g = placed(g, g.coords, rotation(jax.random.key(7)))
    rho, _ = gaussians(g)
    operators = g.operators()
    assert [float(omega) for omega, _ in operators] == [0.0, 0.3, 0.5]
    for omega, h in operators[1:]:
        found = poisson.potential(h, jnp.stack(rho))
        for V, center, a in zip(found, TWO, (0.6, 2.3), strict=True):
            r = np.linalg.norm(g.points - center, axis=-1)
            k = np.sqrt(a * omega**2 / (a + omega**2))
            np.testing.assert_allclose(V, erf(k * r) / r, atol=5e-5)


def test_the_weighted_potential_is_the_derivative_of_the_energy_and_symmetric() -> None:
    g = grid(TWO, (7, 7), 0)
    (one, two), _ = gaussians(g)
    V = poisson.weighted_potential(g, jnp.stack([one, two]))
    np.testing.assert_allclose(V[0], jax.grad(lambda rho: poisson.hartree(g, rho))(one), atol=1e-12)
    assert float(jnp.vdot(two, V[0])) == pytest.approx(float(jnp.vdot(one, V[1])), abs=1e-13)
    raw = poisson.potential(g, jnp.stack([one, two])) * g.weights
    assert abs(float(jnp.vdot(two, raw[0]) - jnp.vdot(one, raw[1]))) > 1e-8  # which the rule has mended


def test_asymmetry_falls_with_the_grid() -> None:
    lacking = []
    for level in (0, 1, 3):
        g = grid(TWO, (7, 7), level)
        lacking.append(float(poisson.asymmetry(g, sum(gaussians(g)[0]))))
    assert lacking[0] > 10 * lacking[1] > 100 * lacking[2] > 0


def test_long_range_exchange_is_libcints() -> None:
    mole = gto.M(atom="Li 0.1 0 0; H 0.4 -0.3 2.9", unit="bohr", basis="sto-3g", verbose=0)
    C = scf.RHF(mole).run().mo_coeff[:, :2]
    g = quadrature(mole.atom_coords(), (3, 1), 3, (0.4,))
    a, w, u = g.weights.shape
    values = mole.eval_gto("GTOval_sph_deriv1", np.asarray(g.points).reshape(-1, 3))
    values = jnp.asarray(values).reshape(4, a * w, u, -1).transpose(1, 0, 2, 3)
    short, long = on_points(g, values, jnp.full((1, 2), 2.0)).repulsion
    with mole.with_range_coulomb(0.4):
        attenuated = scf.hf.get_jk(mole, C @ C.T)[1]
    for operator, expected in ((short, scf.hf.get_jk(mole, C @ C.T)[1]), (long, attenuated)):
        K = operator.exchange(jnp.asarray(C)[None], jnp.ones((1, 2)))[0]
        np.testing.assert_allclose(C.T @ K @ C, C.T @ expected @ C, rtol=0, atol=2e-6)
