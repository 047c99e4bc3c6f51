"""Reference energies, dipole moments and densities by PySCF's wave-function methods.

Energies are electronic, nonrelativistic, of clamped nuclei. Dipole moments and density matrices are CCSD's in
the smaller basis set, from the unrelaxed one-particle density matrix (amplitudes and Lambda respond, orbitals
do not), also where the energy is CCSD(T)'s; with full CI they are full CI's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dqc.basis import pyscf_mole
from dqc.data.sets import Density, Labels
from dqc.interop.level import Level, extrapolate_correlation, extrapolate_hartree_fock
from dqc.molecule import Molecule

try:
    from pyscf import __version__, cc, fci, mcscf, mp, scf
    from pyscf.data.elements import chemcore
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "pyscf":
        raise
    raise ModuleNotFoundError("This needs PySCF, which is not installed: pip install pyscf.") from error

PROGRAM = f"PySCF {__version__}"
ENERGY_TOLERANCE = 1e-11  # hartree, of Hartree-Fock
GRADIENT_TOLERANCE = 1e-6  # of its orbitals
CC_TOLERANCE = 1e-9  # hartree, of coupled cluster and full CI
AMPLITUDES_TOLERANCE = 1e-6
CYCLES = 150  # of coupled cluster
HIGHEST_T1 = 0.044
CONTAMINATION = 0.2  # of <S^2>
RESTARTS = 8  # of Hartree-Fock, from saddle points
MOST_DETERMINANTS = 5_000_000
MOST_ORBITALS_OF_SPIN = 64  # PySCF applies the operator of total spin to fewer

# PySCF leaves these shells of alkali and alkaline-earth atoms active, for which valence basis sets have no
# correlating functions.
_ALSO_CORE = {"Li": 1, "Be": 1, "Na": 4, "Mg": 4, "K": 4, "Ca": 4}


class NotConverged(RuntimeError):
    """A field or its correlation did not converge; the sentence says which."""


@dataclass(frozen=True, eq=False)
class Result:
    """Labels of a molecule and what tells how far to trust them; energies in hartree, by basis set."""

    labels: Labels
    hartree_fock: tuple[float, ...]
    correlation: tuple[float, ...]  # of the method, or under ``focal_point`` of MP2
    homo: tuple[float, float]  # the highest occupied levels, alpha and beta
    spin_square: float  # <S^2> of Hartree-Fock
    t1: float  # the T1 diagnostic of coupled cluster, 0 without


def reference(molecule: Molecule, level: Level, density: bool = False) -> Result:
    """The energy and dipole moment of a molecule at a level, and where asked for its density matrix.

    Raises :class:`NotConverged`, and ``ValueError`` for a basis set that lacks an element and for full CI
    with more than 5 million determinants.
    """
    fields = [hartree_fock(pyscf_mole(molecule, name), level.unrestricted) for name in level.basis]
    first = fields[0]
    small, P, t1 = _correlated(first, level, level.method, with_density=True)
    hf = tuple(float(field.e_tot) for field in fields)
    correlation: tuple[float, ...] = (small,)
    energy = hf[0] + small
    if len(fields) == 2:
        method = "mp2" if level.focal_point else level.method
        low = _correlated(first, level, "mp2")[0] if level.focal_point else small
        correlation = (low, _correlated(fields[1], level, method)[0])
        energy = extrapolate_hartree_fock(hf, level.cardinals) + (small - low)
        energy += extrapolate_correlation(correlation, level.cardinals)
    labels = Labels(
        energy=energy,
        dipole=_dipole(first.mol, P),
        density=Density(P, level.basis[0]) if density else None,
    )
    return Result(labels, hf, correlation, _homo(first), float(first.spin_square()[0]), t1)


def hartree_fock(mole: Any, unrestricted: bool = False) -> Any:
    """A converged Hartree-Fock field of PySCF's, a minimum among those of its kind.

    Restricted for spin 0 unless told otherwise, else unrestricted. At a saddle point it is started again from
    there downhill (R. Seeger, J. A. Pople, J. Chem. Phys. 66, 3045 (1977), doi:10.1063/1.434318). Raises
    :class:`NotConverged`.
    """
    mf = (scf.UHF if unrestricted or mole.spin else scf.RHF)(mole)
    mf.conv_tol, mf.conv_tol_grad, mf.max_cycle = ENERGY_TOLERANCE, GRADIENT_TOLERANCE, 100
    mf.kernel()
    for _ in range(RESTARTS):
        if not mf.converged:
            second_order = mf.newton()
            second_order.kernel(mf.mo_coeff, mf.mo_occ)
            mf.kernel(second_order.make_rdm1())
        if not mf.converged:
            raise NotConverged(f"Hartree-Fock did not converge in {mf.max_cycle} iterations")
        if mole.nelectron == 1 or max(mole.nelec) == mole.nao:  # no rotation is left
            return mf
        orbitals, _, stable, _ = mf.stability(return_status=True)
        if stable:
            return mf
        mf.kernel(mf.make_rdm1(orbitals, mf.mo_occ))
    raise NotConverged(f"Hartree-Fock is at a saddle point after {RESTARTS} restarts downhill")


def doubt(molecule: Molecule, level: Level, t1: float, spin_square: float) -> str:
    """Why coupled cluster of one determinant may be off by kcal/mol there; empty where nothing says so.

    T1 above 0.044 (D. Jayatilaka, T. J. Lee, J. Chem. Phys. 98, 9734 (1993), doi:10.1063/1.464352) or an
    unrestricted determinant of mixed spin, unless the method is exact.
    """
    mole = pyscf_mole(molecule, level.basis[0])
    correlated = mole.nelectron - 2 * (_core(mole) if level.frozen_core else 0)
    S = molecule.spin / 2
    if correlated <= 2 or level.method == "fci":
        return ""
    if t1 < HIGHEST_T1 and abs(spin_square - S * (S + 1)) < CONTAMINATION:
        return ""
    return f"T1 is {t1:.3f}, and <S^2> {spin_square:.2f} where {S * (S + 1):.2f} is pure"


def density_at(
    density: Density, molecule: Molecule, points: Float[np.ndarray, "g x"]
) -> Float[np.ndarray, "2 g"]:
    """rho_s(r) = sum_pq phi_p(r) P_spq phi_q(r), alpha and beta, electrons/bohr^3; points in bohr.

    Raises ``ValueError`` where the matrix is not of the size of the molecule's basis.
    """
    ao = pyscf_mole(molecule, density.basis).eval_gto("GTOval_sph", points)
    P, n = density.matrix, ao.shape[1]
    if P.shape[1] != n:
        raise ValueError(
            f"a density matrix of {P.shape[1]} functions, and {molecule.formula} in {density.basis} has {n}"
        )
    return np.stack([np.einsum("gp,gp->g", ao @ P[s], ao) for s in range(2)])


def _correlated(
    mf: Any, level: Level, method: str, with_density: bool = False
) -> tuple[float, np.ndarray, float]:
    """The correlation energy, the density matrix (Hartree-Fock's, where not asked for) and T1."""
    frozen = _core(mf.mol) if level.frozen_core else 0
    electrons = [n - frozen for n in mf.mol.nelec]
    if sum(electrons) < 2 or min(electrons) < 0 or mf.mo_coeff.shape[-1] == max(mf.mol.nelec):
        return 0.0, _spins(mf.make_rdm1()), 0.0
    if method == "fci":
        return _full_ci(mf, frozen, electrons)
    if method == "mp2":
        return float(mp.MP2(mf, frozen=frozen).run().e_corr), _spins(mf.make_rdm1()), 0.0
    solver = cc.CCSD(mf, frozen=frozen)
    solver.conv_tol, solver.conv_tol_normt, solver.max_cycle = CC_TOLERANCE, AMPLITUDES_TOLERANCE, CYCLES
    solver.kernel()
    if not solver.converged:
        raise NotConverged(f"CCSD did not converge in {solver.max_cycle} iterations")
    energy = float(solver.e_corr)
    if method == "ccsd(t)":
        energy += float(solver.ccsd_t())
    P = mf.make_rdm1()
    if with_density:
        solver.solve_lambda()
        if not solver.converged_lambda:
            raise NotConverged(
                f"the Lambda equations of CCSD did not converge in {solver.max_cycle} iterations"
            )
        P = solver.make_rdm1(ao_repr=True)
    t1 = solver.t1 if isinstance(solver.t1, tuple) else (solver.t1, solver.t1)
    # T. J. Lee, P. R. Taylor, Int. J. Quantum Chem. 36(S23), 199 (1989), doi:10.1002/qua.560360824
    diagnostic = math.sqrt(sum(float(np.sum(t * t)) for t in t1) / (2 * sum(electrons)))
    return energy, _spins(P), diagnostic


def _full_ci(mf: Any, frozen: int, electrons: list[int]) -> tuple[float, np.ndarray, float]:
    """The lowest state of the molecule's spin; of open shells in 64 orbitals and more, of its M_S."""
    n = mf.mo_coeff.shape[-1] - frozen
    determinants = math.comb(n, electrons[0]) * math.comb(n, electrons[1])
    if determinants > MOST_DETERMINANTS:
        raise ValueError(
            f"full CI of {determinants:.1e} determinants, and {MOST_DETERMINANTS:.0e} is the limit: take a "
            "smaller basis set, or ccsd(t)"
        )
    restricted = scf.ROHF(mf.mol).run(conv_tol=ENERGY_TOLERANCE, max_cycle=100)
    solver = mcscf.CASCI(restricted, n, tuple(electrons))
    if mf.mol.spin == 0:
        solver.fcisolver = fci.direct_spin0.FCI(mf.mol)  # symmetric coefficients: no triplets
    elif n < MOST_ORBITALS_OF_SPIN:
        solver.fix_spin_(ss=mf.mol.spin / 2 * (mf.mol.spin / 2 + 1))
    solver.fcisolver.conv_tol, solver.fcisolver.max_cycle = CC_TOLERANCE * 1e-1, 300
    solver.kernel()
    if not np.all(solver.converged):
        raise NotConverged("full CI did not converge")
    return float(solver.e_tot - mf.e_tot), _spins(np.asarray(solver.make_rdm1s())), 0.0


def _core(mole: Any) -> int:
    """Orbitals of the noble-gas cores that no effective core potential replaces."""
    symbols = [mole.atom_pure_symbol(a) for a in range(mole.natm) if not mole.atom_nelec_core(a)]
    return int(chemcore(mole)) + sum(_ALSO_CORE.get(symbol, 0) for symbol in symbols)


def _spins(P: Any) -> Float[np.ndarray, "2 n n"]:
    """Alpha and beta, symmetric, of a restricted or an unrestricted density matrix."""
    P = np.asarray(P)
    P = np.stack([0.5 * P, 0.5 * P]) if P.ndim == 2 else P
    return 0.5 * (P + P.swapaxes(1, 2))


def _dipole(mole: Any, P: Float[np.ndarray, "2 n n"]) -> Float[np.ndarray, " x"]:
    """sum_A Z_A R_A - tr P r, e bohr, about the origin."""
    with mole.with_common_origin((0.0, 0.0, 0.0)):
        r = mole.intor_symmetric("int1e_r")
    return mole.atom_charges() @ mole.atom_coords() - np.einsum("xpq,spq->x", r, P)


def _homo(mf: Any) -> tuple[float, float]:
    e, f = np.asarray(mf.mo_energy), np.asarray(mf.mo_occ)
    e, f = (np.stack([e, e]), np.stack([f, f]) / 2) if e.ndim == 1 else (e, f)
    alpha, beta = (float(np.where(f[s] > 0, e[s], -np.inf).max()) for s in range(2))
    return alpha, beta
