"""Electron repulsion tensors and their two contractions, J and K.

J_pq = sum_rs (pq|rs) P_rs is a symmetric linear map of the density matrix; K_pr = sum_qs (pq|rs) P_qs
is contracted with a factor of it, P = sum_i C_i f_i C_i^T, which costs O(n_P n^2 n_i) when fitted.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.types import pytree

BLOCK_BYTES = 64 * 2**20  # scratch memory of a block of half-transformed integrals


class Repulsion(Protocol):
    """A tensor of electron repulsion integrals over the operator erf(omega r)/r (1/r for omega = 0)."""

    omega: Float[Array, ""]

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]: ...

    def exchange(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s n n"]: ...

    def prepared(self, orbitals: Float[Array, "s n i"]) -> Array:
        """What :meth:`mixed` needs of the orbitals, once for all points."""
        ...

    def mixed(
        self, prepared: Array, potential: Array, values: Float[Array, "s c i"]
    ) -> Float[Array, "s c n"]:
        """G_r(g) = sum_i x_i(g) int r(r') phi_i(r') / |r' - r_g| dr', for given x_i at the points g."""
        ...


@pytree
class Fitted:
    """Density fitting: (pq|rs) = sum_P B_P,pq B_P,rs."""

    omega: Float[Array, ""]
    factor: Float[Array, "P pq"]  # B = M^(-1/2) (P|pq), hartree^(1/2)

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """J_pq = sum_P B_P,pq sum_rs B_P,rs P_rs."""
        return unpack((self.factor @ pack_density(density)) @ self.factor, density.shape[-1])

    def exchange(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s n n"]:
        """K_pr = sum_P,i X_P,pi f_i X_P,ri with X_P,pi = sum_q B_P,pq C_qi."""
        spins, n, slots = orbitals.shape
        rows = max(1, min(self.factor.shape[0], BLOCK_BYTES // (8 * n * max(n, spins * slots))))
        columns = orbitals.transpose(1, 0, 2).reshape(n, spins * slots)

        # The half-transformed integrals of a block are made anew in a reverse pass, not kept.
        @jax.checkpoint
        def block(factor: Float[Array, "P pq"]) -> Float[Array, "s n n"]:
            half = (unpack(factor, n).reshape(-1, n) @ columns).reshape(-1, n, spins, slots)
            half = half.transpose(2, 1, 0, 3)
            scaled = half * weights[:, None, None, :]
            return half.reshape(spins, n, -1) @ scaled.reshape(spins, n, -1).transpose(0, 2, 1)

        def add(k: Array, total: Float[Array, "s n n"]) -> Float[Array, "s n n"]:
            return total + block(jax.lax.dynamic_slice_in_dim(self.factor, k * rows, rows))

        whole = self.factor.shape[0] // rows
        rest = block(self.factor[whole * rows :])
        return jax.lax.fori_loop(0, whole, add, rest)

    def prepared(self, orbitals: Float[Array, "s n i"]) -> Float[Array, "s i P n"]:
        """B_P,ri = sum_q B_P,rq C_qi."""
        return jnp.einsum("Prq,sqi->siPr", unpack(self.factor, orbitals.shape[1]), orbitals)

    def mixed(
        self, prepared: Float[Array, "s i P n"], potential: Float[Array, "c P"], values: Float[Array, "s c i"]
    ) -> Float[Array, "s c n"]:
        """G_r(g) = sum_i x_i(g) sum_P U_P(g) B_P,ri, with U = M^(-1/2) V and V_P(g) the potential of P."""

        def add(G: Float[Array, "s c n"], each: tuple) -> tuple[Float[Array, "s c n"], None]:
            half, x = each
            return G + (x[:, :, None] * potential) @ half, None

        spins, points, _ = values.shape
        start = jnp.zeros((spins, points, prepared.shape[-1]), values.dtype)
        return jax.lax.scan(add, start, (prepared.swapaxes(0, 1), jnp.moveaxis(values, -1, 0)))[0]


@pytree
class Exact:
    """The four-index integrals themselves, packed over both pairs."""

    omega: Float[Array, ""]
    integrals: Float[Array, "pq pq"]  # hartree

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """J_pq = sum_rs (pq|rs) P_rs."""
        return unpack(self.integrals @ pack_density(density), density.shape[-1])

    def exchange(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s n n"]:
        """K_pr = sum_qs (pq|rs) P_qs, row by row, so that n^3 integrals are unpacked at a time."""
        density = jnp.einsum("sni,si,smi->snm", orbitals, weights, orbitals)
        n = density.shape[-1]
        row = jnp.arange(n)

        def one(p: Array) -> Float[Array, "s n"]:
            low, high = jnp.minimum(p, row), jnp.maximum(p, row)
            integrals = unpack(self.integrals[high * (high + 1) // 2 + low], n)
            return jnp.einsum("qrt,sqt->sr", integrals, density)

        return jax.lax.map(one, row).transpose(1, 0, 2)

    def prepared(self, orbitals: Float[Array, "s n i"]) -> Float[Array, "s n i"]:
        """The orbitals themselves."""
        return orbitals

    def mixed(
        self, prepared: Float[Array, "s n i"], potential: Float[Array, "c pq"], values: Float[Array, "s c i"]
    ) -> Float[Array, "s c n"]:
        """G_r(g) = sum_q (rq|1/|r - r_g|) sum_i C_qi x_i(g)."""
        psi = jnp.einsum("sci,sqi->scq", values, prepared)
        return jnp.einsum("crq,scq->scr", unpack(potential, prepared.shape[1]), psi)


def pack_density(density: Float[Array, "n n"]) -> Float[Array, " pq"]:
    """Lower triangle by rows with doubled off-diagonal: sum_pq A_pq P_pq = pack(A) . pack_density(P)."""
    p, q = _lower_triangle(density.shape[-1])
    return jnp.where(p == q, density[p, q], density[p, q] + density[q, p])


def pack(matrices: Float[Array, "*b n n"]) -> Float[Array, "*b pq"]:
    """The lower triangles of symmetric matrices, by rows."""
    p, q = _lower_triangle(matrices.shape[-1])
    return matrices[..., p, q]


def _lower_triangle(n: int) -> tuple[Int[Array, " pq"], Int[Array, " pq"]]:
    """Rows and columns, by rows, from a formula: ``jnp.tril_indices`` counts, in every program anew."""
    k = jnp.arange(n * (n + 1) // 2)
    p = ((jnp.sqrt(8.0 * k + 1.0) - 1.0) / 2.0).astype(k.dtype)
    return p, k - p * (p + 1) // 2


def unpack(packed: Float[Array, "*b pq"], n: int) -> Float[Array, "*b n n"]:
    """The symmetric matrices of packed lower triangles."""
    p, q = jnp.indices((n, n))
    low, high = jnp.minimum(p, q), jnp.maximum(p, q)
    return packed[..., high * (high + 1) // 2 + low]
