"""Self-interaction of one electron: analytic electrostatics, and errors of known functionals."""

from __future__ import annotations

from math import pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dqc
from dqc.losses import (
    gaussian,
    hydrogenic,
    one_electron,
    orbital_potential,
    orbital_self_interaction,
    self_interaction,
)

COULOMB = {"1s": 5 / 16, "2s": 77 / 1024, "2p": 501 / 5120}
ERRORS = {  # mHa: E_xc + E_H of hydrogen polarised, and with half an electron of each spin
    "lda,pw": (22.28, 58.4),
    "pbe": (0.58, 43.6),
    "blyp": (2.74, 40.1),
    "tpss": (0.0, 43.3),
    "r2scan": (0.0, 49.6),
    "m06l": (-3.55, None),
}


@pytest.mark.parametrize("shell", COULOMB)
@pytest.mark.parametrize("charge", [1.0, 3.0])
def test_electrostatics_of_hydrogenic_densities(shell: str, charge: float) -> None:
    density = hydrogenic(charge, shell)
    assert float(density.weights @ density.rho) == pytest.approx(1.0, abs=1e-12)
    assert float(density.coulomb()) == pytest.approx(COULOMB[shell] * charge, rel=1e-10)
    assert float(density.coulomb(1e5)) == pytest.approx(COULOMB[shell] * charge, rel=1e-7)
    kinetic = charge**2 / (2 if shell == "1s" else 8)
    assert float(density.weights @ density.tau) == pytest.approx(kinetic, rel=1e-10)
    weizsaecker = (density.grad**2).sum(0) / 8
    np.testing.assert_allclose(density.rho * density.tau, weizsaecker, rtol=1e-9, atol=1e-300)


def test_electrostatics_of_a_gaussian() -> None:
    a, omega = 0.7, 0.4
    density = gaussian(a)
    assert float(density.coulomb()) == pytest.approx(sqrt(a / pi), rel=1e-12)
    screened = sqrt(1 / (1 / a + 1 / omega**2) / pi)  # the operator's own width adds to the density's
    assert float(density.coulomb(omega)) == pytest.approx(screened, rel=1e-10)
    assert float(hydrogenic(1.0).coulomb(omega)) < 0.8 * float(hydrogenic(1.0).coulomb())


@pytest.mark.parametrize("name", ERRORS)
def test_self_interaction_of_hydrogen(name: str) -> None:
    xc, atom = dqc.functional(name), hydrogenic(1.0, "1s")
    polarised, halved = ERRORS[name]
    assert 1e3 * float(self_interaction(xc, atom)) == pytest.approx(polarised, abs=0.01)
    if halved is not None:
        assert 1e3 * float(self_interaction(xc, atom, zeta=0.0)) == pytest.approx(halved, abs=0.06)


def test_exact_exchange_has_none_but_for_fractional_spins() -> None:
    hf = dqc.functional("hf")
    for density in (hydrogenic(2.0, "2p"), gaussian(0.3)):
        assert float(self_interaction(hf, density)) == pytest.approx(0.0, abs=1e-14)
        half = float(density.coulomb()) / 2  # the exchange of two halves is half of one electron's
        assert float(self_interaction(hf, density, zeta=0.0)) == pytest.approx(half, rel=1e-12)


def test_uniform_scaling_of_an_error() -> None:
    """Of exchange alone it grows with the charge, whatever the functional."""
    xc = dqc.functional("b88,")
    one, three = (float(self_interaction(xc, hydrogenic(Z, "2s"))) for Z in (1.0, 3.0))
    assert three == pytest.approx(3 * one, rel=1e-7)
    assert abs(one) > 1e-3


def test_the_loss_is_zero_for_exact_exchange_and_its_gradient_is_a_difference() -> None:
    densities = [hydrogenic(1.0, "1s"), hydrogenic(1.0, "2p"), gaussian(0.5)]
    assert float(one_electron(dqc.functional("hf"), densities)) < 1e-28
    xc = dqc.functional("pbe", trainable=("kappa",))
    errors = [float(self_interaction(xc, n) / n.coulomb()) for n in densities]
    value, slope = jax.value_and_grad(one_electron)(xc, densities)
    assert float(value) == pytest.approx(np.mean(np.square(errors)), rel=1e-12)

    def at(kappa: float) -> float:
        return float(one_electron(type(xc)({"kappa": jnp.asarray(kappa)}, xc.recipe), densities))

    assert float(slope.trained["kappa"]) == pytest.approx((at(0.8041) - at(0.8039)) / 2e-4, rel=1e-5)


def test_a_shell_that_is_not_there(unchecked_types: None) -> None:
    with pytest.raises(ValueError, match="'3d' is not one of 1s, 2s, 2p"):
        hydrogenic(1.0, "3d")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cation() -> tuple[dqc.System, jax.Array]:
    """H2+ at 2 bohr, with the orbital of exact exchange."""
    molecule = dqc.Molecule(["H", "H"], [[0, 0, 0], [0, 0, 2.0]], charge=1, spin=1)
    system = dqc.build(molecule, "cc-pvdz", two_electron="exact", grid=3)
    return system, dqc.scf(system, dqc.functional("hf")).mo_coeff[0, :, 0]


def test_molecular_orbitals(cation) -> None:
    """E_xc + E_H on the orbital, against PySCF; by the matrix form v_H + v_xc vanishes for exact exchange."""
    from pyscf import dft, gto

    system, c = cation
    hf, pbe = dqc.functional("hf"), dqc.functional("pbe")
    assert float(orbital_self_interaction(system, hf, c)) == pytest.approx(0.0, abs=1e-12)
    assert float(orbital_potential(system, hf, c)) < 1e-20
    mole = gto.M(atom="H 0 0 0; H 0 0 2", unit="bohr", basis="cc-pvdz", charge=1, spin=1, verbose=0)
    mf = dft.UKS(mole, xc="pbe")
    mf.grids.level = 3
    P = np.stack([np.outer(c, c), 0 * np.outer(c, c)])
    veff = mf.get_veff(mole, P)
    expected = veff.ecoul + veff.exc
    assert abs(expected) > 1e-3
    assert float(orbital_self_interaction(system, pbe, c)) == pytest.approx(expected, abs=1e-7)
    r = np.asarray(veff[0]) @ np.asarray(c)
    norm = r @ np.linalg.solve(mole.intor("int1e_ovlp"), r) / veff.ecoul**2
    assert float(orbital_potential(system, pbe, c)) == pytest.approx(norm, rel=1e-5)
    assert norm > 0.1
