"""Local hybrids in PySCF, against the SCF of this library."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from pyscf import dft, gto, scf
from pyscf.grad import rks as gradients

import dqc
from dqc.interop.pyscf import Attached, attach
from dqc.types import pytree, static

MOLECULES = {  # bohr; 2S
    "water": ("O 0 0 0; H 0 1.43 1.1; H 0 -1.43 1.1", 0, 0),
    "OH": ("O 0 0 0; H 0 0.3 1.82", 0, 1),
    "NH3+": ("N 0 0 0; H 0 1.9 0.1; H 1.65 -0.95 0; H -1.65 -0.95 0", 1, 1),
}
FITTING = "def2-universal-jkfit"


def bent(parent: str = "pbe0") -> dqc.Neural:
    xc = dqc.neural(parent, "local_hybrid", hidden=(6,))
    leaves, tree = jax.tree.flatten(xc)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * rng.normal(size=x.shape)) for x in leaves])


@pytree
class Mixed:
    """A share of exact exchange that grows with the density, beside some of another functional, on any rung,
    and some exact exchange by the integrals; of equal spins it reads the first alone."""

    inner: Any
    share: Array
    needs: Any = static(default=dqc.Needs("gga", (0.0,), True))

    def exchange(self) -> dict[float, Array]:
        return {0.0: jnp.asarray(0.1)}

    def __call__(self, features: dqc.Features) -> Array:
        rho, e_x = features.rho, features.exchange_density
        assert e_x is not None
        rows = self.share * e_x * rho / (1.0 + rho)
        return self.inner(features) + (2.0 * rows[0] if features.closed_shell else rows.sum(0))


@pytree
class AllOfIt:
    """Exact exchange by its energy density."""

    needs: Any = static(default=dqc.Needs("lda", (), True))

    def exchange(self) -> dict[float, Array]:
        return {}

    def __call__(self, features: dqc.Features) -> Array:
        assert features.exchange_density is not None
        return features.exchange_density.sum(0)


def mixed(inner: str, rung: Any) -> Mixed:
    return Mixed(dqc.functional(inner), jnp.asarray(0.4), dqc.Needs(rung, (0.0,), True))


def mean_field(
    name: str, basis: str = "6-31g", level: int = 1, method: Any = None, cart: bool = False
) -> Any:
    atoms, charge, spin = MOLECULES[name]
    mol = gto.M(atom=atoms, basis=basis, charge=charge, spin=spin, unit="bohr", verbose=0, cart=cart)
    mf = (method or (dft.UKS if spin else dft.RKS))(mol)
    mf.grids.level = level
    # PySCF looks at the memory of the whole process, other tests' programs too, and goes another way when it
    # is short, on which an object that was fitted before fails.
    return mf.set(conv_tol=1e-11, conv_tol_grad=1e-6, max_cycle=100, max_memory=64_000)


def our_energy(mf: Any, xc: Any, **options: Any) -> float:
    """The energy of our own SCF, started at PySCF's density."""
    mol, P = mf.mol, np.asarray(mf.make_rdm1())
    system = dqc.build(dqc.Molecule.from_pyscf(mol), mol.basis, xc, grid=mf.grids.level, **options)
    sol = dqc.scf(system, xc, guess=jnp.asarray(P if P.ndim == 3 else P[None]), tolerance=1e-7)
    assert sol.converged
    return float(sol.energy)


@pytest.mark.parametrize("name", [pytest.param("water", marks=pytest.mark.slow), "OH"])
def test_energy_is_that_of_our_own_scf(name: str) -> None:
    mf = attach(mean_field(name), bent()).run()
    assert mf.converged
    assert mf.e_tot == pytest.approx(our_energy(mf, bent(), two_electron="exact"), abs=1e-9)
    assert abs(mf.e_tot - mean_field(name).run(xc="pbe0").e_tot) > 1e-3


@pytest.mark.parametrize("name", ["water", pytest.param("OH", marks=pytest.mark.slow)])
def test_fitted_energy_is_that_of_our_own_scf(name: str) -> None:
    mf = attach(mean_field(name), bent()).density_fit(FITTING).run()
    assert mf.converged
    assert mf.e_tot == pytest.approx(our_energy(mf, bent(), two_electron="df", auxbasis=FITTING), abs=1e-9)


def test_a_functional_of_the_user_with_global_exchange_too() -> None:
    xc = mixed("pbe", "gga")
    mf = attach(mean_field("NH3+", "sto-3g"), xc).run()
    assert mf.e_tot == pytest.approx(our_energy(mf, xc, two_electron="exact"), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "xc", "fitted"),
    [
        ("water", mixed("lda,vwn", "lda"), True),
        ("OH", mixed("pbe", "gga"), True),
        ("OH", mixed("r2scan", "mgga"), False),
        ("water", mixed("r2scan", "mgga"), False),
        ("water", mixed("r2scan", "mgga"), True),
    ],
)
def test_the_matrix_is_the_derivative_of_the_energy(name: str, xc: Any, fitted: bool) -> None:
    mf = attach(mean_field(name, "sto-3g", 0), xc)
    mf = mf.density_fit(FITTING) if fitted else mf
    P, rng = mf.get_init_guess(), np.random.default_rng(2)
    along = rng.normal(size=P.shape)
    along = 1e-3 * (along + along.swapaxes(-1, -2))
    energy = {k: mf.energy_elec(P + k * along)[0] for k in (-2, -1, 1, 2)}
    difference = (8 * (energy[1] - energy[-1]) - (energy[2] - energy[-2])) / 12
    slope = np.vdot(mf.get_hcore() + np.asarray(mf.get_veff(dm=P)), along)
    assert abs(difference) > 1e-4
    assert slope == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("cart", [False, True])
