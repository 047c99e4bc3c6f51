"""Functionals in PySCF: against PySCF's own functional, and against the SCF of this library."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from pyscf import dft, gto, scf
from pyscf.dft import libxc, numint

import dqc
from dqc.interop.energy_density import CHUNK, _slope, energy_density
from dqc.interop.pyscf import NumInt, attach
from dqc.types import pytree, replace, static

MOLECULES = {  # bohr; 2S
    "CH2O": ("C 0 0 -1.1; O 0 0 1.2; H 0 1.8 -2.2; H 0 -1.75 -2.25", 0, 0),
    "OH": ("O 0 0 0; H 0 0 1.85", 0, 1),
    "NH3+": ("N 0 0 0; H 0 1.9 0.1; H 1.65 -0.95 0; H -1.65 -0.95 0", 1, 1),
    "HF": ("H 0 0 0; F 0 0 1.75", 0, 0),
}


def molecule(name: str, basis: str = "6-31g") -> Any:
    atoms, charge, spin = MOLECULES[name]
    return gto.M(atom=atoms, basis=basis, charge=charge, spin=spin, unit="bohr", verbose=0)


def mean_field(name: str, xc: str = "lda,vwn", basis: str = "6-31g", level: int = 1) -> Any:
    """PySCF's object with its own functional, not yet solved."""
    mol = molecule(name, basis)
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=xc)
    mf.grids.level = 3 if name == "OH" else level
    # PySCF looks at the memory of the whole process, other tests' programs too, and goes another way when it
    # is short, on which an object that was fitted before fails.
    return mf.set(conv_tol=1e-11, conv_tol_grad=1e-6, max_memory=64_000)


@cache
def solved(name: str, xc: str) -> tuple[Any, Any]:
    """PySCF's solution with its own functional, and with ours of the same name."""
    theirs, ours = mean_field(name, xc), attach(mean_field(name), xc)
    if name == "OH":  # whose degenerate hole turns about the axis: PySCF's DIIS does not converge
        theirs, ours = theirs.newton(), ours.newton()
        theirs.kernel()
        ours.kernel(theirs.mo_coeff, theirs.mo_occ)
    else:
        for mf in (theirs, ours):  # their gradients are compared, whose error is that of the orbitals
            mf.set(conv_tol=1e-12, conv_tol_grad=1e-8)
        theirs.kernel()
        ours.kernel(dm0=theirs.make_rdm1())
    assert theirs.converged
    assert ours.converged
    return theirs, ours


def our_energy(mf: Any, xc: Any) -> float:
    """The energy of our own SCF, started at PySCF's density: degenerate holes stay where they are."""
    mol = mf.mol
    system = dqc.build(dqc.Molecule.from_pyscf(mol), mol.basis, xc, grid=mf.grids.level, two_electron="exact")
    P = np.asarray(mf.make_rdm1())
    sol = dqc.scf(system, xc, guess=jnp.asarray(P if P.ndim == 3 else P[None]), tolerance=1e-7)
    assert sol.converged
    return float(sol.energy)


@pytree
class Wigner:
    """A user's functional: exchange with a gradient, some of it exact, and Wigner's correlation."""

    strength: Array
    fraction: Array

    @property
    def needs(self) -> dqc.Needs:
        return dqc.Needs("gga", (0.0,))

    def exchange(self) -> dict[float, Array]:
        return {0.0: self.fraction}

    def __call__(self, features: dqc.Features) -> Array:
        rho, sigma = features.rho, (features.grad**2).sum(1)
        s2 = sigma / rho ** (8 / 3)
        e_x = -0.93 * (rho ** (4 / 3) * (1.0 + 0.004 * s2 / (1.0 + 0.01 * s2))).sum(0)
        n = rho.sum(0)
        return (1.0 - self.fraction) * e_x - self.strength * 4.0 * rho[0] * rho[1] / n / (
            1 + 0.35 / jnp.cbrt(n)
        )


