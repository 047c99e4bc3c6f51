"""Functionals of this library in PySCF's Kohn-Sham programs: SCF, gradients, second-order SCF, TDDFT.

PySCF asks two objects about a functional: its numerical integrator, for the energy density and derivatives
(``eval_xc_eff``), and that integrator's ``libxc``, for everything else. :func:`attach` gives one
mean-field object its own of both; nothing of PySCF itself is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dqc import __version__
from dqc.interop.energy_density import HIGHEST_ORDER, energy_density
from dqc.interop.local_hybrid import integrate
from dqc.xc.files import functional
from dqc.xc.functional import Functional
from dqc.xc.libxc import Libxc
from dqc.xc.literature import Literature

try:
    from pyscf import lib
    from pyscf.df import df_jk
    from pyscf.df.addons import predefined_auxbasis
    from pyscf.dft import libxc, numint
    from pyscf.scf import hf
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "pyscf":
        raise
    raise ModuleNotFoundError("This needs PySCF, which is not installed: pip install pyscf.") from error

_MARK = "dqc: "  # no name of PySCF's begins like this
_KINDS = {"none": "HF", "lda": "LDA", "gga": "GGA", "mgga": "MGGA"}
# PySCF looks for these in names: functionals of the Laplacian, dispersion corrections, composite methods.
_MISREAD = ("cc06", "cs", "br89", "mk00", "-d3", "-d4", "-3c", "_d3", "_d4")


def attach(mf: Any, xc: str | Functional) -> Any:
    """Let a Kohn-Sham object of PySCF use a functional of this library; returns the object, changed.

    ``mf`` is any ``RKS``, ``UKS`` or ``ROKS`` of a molecule, also after ``density_fit()`` or ``newton()``,
    and ``xc`` a name, with :func:`dqc.functional`'s meaning, or a :class:`dqc.Functional`. Energies,
    gradients, Hessians, second-order SCF, stability, TDDFT and its gradients then use

        E_xc = sum_g w_g e(g) + sum_k a_k E_x^HF(omega_k)

    with PySCF's own grid and exact exchange. Local hybrids, which read the exact-exchange energy density,
    have their energy and SCF, and ``NotImplementedError`` for what differentiates them. ``mf.xc`` becomes a
    readable name of the functional; setting it to one of PySCF's names brings that functional back.

    Raises ``ValueError`` for other objects (Hartree-Fock, generalised, periodic), for what is not a
    functional, and for functionals beyond PySCF: with two or more range-separation parameters.
    """
    _check_object(mf)
    name = xc if isinstance(xc, str) else ""
    xc = functional(xc) if isinstance(xc, str) else xc
    _check_functional(xc)
    integrator = NumInt(_readable(name or _describe(xc)), xc)
    # A second-order object holds the one whose energy it minimises.
    for part in (mf, getattr(mf, "_scf", None)):
        if part is not None:
            part.xc, part._numint, part.converged = integrator.name, integrator, False
            if not isinstance(part, Attached):
                lib.set_class(part, (Attached, part.__class__))
    return mf


class NumInt(numint.NumInt):
    """PySCF's numerical integrator with one functional of this library, under ``name``."""

    def __init__(self, name: str, xc: Functional) -> None:
        self.name = name
        self.functional = xc
        self.libxc = _Library(name, xc)
        self.fitting: Any = None  # what fits the exact-exchange energy density of the field at work

    def is_local_hybrid(self, xc_code: Any) -> bool:
        """Whether this is the functional's name, and it reads the exact-exchange energy density."""
        return self.functional.needs.exchange_density and self.libxc.knows(xc_code)

    def nr_rks(self, mol: Any, grids: Any, xc_code: Any, dms: Any, *args: Any, **options: Any) -> Any:
        """Electrons, E_xc less what is left to PySCF's exact exchange, and its Kohn-Sham matrix."""
        if not self.is_local_hybrid(xc_code):
            return super().nr_rks(mol, grids, xc_code, dms, *args, **options)
        n, energy, v = self._integrated(mol, grids, np.asarray(dms)[None])
        return n[0], energy, v[0]

    def nr_uks(self, mol: Any, grids: Any, xc_code: Any, dms: Any, *args: Any, **options: Any) -> Any:
        """The same of two spins."""
        if not self.is_local_hybrid(xc_code):
            return super().nr_uks(mol, grids, xc_code, dms, *args, **options)
        return self._integrated(mol, grids, np.asarray(dms))

    def _integrated(self, mol: Any, grids: Any, P: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        if P.ndim != 3 or np.iscomplexobj(P):
            raise NotImplementedError(f"{self.name!r}, a local hybrid, takes one real density at a time.")
        return integrate(self, self.functional, mol, grids, P, self.fitting)

    def eval_xc_eff(
        self,
        xc_code: Any,
        rho: Any,
        deriv: int = 1,
        omega: float | None = None,
        xctype: str | None = None,
        verbose: Any = None,
        spin: int | None = None,
    ) -> list[Any]:
        """``[exc, vxc, fxc, kxc]`` at the points of ``rho``: energy per electron, and the derivatives of
        the energy per volume by density, gradient and tau, with axes as in PySCF; None above ``deriv``."""
        if not self.libxc.knows(xc_code):
            return super().eval_xc_eff(xc_code, rho, deriv, omega, xctype, verbose, spin)
        if self.functional.needs.exchange_density:
            raise NotImplementedError(
                f"{self.name!r} is a local hybrid: PySCF has its energy and SCF, but no gradients, Hessians, "
                "excitations, stability or second-order SCF."
            )
        return energy_density(self.functional, rho, deriv, spin)

    def rsh_and_hybrid_coeff(self, xc_code: Any, spin: int = 0) -> tuple[float, float, float]:
        """omega, and the fractions of exact exchange at long and at short range."""
        if self.omega is not None and self.libxc.knows(xc_code):
            raise ValueError(
                f"mf.omega={self.omega} cannot replace the omega of {xc_code!r}: part of the functional."
            )
        return super().rsh_and_hybrid_coeff(xc_code, spin)

    def to_gpu(self) -> Any:
        """Refused: the GPU's integrator knows only its own functionals."""
        raise NotImplementedError(f"GPU4PySCF cannot evaluate {self.name!r}.")


class _Library:
    """What PySCF asks of its module ``libxc``, answered for one functional; other names are libxc's."""

    __name__ = "dqc"
    __version__ = __version__
    __reference__ = "differentiable quantum chemistry in JAX"

    def __init__(self, name: str, xc: Functional) -> None:
        self.name = name
        kind = _KINDS[xc.needs.rung]
        a = {omega: float(c) for omega, c in xc.exchange().items()}
        short = a.pop(0.0, 0.0)
        omega, long = next(((w, c) for w, c in a.items() if c), (0.0, 0.0))
        self._answers = {
            "xc_type": kind,
            "is_lda": kind == "LDA",
            "is_gga": kind == "GGA",
            "is_meta_gga": kind == "MGGA",
            "is_hybrid_xc": bool(short or long),
            "hybrid_coeff": short,
            # PySCF: alpha at long range and alpha + beta at short range
            "rsh_coeff": (omega, short + long, -long),
            "is_nlc": False,
            "nlc_coeff": (),
            "needs_laplacian": False,
            "max_deriv_order": HIGHEST_ORDER,
            "xc_reference": [],
        }

    def knows(self, code: Any) -> bool:
        """Whether this is the functional's name; PySCF changes the case of names."""
        return isinstance(code, str) and code.lower() == self.name

    def test_deriv_order(self, code: Any, deriv: int, raise_error: bool = False) -> bool:
        """Whether derivatives of this order exist."""
        if not self.knows(code):
            return bool(libxc.test_deriv_order(code, deriv, raise_error))
        if deriv > HIGHEST_ORDER and raise_error:
            raise NotImplementedError(f"{code!r} has derivatives to order {HIGHEST_ORDER}, not {deriv}.")
        return deriv <= HIGHEST_ORDER

    def __getattr__(self, question: str) -> Any:
        theirs = getattr(libxc, question)
        if question.startswith("_") or not callable(theirs):
            return theirs
        return self._asker(question, theirs)

    def _asker(self, question: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **options: Any) -> Any:
            code = args[0] if args else options.get("xc_code")
            if self.knows(code):
                if question in self._answers:
                    return self._answers[question]
                raise NotImplementedError(f"{question} is libxc's, and {code!r} is evaluated by dqc.")
            if isinstance(code, str) and code.startswith(_MARK):
                raise ValueError(f"{code!r} is attached to another object: this one has {self.name!r}.")
            return theirs(*args, **options)

        return asked


class Attached:
    """Marks a mean-field class whose functional is of this library, and mends what PySCF does by name."""

    __name_mixin__ = "DQC"

    def density_fit(self, auxbasis: Any = None, with_df: Any = None, only_dfj: bool = False) -> Any:
        """The same with fitted densities; the default auxiliary basis follows PySCF's rule."""
        if auxbasis is None and with_df is None:
            mol, ni, xc = self.mol, self._numint, self.xc  # type: ignore[attr-defined]
            exact = ni.libxc.is_hybrid_xc(xc) or ni.is_local_hybrid(xc)
            auxbasis = predefined_auxbasis(mol, mol.basis, "HF" if exact else "PBE")
        return super().density_fit(auxbasis, with_df, only_dfj)  # type: ignore[misc]

    def get_veff(self, *args: Any, **options: Any) -> Any:
        """PySCF's; where exact exchange is fitted, so is its energy density."""
        fitted = isinstance(self, df_jk._DFHF) and not self.only_dfj
        with lib.temporary_env(self._numint, fitting=self.with_df if fitted else None):  # type: ignore
            return super().get_veff(*args, **options)  # type: ignore[misc]

    def to_gks(self, xc: Any = None) -> Any:
        """Refused: a generalised object has non-collinear densities."""
        raise NotImplementedError(f"{self.xc!r} cannot go to a generalised object.")  # type: ignore[attr-defined]

    def define_xc_(self, *args: Any, **options: Any) -> Any:
        """Refused, since it would change nothing."""
        raise NotImplementedError("This object has a functional of dqc: attach another one, or set mf.xc.")


def _check_object(mf: Any) -> None:
    expected = "a molecule's RKS, UKS or ROKS object, such as pyscf.dft.RKS(mol), is expected"
    kind = type(mf).__name__
    if isinstance(mf, hf.SCF) and not isinstance(mf, hf.KohnShamDFT):
        raise ValueError(f"{kind} is a Hartree-Fock object: {expected}; mf.to_ks() makes one of it.")
    if not isinstance(mf, hf.SCF):
        raise ValueError(f"{kind} is not a mean-field object: {expected}.")
    if hasattr(mf.mol, "lattice_vectors"):
        raise ValueError(f"{kind} is periodic: {expected}.")
    # Generalised, relativistic and GPU objects have integrators of another kind.
    if not isinstance(mf._numint, numint.NumInt):
        raise ValueError(f"{kind} integrates with {type(mf._numint).__name__}: {expected}.")


def _check_functional(xc: Any) -> None:
    if isinstance(xc, type) or not isinstance(xc, Functional):
        raise ValueError(
            f"{xc!r} is not a functional: a name such as 'pbe', or an object with needs, exchange() and "
            "a call of the features, is expected."
        )
    omegas = sorted(omega for omega in xc.needs.omegas if omega)
    if len(omegas) > 1:
        raise ValueError(
            "PySCF separates the exact exchange at one omega, and this functional has "
            f"{', '.join(map(str, omegas))}: use dqc.scf."
        )


def _describe(xc: Functional) -> str:
    if isinstance(xc, Literature):
        kernels = [t.kernel for t in xc.recipe.terms]
        return ", ".join(k if isinstance(k, str) else f"hf({k:g})" if k else "hf" for k in kernels)
    return xc.name if isinstance(xc, Libxc) else type(xc).__name__


def _readable(name: str) -> str:
    """A name that PySCF reads nothing into."""
    name = name.lower()
    return _MARK + ("functional" if any(word in name for word in _MISREAD) else name)
