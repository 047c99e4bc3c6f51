"""Local hybrids in PySCF: energy and Kohn-Sham matrix of a functional that reads exact exchange at points.

With P of one spin, psi_r(g) = sum_q P_rq chi_q(g) and A_rs(g) = int r(r') s(r') / |r' - r_g| dr',

    G_r(g) = sum_s A_rs(g) psi_s(g),   e_x(g) = -1/2 sum_r psi_r(g) G_r(g),   de_x = -sum_pr dP_pr chi_p G_r.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dqc.integrals.libcint import inverse_root, metric
from dqc.interop.energy_density import CHUNK, energy_with_exchange
from dqc.xc.functional import Functional

POTENTIAL_BYTES = 64 * 2**20  # scratch memory of a block of A
RANK = 1e-13  # eigenvalues of a density matrix that are relatively below this are round-off

Mixed = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def integrate(
    integrator: Any, xc: Functional, mol: Any, grids: Any, P: np.ndarray, fitting: Any
) -> tuple[np.ndarray, float, np.ndarray]:
    """Electrons, sum_g w_g e(g) and its derivative by ``P``, (1, n, n) for the density of both spins or
    (2, n, n). ``fitting`` is PySCF's density fitting of the exact-exchange energy density, or None."""
    P = 0.5 * (P + P.transpose(0, 2, 1))
    electrons, energy, half = np.zeros(len(P)), 0.0, np.zeros_like(P)
    if xc.needs.rung == "none":
        return electrons, energy, half
    mixed = _exact(mol) if fitting is None else _fitted(fitting, P)
    for ao, weights, points in _blocks(integrator, xc, mol, grids):
        psi = ao[0] @ P
        G = mixed(points, ao[0], psi)
        # Of both spins together half the square of twice the density of one.
        scale = -0.5 / (3 - len(P))
        x = _rows(ao, psi, P, xc.needs.rung)
        e, v, v_x = energy_with_exchange(xc, x, scale * np.einsum("sgr,sgr->sg", psi, G))
        electrons += x[:, 0] @ weights
        energy += float(e @ weights)
        half += _half(ao, weights * v, (scale * weights * v_x)[:, :, None] * G)
    return electrons, energy, half + half.transpose(0, 2, 1)


def _blocks(integrator: Any, xc: Functional, mol: Any, grids: Any) -> Any:
    """AO values (and gradients), weights and points of blocks that fill one evaluation of a functional."""
    from pyscf.dft.gen_grid import BLKSIZE

    size, order = CHUNK // BLKSIZE * BLKSIZE, int(xc.needs.rung != "lda")
    for ao, _, weights, points in integrator.block_loop(mol, grids, mol.nao, order, blksize=size):
        yield ao if order else ao[None], weights, points


def _rows(ao: np.ndarray, psi: np.ndarray, P: np.ndarray, rung: str) -> np.ndarray:
    """Density, gradient and tau, as far as the rung reads them: (spin, rows, points)."""
    rows = [np.einsum("gp,sgp->sg", ao[0], psi)]
    if rung != "lda":
        rows += [2.0 * np.einsum("gp,sgp->sg", slope, psi) for slope in ao[1:]]
    if rung == "mgga":
        rows.append(0.5 * sum(np.einsum("gp,sgp->sg", slope, slope @ P) for slope in ao[1:]))
    return np.stack(rows, 1)


def _half(ao: np.ndarray, v: np.ndarray, exchange: np.ndarray) -> np.ndarray:
    """Half of the Kohn-Sham matrix, whose other half is the transpose; weights are in the derivatives.

    sum_g p (v_rho / 2 q + v_grad . grad q + v_x (-1/2 G_q)) + 1/4 v_tau grad p . grad q
    """
    left = exchange + 0.5 * v[:, 0, :, None] * ao[0]
    for k in range(1, min(v.shape[1], 4)):
        left += v[:, k, :, None] * ao[k]
    half = ao[0].T @ left
    if v.shape[1] > 4:
        for slope in ao[1:]:
            half += slope.T @ (0.25 * v[:, 4, :, None] * slope)
    return half


def _exact(mol: Any) -> Mixed:
    """G from the potentials of all products of AOs, block by block of the points."""
    step = max(1, POTENTIAL_BYTES // (8 * mol.nao**2))

    def mixed(points: np.ndarray, values: np.ndarray, psi: np.ndarray) -> np.ndarray:
        G = np.empty_like(psi)
        for start in range(0, len(points), step):
            here = slice(start, start + step)
            A = mol.intor("int1e_grids", hermi=1, grids=points[here])
            G[:, here] = (A @ psi[:, here].transpose(1, 2, 0)).transpose(2, 0, 1)
        return G

    return mixed


def _fitted(fitting: Any, P: np.ndarray) -> Mixed:
    """G from the potentials V_Q of the fitting functions: with P = sum_i C_i f_i C_i^T and phi_i = chi . C_i,

    G_r(g) = sum_i f_i phi_i(g) sum_Q V_Q(g) c_Q,ri,    c_Q,ri = sum_R M^(-1)_QR (R|ri).
    """
    from pyscf import gto

    root = _root(fitting)
    factors = [_factors(p) for p in P]
    c = [_coefficients(fitting, root, C) for C, _ in factors]

    def mixed(points: np.ndarray, values: np.ndarray, psi: np.ndarray) -> np.ndarray:
        charges = gto.fakemol_for_charges(points)
        charges.cart = fitting.auxmol.cart
        V = gto.mole.intor_cross("int2c2e", charges, fitting.auxmol)
        G = np.zeros_like(psi)
        for s, (C, f) in enumerate(factors):
            for x, c_i in zip(((values @ C) * f).T, c[s], strict=True):
                G[s] += x[:, None] * (V @ c_i)
        return G

    return mixed


def _factors(P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C and f of P = C f C^T, of as many columns as the rank."""
    f, C = np.linalg.eigh(P)
    keep = np.abs(f) > RANK * np.abs(f).max()
    return C[:, keep], f[keep]


def _root(fitting: Any) -> np.ndarray:
    """The W of PySCF's integrals W (Q|pq), which are made as in :mod:`dqc.integrals.libcint`."""
    rows = fitting.get_naoaux()  # which computes them, where that is still to be done
    if fitting.auxmol is not None:
        W = inverse_root(metric(fitting.auxmol))
        W = W[W.any(1)]  # of a singular metric PySCF drops the rows that are zero here
        if len(W) == rows:
            return W
    raise ValueError(
        "The exact-exchange energy density needs the auxiliary basis of the fitted integrals, and these were "
        "read, not computed: take mf.density_fit(auxbasis)."
    )


def _coefficients(fitting: Any, root: np.ndarray, C: np.ndarray) -> np.ndarray:
    """c of :func:`_fitted`, by (i, Q, r)."""
    from pyscf import lib

    c, start = np.zeros((root.shape[1], C.size)), 0
    for packed in fitting.loop():
        half = (lib.unpack_tril(packed) @ C).reshape(len(packed), -1)
        c += root[start : start + len(packed)].T @ half
        start += len(packed)
    return np.ascontiguousarray(c.reshape(-1, *C.shape).transpose(2, 0, 1))
