"""Electron repulsion tensors and their two contractions, J and K.

J_pq = sum_rs (pq|rs) P_rs is a symmetric linear map of the density matrix; K_pr = sum_qs (pq|rs) P_qs
is contracted with a factor of it, P = sum_i C_i f_i C_i^T, which costs O(n_P n^2 n_i) when fitted.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree

BLOCK_BYTES = 64 * 2**20  # scratch memory of a block of half-transformed integrals


class Repulsion(Protocol):
    """A tensor of electron repulsion integrals over the operator erf(omega r)/r (1/r for omega = 0)."""

    omega: Float[Array, ""]

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]: ...

    def exchange(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s n n"]: ...


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


def pack_density(density: Float[Array, "n n"]) -> Float[Array, " pq"]:
    """Lower triangle by rows with doubled off-diagonal: sum_pq A_pq P_pq = pack(A) . pack_density(P)."""
    p, q = jnp.tril_indices(density.shape[-1])
    return jnp.where(p == q, density[p, q], density[p, q] + density[q, p])


def pack(matrices: Float[Array, "*b n n"]) -> Float[Array, "*b pq"]:
    """The lower triangles of symmetric matrices, by rows."""
    p, q = jnp.tril_indices(matrices.shape[-1])
    return matrices[..., p, q]


def unpack(packed: Float[Array, "*b pq"], n: int) -> Float[Array, "*b n n"]:
    """The symmetric matrices of packed lower triangles."""
    p, q = jnp.indices((n, n))
    low, high = jnp.minimum(p, q), jnp.maximum(p, q)
    return packed[..., high * (high + 1) // 2 + low]
