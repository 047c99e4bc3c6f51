"""The Kohn-Sham energy, one term a line, and its derivative, the Fock matrix.

With P_s = C_s f_s C_s^T and P = sum_s P_s,

    E = tr(T P) + tr(V P) + 1/2 tr(J[P] P) - 1/2 sum_ks a_k tr(K_k[P_s] P_s) + sum_g w e(rho) + E_nn,

and F_s = dE/dP_s. ``energies`` evaluates E; ``fock`` evaluates E and F in one pass over the integrals
and the grid. Pople, Gill, Johnson (1992), doi:10.1016/0009-2614(92)85009-Y.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.basis import Basis
from dqc.density import density_matrix, exchange_row, features, spin_rows
from dqc.derivatives import attach
from dqc.grid import Block, Grid
from dqc.integrals.ao import ao_indices, ao_values
from dqc.system import System
from dqc.types import pytree, replace
from dqc.xc.functional import Functional


@pytree
class Energies:
    """The terms of the energy, hartree."""

    kinetic: Float[Array, ""]
    nuclear_attraction: Float[Array, ""]
    coulomb: Float[Array, ""]
    exact_exchange: Float[Array, ""]
    xc: Float[Array, ""]  # the semilocal part
    nuclear_repulsion: Float[Array, ""]
    smearing: Float[Array, ""]  # -T S, zero for given occupations

    @property
    def total(self) -> Float[Array, "*b"]:
        """Their sum; under smearing the free energy."""
        return sum(jax.tree.leaves(self), jnp.zeros(()))


def energies(
    system: System,
    xc: Functional,
    orbitals: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
    keep: bool = True,
) -> Energies:
    """The energies alone, on ``system.grid``: what is differentiated by everything but P.

    Of each chunk of the grid a reverse pass needs what the functional sees there. To ``keep`` it, which is
    little, spares the AO values where the energies are wanted with their derivatives by the functional. Where
    derivatives alone are wanted, it costs a pass over the grid that is not needed otherwise.
    """
    P = density_matrix(orbitals, occupations).sum(0)
    J = system.repulsion[0].coulomb(P)
    _, E_x = exact_exchange(system, xc, orbitals, occupations)
    E_xc = jnp.zeros((), orbitals.dtype)
    mixed = exchange_on_points(system, xc, orbitals, occupations)

    def seen(block: Block) -> tuple[Any, ...]:
        ao, local, _ = chunk_orbitals(system, xc, block, orbitals)
        return *spin_rows(ao, local, occupations, xc.needs.rung), mixed(block, ao, local)[0]

    def integrated(weights: Array, rows: tuple[Any, ...]) -> Array:
        return jnp.vdot(weights, xc(features(*rows)))

    def chunk(E: Array, block: Block) -> tuple[Array, None]:
        return E + integrated(block.weights, seen(block)), None

    # A policy that keeps the rows by their name loses terms of jax.grad by positions of jax.grad by the
    # functional (jax 0.10).
    if keep:
        seen, integrated = jax.checkpoint(seen), jax.checkpoint(integrated)
    else:
        chunk = jax.checkpoint(chunk)
    exchange = exchange_on_all(system, xc, orbitals, occupations)
    for block in blocks_of(xc, system.grid, exchange):
        E_xc, _ = jax.lax.scan(chunk, E_xc, block)
    return assemble(system, P, J, E_x, E_xc)


def fock(
    system: System,
    xc: Functional,
    orbitals: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
    grid: Grid | None,
) -> tuple[Float[Array, "s n n"], Energies]:
    """The Fock matrix F_s = dE/dP_s (for one spin row dE/dP) and the energies, in one pass.

    ``grid`` is ``system.grid``, or ``system.coarse`` for a cheaper, less accurate pass.
    """
    P = density_matrix(orbitals, occupations).sum(0)
    J = system.repulsion[0].coulomb(P)
    F_x, E_x = exact_exchange(system, xc, orbitals, occupations)
    F_xc, E_xc = semilocal(system, xc, orbitals, occupations, grid)
    return system.kinetic + system.nuclear + J + F_x + F_xc, assemble(system, P, J, E_x, E_xc)


def assemble(system: System, P: Float[Array, "n n"], J: Float[Array, "n n"], E_x: Any, E_xc: Any) -> Energies:
    """All terms, from the density matrix of both spins, its J, and the two parts of E_xc."""
    return Energies(
        kinetic=jnp.vdot(system.kinetic, P),
        nuclear_attraction=jnp.vdot(system.nuclear, P),
        coulomb=0.5 * jnp.vdot(J, P),
        exact_exchange=E_x,
        xc=E_xc,
        nuclear_repulsion=system.nuclear_repulsion,
        smearing=jnp.zeros_like(E_xc),
    )


def exact_exchange(
    system: System, xc: Functional, orbitals: Float[Array, "s n i"], occupations: Float[Array, "s i"]
) -> tuple[Float[Array, "s n n"], Float[Array, ""]]:
    """-1/2 sum_ks a_k tr(K_k[P_s] P_s) and its derivative by P_s, over the functional's operators."""
    spins, n, _ = orbitals.shape
    F, E = jnp.zeros((spins, n, n), orbitals.dtype), jnp.zeros((), orbitals.dtype)
    if not xc.needs.omegas:
        return F, E
    one_spin = occupations / (3 - spins)
    P = density_matrix(orbitals, one_spin)
    available = dict(zip(xc.needs.operators, system.repulsion, strict=False))
    for omega, coefficient in xc.exchange().items():
        K = coefficient * available[omega].exchange(orbitals, one_spin)
        F, E = F - K, E - 0.5 * (3 - spins) * jnp.vdot(K, P)
    return F, E


