"""Molecular integrals from libcint, through PySCF, on the host.

Chemists' notation throughout: (pq|rs) = int int p(1) q(1) r(2) s(2) / r12. Hartree and bohr.
"""

from __future__ import annotations

from ast import literal_eval
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg

METRIC_THRESHOLD = 1e-7  # eigenvalues of a singular fitting metric below this are dropped


def one_electron(mole: Any) -> dict[str, np.ndarray]:
    """Overlap, kinetic energy, nuclear attraction (with effective core potentials) and dipole."""
    nuclear = mole.intor_symmetric("int1e_nuc")
    if mole.has_ecp():
        nuclear = nuclear + mole.intor("ECPscalar")
    with mole.with_common_orig((0.0, 0.0, 0.0)):
        dipole = mole.intor_symmetric("int1e_r", comp=3)
    return {
        "overlap": mole.intor_symmetric("int1e_ovlp"),
        "kinetic": mole.intor_symmetric("int1e_kin"),
        "nuclear": nuclear,
        "dipole": dipole,
    }


def fitted(mole: Any, auxiliary: Any, omega: float = 0.0) -> np.ndarray:
    """B = M^(-1/2) (P|pq), packed over the pairs: (pq|rs) ~ sum_P B_P,pq B_P,rs.

    ``omega > 0`` gives the long-range operator erf(omega r)/r, whose metric is close to singular:
    where Cholesky fails, eigenvectors above ``METRIC_THRESHOLD`` are kept and the rest are zero
    rows, so that the shape depends on the basis sets alone. Dunlap, Connolly, Sabin (1979),
    doi:10.1063/1.438728; Vahtras, Almlof, Feyereisen (1993), doi:10.1016/0009-2614(93)89151-7.
    """
    from pyscf.df import incore

    with mole.with_range_coulomb(omega or None), auxiliary.with_range_coulomb(omega or None):
        three_center = incore.aux_e2(mole, auxiliary, "int3c2e", aosym="s2ij").T
    M = metric(auxiliary, omega)
    try:
        lower = scipy.linalg.cholesky(M, lower=True)
    except scipy.linalg.LinAlgError:
        return _root_of_singular(M) @ three_center
    return scipy.linalg.solve_triangular(
        lower, three_center, lower=True, overwrite_b=True, check_finite=False
    )


def metric(auxiliary: Any, omega: float = 0.0) -> np.ndarray:
    """M = (P|Q)."""
    with auxiliary.with_range_coulomb(omega or None):
        return auxiliary.intor("int2c2e", hermi=1)


def inverse_root(metric: np.ndarray) -> np.ndarray:
    """The W of :func:`fitted`, B = W (P|pq): W^T W = M^(-1), in the space that is kept."""
    try:
        lower = scipy.linalg.cholesky(metric, lower=True)
    except scipy.linalg.LinAlgError:
        return _root_of_singular(metric)
    return scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)


def _root_of_singular(metric: np.ndarray) -> np.ndarray:
    values, vectors = scipy.linalg.eigh(metric)
    keep = values > METRIC_THRESHOLD
    scale = np.where(keep, 1.0 / np.sqrt(np.where(keep, values, 1.0)), 0.0)
    return (vectors * scale).T


def four_index(mole: Any, omega: float = 0.0) -> np.ndarray:
    """(pq|rs), packed over both pairs: shape (pq, pq)."""
    with mole.with_range_coulomb(omega or None):
        return mole.intor("int2e", aosym="s4")


def potentials(mole: Any, auxiliary: Any, root: np.ndarray | None, points: np.ndarray) -> np.ndarray:
    """Coulomb potentials at points (g, x), to go with :meth:`dqc.integrals.coulomb.Repulsion.mixed`.

    With an auxiliary basis and ``root``, the W of its :func:`inverse_root`, U_P(g) = sum_Q W_PQ V_Q(g),
    V_Q(g) = int Q(r) / |r - r_g| dr, shape (g, P); without them those of all products of AOs, shape (g, pq).
    """
    from pyscf import gto

    if root is None:
        p, q = np.tril_indices(mole.nao)
        return mole.intor("int1e_grids", hermi=1, grids=points)[:, p, q]
    charges = gto.fakemol_for_charges(points)
    return gto.mole.intor_cross("int2c2e", charges, auxiliary) @ root.T


def atomic_potential(mole: Any) -> np.ndarray:
    """<p| -V_sap |q>: the electrons' screening of the nuclei in a superposition of atomic potentials.

    Gaussian fits of the potentials of atoms: Lehtola, Visscher, Engel (2020), doi:10.1063/5.0004046.
    Where an effective core potential replaces electrons, the tightest Gaussians that hold as much
    charge are left out, since the effective nuclear charge accounts for them already.
    """
    from pyscf.gto.mole import fakemol_for_cgtf_charge

    screened = mole.copy(deep=False)
    for atom in range(mole.natm):
        exponents, charges = _potential_fit(mole.atom_pure_symbol(atom), mole.atom_nelec_core(atom))
        screened = screened + fakemol_for_cgtf_charge(mole.atom_coord(atom)[None], exponents, charges)
    shells = (0, mole.nbas, 0, mole.nbas, mole.nbas, screened.nbas)
    return -screened.intor("int3c2e", shls_slice=shells).sum(axis=2)


@lru_cache(maxsize=256)
def _potential_fit(element: str, core: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponents, falling, and charges of the fit of an atom's potential, less ``core`` electrons."""
    from pyscf.gto.basis import load

    fit = np.asarray(load("sap_grasp_large", element)[0][1:], dtype=float)
    exponents, charges = fit[np.argsort(-fit[:, 0])].T
    removed = np.minimum(np.maximum.accumulate(np.cumsum(-charges)), core)
    return exponents, charges + np.diff(removed, prepend=0.0)


def atomic_density(mole: Any) -> np.ndarray:
    """The density matrix of a superposition of spherical atoms, each in a minimal basis of atomic
    natural orbitals projected on its own AOs: block-diagonal, from PySCF's ``minao``."""
    density = np.zeros((mole.nao, mole.nao))
    for atom, (_, _, start, stop) in enumerate(mole.aoslice_by_atom()):
        symbol = mole.atom_symbol(atom)
        density[start:stop, start:stop] = _atom_density(
            symbol, repr(mole._basis[symbol]), repr(mole._ecp.get(symbol))
        )
    return density


@lru_cache(maxsize=256)
def _atom_density(element: str, basis: str, ecp: str) -> np.ndarray:
    """The block of one atom; its basis in PySCF's internal format, as text, so that it can be a key."""
    from pyscf import gto
    from pyscf.scf.hf import init_guess_by_minao

    cores = literal_eval(ecp)
    atom = gto.Mole(
        verbose=0, basis={element: literal_eval(basis)}, ecp={element: cores} if cores else {}, spin=None
    )
    atom.atom = [(element, (0.0, 0.0, 0.0))]
    return init_guess_by_minao(atom.build(dump_input=False, parse_arg=False))