def wigner(fraction: float = 0.1) -> Wigner:
    return Wigner(jnp.array(0.04), jnp.array(fraction))


@pytree
class CsPhysics:
    """Its name holds two letters by which PySCF recognises functionals of the Laplacian."""

    inner: Any
    needs: Any = static(default=dqc.Needs("mgga"))

    def exchange(self) -> dict[float, Array]:
        return {}

    def __call__(self, features: dqc.Features) -> Array:
        return self.inner(features)


@pytree
class OneOfTwo:
    """Uniform exchange, of equal spins by the first alone."""

    needs: Any = static(default=dqc.Needs("lda"))

    def exchange(self) -> dict[float, Array]:
        return {}

    def __call__(self, features: dqc.Features) -> Array:
        e = -1.5 * (3.0 / (4.0 * np.pi)) ** (1 / 3) * features.rho ** (4 / 3)
        return 2.0 * e[0] if features.closed_shell else e.sum(0)


# Energies


@pytest.mark.parametrize(
    ("name", "xc"),
    [
        pytest.param("OH", "lda,vwn", marks=pytest.mark.slow),
        ("CH2O", "pbe"),
        ("NH3+", "r2scan"),
        ("OH", "b3lyp"),
        ("CH2O", "camb3lyp"),
        ("HF", "hf"),
        ("HF", "gga_x_b86,gga_c_p86"),  # by libxc, on either side
    ],
)
def test_energy_is_pyscfs_and_that_of_our_own_scf(name: str, xc: str) -> None:
    theirs, ours = solved(name, xc)
    assert ours.e_tot == pytest.approx(theirs.e_tot, abs=2e-9)
    assert ours.e_tot == pytest.approx(our_energy(ours, dqc.functional(xc)), abs=1e-9)


def test_changed_constants_change_the_energy() -> None:
    xc = dqc.functional("pbe", trainable=("kappa", "mu"))
    xc = replace(xc, trained={"kappa": jnp.array(0.9), "mu": jnp.array(0.25)})
    mf = attach(mean_field("HF"), xc).run()
    assert mf.e_tot == pytest.approx(our_energy(mf, xc), abs=1e-9)
    assert abs(mf.e_tot - mean_field("HF", "pbe").run().e_tot) > 1e-3


@pytest.mark.parametrize("name", ["HF", "NH3+"])
def test_a_functional_of_the_user(name: str) -> None:
    mf = attach(mean_field(name), wigner()).run()
    assert mf.xc == "dqc: wigner"
    assert mf.e_tot == pytest.approx(our_energy(mf, wigner()), abs=1e-9)
    semilocal = attach(mean_field(name), wigner(0.0)).run()
    assert abs(mf.e_tot - semilocal.e_tot) > 1e-3


def test_restricted_open_shells() -> None:
    theirs, ours = (dft.ROKS(molecule("NH3+"), xc="pbe").set(conv_tol=1e-11) for _ in range(2))
    assert attach(ours, "pbe").kernel() == pytest.approx(theirs.kernel(), abs=1e-9)


# The energy density


def points(n: int, rows: int) -> np.ndarray:
    """Spin densities, gradients and tau of a sum of orbitals: nothing that no orbitals have."""
    rng = np.random.default_rng(1)
    phi = rng.normal(size=(2, 4, n)) * 10.0 ** rng.uniform(-2, 0.5, (2, 1, n))
    slope = rng.normal(size=(2, 3, 4, n)) * 0.5 * np.abs(phi[:, None]).max(2, keepdims=True)
    rho = np.stack([(phi**2).sum(1), *(2 * (phi[:, None] * slope).sum(2)).transpose(1, 0, 2)], 1)
    tau = 0.5 * (slope**2).sum((1, 2))
    return np.concatenate([rho, tau[:, None]], 1)[:, :rows]


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize(
    ("xc", "rows", "order"), [("lda,vwn", 1, 3), ("pbe", 4, 3), ("r2scan", 5, 2), ("b3lyp", 4, 2)]
)
def test_derivatives_are_libxcs(xc: str, rows: int, order: int, spin: int) -> None:
    rho = points(300, rows)
    rho = rho if spin else rho.sum(0)
    theirs = numint.NumInt().eval_xc_eff(xc, rho, deriv=order, spin=spin)
    ours = energy_density(dqc.functional(xc), rho, order, spin)
    assert [d is None for d in ours] == [k > order for k in range(4)]
    for a, b in zip(ours[: order + 1], theirs, strict=False):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-8 * np.abs(b).max()