def semilocal(
    system: System,
    xc: Functional,
    orbitals: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
    grid: Grid | None,
) -> tuple[Float[Array, "s n n"], Float[Array, ""]]:
    """sum_g w_g e(g) and its derivative by P_s, chunk by chunk of the grid."""
    spins, n, _ = orbitals.shape
    F, E = jnp.zeros((spins, n, n), orbitals.dtype), jnp.zeros((), orbitals.dtype)
    mixed = exchange_on_points(system, xc, orbitals, occupations)

    # Nothing of a chunk is kept for a reverse pass: that would be all AO values of the grid.
    @jax.checkpoint
    def chunk(carry: tuple, block: Block) -> tuple[tuple, Array | None]:
        F, E = carry
        ao, local, index = chunk_orbitals(system, xc, block, orbitals)
        row, G = mixed(block, ao, local)
        part, energy, v_x = chunk_semilocal(xc, ao, block.weights, local, occupations, row)
        F = F.at[:, index[:, None], index].add(part, mode="drop")
        if G is not None:  # de_x = -sum_pr dP_pr p G_r
            assert v_x is not None
            F = F.at[:, index].add(_products(ao[0], -0.5 * v_x[:, :, None] * G), mode="drop")
        return (F, E + energy), v_x if G is None else None

    exchange, pull = jax.vjp(lambda C: exchange_on_all(system, xc, C, occupations), orbitals)
    v_x = None
    for block in blocks_of(xc, grid, exchange):
        (F, E), v_x = jax.lax.scan(chunk, (F, E), block)
    F = F + F.transpose(0, 2, 1)
    if exchange is not None:
        of_all: Any = system.repulsion[0]
        F = F + of_all.of_slope(orbitals, occupations / (3 - spins), pull(v_x)[0])
    return F, E


def exchange_on_points(
    system: System, xc: Functional, orbitals: Float[Array, "s n i"], occupations: Float[Array, "s i"]
) -> Callable[[Block, Array, Array], tuple[Any, Any]]:
    """A function of a chunk: its exact-exchange energy density and the G of ``Repulsion.mixed``.

    Both are None for functionals that do not read it, and G is where the density comes from
    :func:`exchange_on_all`.
    """
    if not xc.needs.exchange_density:
        return lambda block, ao, local: (None, None)
    if not system.basis:
        return lambda block, ao, local: (block.potential, None)
    repulsion, one_spin = system.repulsion[0], occupations / (3 - occupations.shape[0])
    prepared = repulsion.prepared(orbitals)

    def of_chunk(block: Block, ao: Array, local: Array) -> tuple[Array, Array]:
        values = jnp.einsum("cm,smi->sci", ao[0], local) * one_spin[:, None]
        assert block.potential is not None
        G = repulsion.mixed(prepared, block.potential, values)
        return exchange_row(G, orbitals, values), G

    return of_chunk