@pytest.mark.parametrize("fitted", [False, True])
def test_all_of_it_is_hartree_fock(cart: bool, fitted: bool) -> None:
    """To the error of the quadrature, with d functions of either kind."""
    mf = mean_field("water", "6-31g*", 2, cart=cart)
    hf = scf.RHF(mf.mol).set(conv_tol=1e-11)
    if fitted:
        mf, hf = mf.density_fit(FITTING), hf.density_fit(FITTING)
    mf = attach(mf, AllOfIt()).run()
    assert mf.e_tot == pytest.approx(hf.run().e_tot, abs=3e-5)


@pytest.mark.parametrize(("method", "exact"), [(dft.UKS, scf.UHF), (dft.ROKS, scf.ROHF)])
def test_open_shells_of_either_kind(method: Any, exact: Any) -> None:
    mf = attach(mean_field("NH3+", "sto-3g", 2, method), AllOfIt()).run()
    assert mf.e_tot == pytest.approx(exact(mf.mol).run(conv_tol=1e-11).e_tot, abs=3e-5)


def test_the_parts_of_the_energy_and_the_electrons() -> None:
    mf = attach(mean_field("OH", "sto-3g"), bent()).run()
    n, exc, _ = mf._numint.nr_uks(mf.mol, mf.grids, mf.xc, mf.make_rdm1())
    np.testing.assert_allclose(n, mf.nelec, atol=1e-3)
    assert exc == pytest.approx(mf.get_veff().exc, abs=1e-11)
    parts = mf.scf_summary
    assert parts["e1"] + parts["coul"] + parts["exc"] + mf.energy_nuc() == pytest.approx(mf.e_tot, abs=1e-9)


def test_conversions_and_other_functionals_afterwards() -> None:
    mf = attach(mean_field("water", "sto-3g"), bent()).density_fit(FITTING).run()
    unrestricted = mf.to_uks()
    assert isinstance(unrestricted, Attached)
    assert unrestricted.kernel() == pytest.approx(mf.e_tot, abs=1e-9)
    exact = attach(mean_field("water", "sto-3g"), bent()).run().e_tot
    assert mf.undo_df().kernel() == pytest.approx(exact, abs=1e-9)
    assert abs(mf.e_tot - exact) > 1e-8
    only_coulomb = attach(mean_field("water", "sto-3g"), bent()).density_fit(FITTING, only_dfj=True).run()
    assert abs(only_coulomb.e_tot - mf.e_tot) > 1e-8
    pbe = mean_field("water", "sto-3g").density_fit(FITTING).run(xc="pbe").e_tot
    for other in (mf.copy().set(xc="pbe"), attach(mf.copy(), "pbe")):
        assert other.kernel() == pytest.approx(pbe, abs=1e-9)
        assert np.abs(other.nuc_grad_method().kernel()).max() > 1e-3


def test_fitting_takes_the_basis_of_exact_exchange() -> None:
    mf = attach(mean_field("water", "def2-svp"), bent()).density_fit()
    assert (
        mf.with_df.auxbasis == mean_field("water", "def2-svp").set(xc="pbe0").density_fit().with_df.auxbasis
    )


@pytest.mark.parametrize(
    "attempt",
    [
        lambda mf: mf.nuc_grad_method().kernel(),
        lambda mf: mf.nuc_grad_method().set(grid_response=True).kernel(),
        lambda mf: mf.density_fit(FITTING).run(max_cycle=1).nuc_grad_method().kernel(),
        lambda mf: mf.Hessian().kernel(),
        lambda mf: mf.TDA().kernel(),
        lambda mf: mf.TDDFT().kernel(),
        lambda mf: mf.TDDFT().set(singlet=False).kernel(),
        lambda mf: mf.newton().kernel(),
        lambda mf: attach(mf.newton(), bent()).kernel(),
        lambda mf: mf.stability(),
        lambda mf: mf.to_uks().stability(),
        lambda mf: mf.to_uks().nuc_grad_method().kernel(),
        lambda mf: mf.to_uks().TDDFT().kernel(),
        lambda mf: mf.gen_response(),
        lambda mf: gradients.Gradients(mf).kernel(),
    ],
)
def test_what_differentiates_them_is_refused(attempt: Any) -> None:
    mf = attach(mean_field("water", "sto-3g", 0), bent()).run()
    with pytest.raises(
        NotImplementedError, match="'dqc: neural' is a local hybrid: PySCF has its energy and"
    ):
        attempt(mf)


def test_several_densities_are_refused() -> None:
    mf = attach(mean_field("water", "sto-3g", 0), bent())
    P = mf.get_init_guess()
    for dm in (np.stack([P, P]), P + 0j):
        with pytest.raises(NotImplementedError, match="takes one real density at a time"):
            mf.get_veff(dm=dm)


def test_fitted_integrals_without_their_basis_are_refused() -> None:
    mf = attach(mean_field("water", "sto-3g", 0), bent()).density_fit(FITTING)
    mf.with_df._cderi = mf.density_fit(FITTING).with_df.build()._cderi
    with pytest.raises(ValueError, match="needs the auxiliary basis of the fitted integrals"):
        mf.kernel()