def test_of_equal_spins_a_functional_may_read_one() -> None:
    rho = points(50, 1).sum(0)
    theirs = numint.NumInt().eval_xc_eff("lda,", rho, deriv=3, spin=0)
    for a, b in zip(energy_density(OneOfTwo(), rho, 3, 0), theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_points_are_taken_in_chunks_of_one_size() -> None:
    rho = points(2 * CHUNK + 37, 4)
    pbe = dqc.functional("pbe")
    whole = energy_density(pbe, rho, 1, 1)
    before = _slope._cache_size()
    for start in (0, CHUNK - 5, 2 * CHUNK):
        part = energy_density(pbe, rho[..., start : start + 50], 1, None)
        for a, b in zip(part[:2], whole[:2], strict=True):
            np.testing.assert_allclose(a, b[..., start : start + 50], rtol=1e-13, atol=1e-15)
    assert _slope._cache_size() == before


@pytest.mark.parametrize(("xc", "order"), [("lda,vwn", 3), ("pbe", 3), ("r2scan", 2), ("wigner", 3)])
def test_vanishing_densities_have_finite_derivatives(xc: str, order: int) -> None:
    f = wigner() if xc == "wigner" else dqc.functional(xc)
    rho = points(6, {"lda": 1, "gga": 4, "mgga": 5}[f.needs.rung])
    rho[..., 0] = 0.0
    rho[..., 1] = -1e-20
    rho[..., 2] *= 1e-25
    rho[1, :, 3] = 0.0
    rho[0, :, 4] = 0.0
    for spin, x in ((1, rho), (0, rho.sum(0))):
        out = energy_density(f, x, order, spin)[: order + 1]
        assert all(np.isfinite(d).all() for d in out)
        assert not any(d[..., :3].any() for d in out)
        assert out[0][3:].all()


def test_a_laplacian_is_passed_over() -> None:
    rho, f = points(10, 5), dqc.functional("r2scan")
    six = np.insert(rho, 4, 7.0, axis=1)
    for a, b in zip(energy_density(f, six, 2, 1)[:3], energy_density(f, rho, 2, 1)[:3], strict=True):
        assert np.array_equal(a, b)


# Exact exchange, as PySCF asks for it


@pytest.mark.parametrize("xc", ["pbe", "hf", "pbe0", "b3lyp", "camb3lyp", "lc_wpbe", "hse06", "0.5*pbe0"])
def test_exact_exchange_is_told_as_by_libxc(xc: str) -> None:
    own, theirs = NumInt("dqc: x", dqc.functional(xc)), numint.NumInt()
    ours = own.rsh_and_hybrid_coeff("dqc: x")
    np.testing.assert_allclose(ours, theirs.rsh_and_hybrid_coeff(xc), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(own.rsh_coeff("dqc: x"), libxc.rsh_coeff(xc), atol=1e-15)
    assert own.libxc.is_hybrid_xc("DQC: X") == libxc.is_hybrid_xc(xc)
    assert own._xc_type("dqc: x") == libxc.xc_type(xc)


# What is made of a solution


@pytest.mark.parametrize(("name", "xc"), [("CH2O", "pbe"), ("NH3+", "r2scan"), ("CH2O", "camb3lyp")])
def test_gradients_are_pyscfs(name: str, xc: str) -> None:
    theirs, ours = (mf.nuc_grad_method().kernel() for mf in solved(name, xc))
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_gradients_with_grid_response_are_our_forces() -> None:
    ours = attach(mean_field("CH2O"), "pbe").run(conv_tol=1e-12, conv_tol_grad=1e-7)
    xc = dqc.functional("pbe")
    system = dqc.build(dqc.Molecule.from_pyscf(ours.mol), "6-31g", xc, grid=1, two_electron="exact")
    F = np.asarray(dqc.forces(system, xc, dqc.scf(system, xc, tolerance=1e-8)))
    moving = ours.nuc_grad_method().set(grid_response=True).kernel()
    np.testing.assert_allclose(moving, -F, atol=3e-8)
    assert np.abs(ours.nuc_grad_method().kernel() + F).max() > 1e-6


@pytest.mark.parametrize("xc", ["pbe", "b3lyp", "camb3lyp"])
@pytest.mark.parametrize("singlet", [True, False])
def test_excitations_of_closed_shells(xc: str, singlet: bool) -> None:
    theirs, ours = (
        mf.TDDFT().set(nstates=3, singlet=singlet, conv_tol=1e-9).kernel()[0] for mf in solved("CH2O", xc)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_excitations_of_open_shells() -> None:
    for method in ("TDA", "TDDFT"):
        theirs, ours = (getattr(mf, method)().run(nstates=3).e for mf in solved("NH3+", "r2scan"))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_gradients_of_excited_states() -> None:
    theirs, ours = (mf.TDA().run(nstates=2).nuc_grad_method().kernel(state=1) for mf in solved("CH2O", "pbe"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("name", "xc"), [("CH2O", "camb3lyp"), ("NH3+", "r2scan")])
def test_second_order_scf_finds_the_same_energy(name: str, xc: str) -> None:
    before = attach(mean_field(name), xc).newton().set(conv_tol=1e-11).run()
    after = attach(mean_field(name).newton(), xc).set(conv_tol=1e-11).run()
    for mf in (before, after):
        assert mf.e_tot == pytest.approx(solved(name, xc)[1].e_tot, abs=1e-9)


def test_hessians_are_pyscfs() -> None:
    theirs, ours = (
        mf.run().Hessian().kernel() for mf in (mean_field("HF", "pbe"), attach(mean_field("HF"), "pbe"))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


# The object afterwards


@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
def test_density_fitting_before_or_after(xc: str) -> None:
    theirs = mean_field("CH2O", xc, "def2-svp").density_fit().run()
    fitted = mean_field("CH2O", xc, "def2-svp").density_fit()
    for ours in (attach(fitted, xc), attach(mean_field("CH2O", basis="def2-svp"), xc).density_fit()):
        assert ours.with_df.auxbasis == theirs.with_df.auxbasis
        assert ours.run().e_tot == pytest.approx(theirs.e_tot, abs=1e-9)
        np.testing.assert_allclose(
            ours.nuc_grad_method().kernel(), theirs.nuc_grad_method().kernel(), atol=1e-7
        )


def test_copies_and_conversions_keep_the_functional() -> None:
    mf = attach(mean_field("HF"), wigner()).run()
    assert mf.copy().run().e_tot == pytest.approx(mf.e_tot, abs=1e-9)
    for other in (mf.to_uks(), mf.to_uks().to_rks(), mf.newton().undo_newton(), mf.density_fit().undo_df()):
        assert other.xc == mf.xc
        assert other.kernel() == pytest.approx(mf.e_tot, abs=1e-9)
    moved = molecule("HF").set_geom_("H 0 0 0; F 0 0 1.8", unit="bohr", inplace=False)
    assert mf.reset(moved).kernel() == pytest.approx(our_energy(mf, wigner()), abs=1e-9)
    assert isinstance(mf.to_hf(), scf.hf.RHF)
    assert type(mf.to_hf()).__name__ == "RHF"


def test_another_functional_takes_the_place_of_the_first() -> None:
    mf = attach(mean_field("HF"), wigner())
    attach(mf, "pbe").kernel()
    assert mf.xc == "dqc: pbe"
    energy = mean_field("HF", "pbe").kernel()
    assert mf.e_tot == pytest.approx(energy, abs=1e-9)
    assert type(mf).__name__ == "DQCRKS"
    mf.xc = "pbe"  # PySCF's own
    assert mf.kernel() == pytest.approx(energy, abs=1e-9)
    mf.xc = "dqc: wigner"
    with pytest.raises(ValueError, match="attached to another object: this one has 'dqc: pbe'"):
        mf.kernel()


def test_nothing_is_changed_but_the_object() -> None:
    attach(mean_field("HF"), wigner())
    mf = mean_field("HF", "pbe")
    assert type(mf) is dft.rks.RKS
    assert type(mf._numint) is numint.NumInt
    assert numint.NumInt.libxc is libxc


def test_the_name_says_what_is_evaluated(capfd: pytest.CaptureFixture) -> None:
    for xc, name in (
        (dqc.functional("pbe0"), "dqc: hf, gga_x_pbe, gga_c_pbe"),
        (dqc.functional("lc_wpbe"), "dqc: hf(0.4), gga_x_wpbeh, gga_c_pbe"),
        (dqc.functional("hse06"), "dqc: hse06"),
        ("PBE0", "dqc: pbe0"),
    ):
        assert attach(mean_field("HF"), xc).xc == name
    mf = attach(mean_field("HF"), "pbe").set(verbose=4)
    mf.dump_flags()


def test_no_name_is_misread() -> None:
    mf = attach(mean_field("HF"), CsPhysics(dqc.functional("r2scan")))
    assert mf.xc == "dqc: functional"
    assert mf.kernel() == pytest.approx(mean_field("HF", "r2scan").kernel(), abs=1e-9)


# Wrong input


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda mol: scf.RHF(mol), "RHF is a Hartree-Fock object: .* mf.to_ks"),
        (lambda mol: dft.GKS(mol), "GKS integrates with NumInt2C: a molecule's RKS, UKS or ROKS"),
        (lambda mol: dft.RKS(mol).nuc_grad_method(), "Gradients is not a mean-field object"),
        (lambda mol: mol, "Mole is not a mean-field object"),
    ],
)
def test_other_objects_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        attach(make(molecule("HF")), "pbe")


def test_periodic_objects_are_refused() -> None:
    from pyscf.pbc import dft as periodic
    from pyscf.pbc import gto as cells

    cell = cells.M(atom="He 0 0 0", a=np.eye(3) * 6, basis="sto-3g", verbose=0)
    with pytest.raises(ValueError, match="RKS is periodic"):
        attach(periodic.RKS(cell), "pbe")


@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_functional_is_refused() -> None:
    for xc in (3, len, Wigner):
        with pytest.raises(ValueError, match="is not a functional: a name such as 'pbe'"):
            attach(mean_field("HF"), xc)
    with pytest.raises(ValueError, match="unknown functional 'pbee'"):
        attach(mean_field("HF"), "pbee")


def test_functionals_beyond_pyscf_are_refused() -> None:
    two = dqc.functional("camb3lyp") + dqc.functional("lc_wpbe")
    with pytest.raises(ValueError, match=r"one omega, and this functional has 0\.33, 0\.4: use dqc\.scf"):
        attach(mean_field("HF"), two)


def test_what_cannot_be_done_says_so() -> None:
    mf = attach(mean_field("HF"), "camb3lyp")
    for attempt in (mf.to_gks, mf.to_ghf, mf._numint.to_gpu, lambda: mf.define_xc_("pbe")):
        with pytest.raises(NotImplementedError, match="dqc"):
            attempt()
    with pytest.raises(
        NotImplementedError, match="eval_xc is libxc's, and 'dqc: camb3lyp' is evaluated by dqc"
    ):
        mf._numint.eval_xc(mf.xc, np.ones(3))
    mf.omega = 0.2
    with pytest.raises(ValueError, match=r"mf\.omega=0\.2 cannot replace"):
        mf.kernel()