def exchange_on_all(
    system: System, xc: Functional, orbitals: Float[Array, "s n i"], occupations: Float[Array, "s i"]
) -> Float[Array, "b s c"] | None:
    """The exact-exchange energy density on all points, of functions that are known by their values alone:
    there no chunk knows it by itself. Else None."""
    if not xc.needs.exchange_density or system.basis:
        return None
    of_all: Any = system.repulsion[0]  # dqc.orbitals.field.Multicentre
    return of_all.exchange_density(orbitals, occupations / (3 - occupations.shape[0]))


def blocks_of(
    xc: Functional, grid: Grid | None, exchange: Float[Array, "b s c"] | None = None
) -> tuple[Block, ...]:
    """The blocks that a functional integrates over: none without a semilocal part."""
    blocks = () if xc.needs.rung == "none" or grid is None else grid.blocks
    return blocks if exchange is None else tuple(replace(b, potential=exchange) for b in blocks)


def chunk_orbitals(
    system: System, xc: Functional, block: Block, orbitals: Float[Array, "s n i"]
) -> tuple[Float[Array, "d c m"], Float[Array, "s m i"], Int[Array, " m"]]:
    """The AO values of a chunk, the orbitals' coefficients in those AOs, and the AOs' indices."""
    if not system.basis:  # functions that are known by their values on the points alone
        assert block.ao is not None
        return block.ao, orbitals, jnp.arange(orbitals.shape[1])
    index = ao_indices(system.basis, block.shells) if block.index is None else block.index
    # A ghost may have any coefficients, since its AO values are zero: clipping costs less than filling.
    return chunk_ao(system, xc, block), orbitals.at[:, index].get(mode="clip"), index


def chunk_ao(system: System, xc: Functional, block: Block) -> Float[Array, "d c m"]:
    """The AO values of one chunk, stored or computed; both move with the nuclei."""
    order = int(xc.needs.rung != "lda") if block.ao is None else int(block.ao.shape[0] > 1)
    args = (system.basis, system.coords, block.atom, block.offset, block.shells)
    if block.ao is None:
        return moving_ao(order, *args)
    return attach(block.ao, partial(moving_ao, order), *args)


def moving_ao(
    order: int,
    basis: Basis,
    coords: Float[Array, "a x"],
    atom: Int[Array, " c"],
    offset: Float[Array, "c x"],
    shells: tuple[Array, ...],
) -> Float[Array, "d c m"]:
    """AO values (and, for ``order=1``, gradients) on points that move with their atoms."""
    return ao_values(basis, coords, shells, coords[atom] + offset, order)


def chunk_semilocal(
    xc: Functional,
    ao: Float[Array, "d c m"],
    weights: Float[Array, " c"],
    orbitals: Float[Array, "s m i"],
    occupations: Float[Array, "s i"],
    exchange: Float[Array, "s c"] | None,
) -> tuple[Float[Array, "s m m"], Float[Array, ""], Float[Array, "s c"] | None]:
    """A chunk's energy, and half of its Fock matrix: the other half is the transpose.

    F_pq = sum_g p (v_rho / 2 q + v_grad . grad q) + 1/4 v_tau grad p . grad q + transpose, and beside it
    the derivative by the exact-exchange energy density, where there is one.
    """
    spins = orbitals.shape[0]
    rows = (*spin_rows(ao, orbitals, occupations, xc.needs.rung), exchange)
    energy, pull = jax.vjp(lambda *rows: xc(features(*rows)), *rows)
    v_rho, v_grad, v_tau, v_x = jax.tree.map(lambda v: v / (3 - spins), pull(weights))
    left = 0.5 * v_rho[:, :, None] * ao[0]
    if v_grad is not None:
        left = left + sum(v_grad[:, k, :, None] * ao[1 + k] for k in range(3))
    half = _products(ao[0], left)
    if v_tau is not None:
        for k in range(3):
            half = half + _products(ao[1 + k], 0.25 * v_tau[:, :, None] * ao[1 + k])
    return half, jnp.vdot(weights, energy), v_x


def _products(ao: Float[Array, "c m"], right: Float[Array, "s c n"]) -> Float[Array, "s m n"]:
    spins, _, n = right.shape
    stacked = right.transpose(1, 0, 2).reshape(-1, spins * n)
    return (ao.T @ stacked).reshape(-1, spins, n).transpose(1, 0, 2)
