"""Functions on the points of atomic grids as a ``System``: the one energy of the library then serves them.

Overlap, kinetic energy, nuclear attraction and dipole are quadratures, T = 1/2 sum_g w grad p . grad q from
first derivatives; Coulomb and exchange come from the multicentre Poisson solver.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.grid import Block, Grid
from dqc.nuclei import nuclear_repulsion
from dqc.orbitals.poisson import potential, weighted_potential
from dqc.orbitals.quadrature import Quadrature
from dqc.system import System
from dqc.types import pytree

PAIRS = 8  # densities whose potentials are computed at a time


@pytree
class Multicentre:
    """The repulsion 1/r or erf(omega r)/r of functions on atomic grids."""

    omega: Float[Array, ""]
    grid: Quadrature
    values: Float[Array, "b c n"]  # the functions, sphere by sphere
    overlap: Float[Array, "n n"]

    def coulomb(self, density: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """J_pq = sum_g p q d(E_H)/d(rho_g): the derivative of the discretised Hartree energy."""
        rho = ((self.values @ density) * self.values).sum(-1)
        V = weighted_potential(self.grid, rho.reshape(1, *self.grid.weights.shape))
        return _matrix(self.values, V.reshape(*rho.shape, 1) * self.values)

    def exchange(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s n n"]:
        """K_pr = sum_j f_j (p j|j r), wherever one side is an occupied orbital."""
        psi = self._occupied(orbitals, weights)
        symmetric = partial(weighted_potential, self.grid)
        rows = jax.vmap(partial(self._potentials, symmetric))(psi, weights)  # w K phi_i
        return self._on_occupied(orbitals, weights, jnp.einsum("bcn,sibc->sni", self.values, rows))

    def exchange_density(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "b s c"]:
        """e(g) = -1/2 sum_ij f_i f_j phi_i phi_j(g) V_ij(g), exact exchange of each spin per volume."""
        psi = self._occupied(orbitals, weights)
        rows = jax.vmap(partial(self._potentials, partial(potential, self.grid)))(psi, weights)
        return -0.5 * jnp.einsum("si,sibc,sibc->bsc", weights, psi, rows)

    def of_slope(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"], slope: Float[Array, "s n i"]
    ) -> Float[Array, "s n n"]:
        """The F_s = dE/dP_s that gives a ``slope`` dE/dC_si = 2 f_i F_s C_si, with E of one spin alone."""
        half = 0.5 * slope / jnp.where(weights == 0, 1.0, weights)[:, None]
        return self._on_occupied(orbitals, weights, half)

    def _occupied(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"]
    ) -> Float[Array, "s i b c"]:
        return jnp.einsum("bcn,sni->sibc", self.values, orbitals) * (weights != 0)[:, :, None, None]

    def _on_occupied(
        self, orbitals: Float[Array, "s n i"], weights: Float[Array, "s i"], W: Float[Array, "s n i"]
    ) -> Float[Array, "s n n"]:
        """The symmetric A with A C_i = W_i for occupied orbitals, and nothing between two functions that are
        orthogonal to these: no Fock matrix asks for more.

        A = W Q^T + Q W^T - Q (C^T W) Q^T with Q = S C, the part of the compression of Lin (2016),
        doi:10.1021/acs.jctc.6b00092, that needs no inverse: it serves operators of any sign.
        """
        W = W * (weights != 0)[:, None]
        Q = self.overlap @ (orbitals * (weights != 0)[:, None])
        M = jnp.einsum("sni,snj->sij", orbitals, W)
        half = (W - 0.5 * Q @ M) @ Q.transpose(0, 2, 1)
        return half + half.transpose(0, 2, 1)

    def _potentials(
        self, solve: Callable[[Array], Array], psi: Float[Array, "i b c"], weights: Float[Array, " i"]
    ) -> Float[Array, "i b c"]:
        """sum_j f_j V_ij phi_j of one spin, with V_ij what ``solve`` makes of phi_i phi_j, pair by pair."""
        i, j = np.asarray(np.triu_indices(psi.shape[0]))
        missing = -len(i) % min(PAIRS, len(i))
        # Pairs that fill the last batch count for nothing.
        counts = np.concatenate([np.ones(len(i)), np.zeros(missing)]).reshape(-1, min(PAIRS, len(i)))
        i, j = (np.concatenate([x, x[:1].repeat(missing)]).reshape(counts.shape) for x in (i, j))

        def add(total: Array, pairs: tuple) -> tuple[Array, None]:
            i, j, count = pairs
            rho = (psi[i] * psi[j]).reshape(-1, *self.grid.weights.shape)
            V = solve(rho).reshape(-1, *psi.shape[1:]) * count[:, None, None]
            total = total.at[i].add(V * psi[j] * weights[j][:, None, None])
            once = (i != j)[:, None, None]
            return total.at[j].add(jnp.where(once, V * psi[i] * weights[i][:, None, None], 0.0)), None

        return jax.lax.scan(add, jnp.zeros_like(psi), tuple(map(jnp.asarray, (i, j, counts))))[0]


@jax.jit
def on_points(grid: Quadrature, values: Float[Array, "b d c n"], occupations: Float[Array, "s i"]) -> System:
    """The system of functions given by values and gradients on the grid's points, sphere by sphere."""
    a, w, u = grid.weights.shape
    n = values.shape[-1]
    weights = grid.weights.reshape(a * w, u)
    chi = values[:, 0]
    S, T, V, mu = _one_electron(grid, values, weights)
    atom = jnp.broadcast_to(jnp.repeat(jnp.arange(a), w)[:, None], (a * w, u))
    block = Block(
        atom=atom,
        offset=grid.offset.reshape(a * w, u, 3),
        quadrature=weights / jnp.where(weights == 0, 1.0, grid.share.reshape(a * w, u)),
        weights=weights,
        shells=(),
        ao=values,
    )
    return System(
        charges=grid.charges,
        coords=grid.coords,
        nuclear_repulsion=nuclear_repulsion(grid.coords, grid.charges),
        overlap=S,
        kinetic=T,
        nuclear=V,
        screening=jnp.zeros((n, n)),
        atomic_density=jnp.zeros((n, n)),
        dipole=mu,
        repulsion=tuple(Multicentre(omega, g, chi, S) for omega, g in grid.operators()),  # type: ignore
        basis=(),
        grid=Grid((block,), grid.radii),
        coarse=None,
        occupations=occupations,
        source=None,
    )


def _one_electron(grid: Quadrature, values: Array, weights: Float[Array, "b c"]) -> tuple[Array, ...]:
    """S, T, V and the dipole, sphere by sphere."""
    points = grid.points.reshape(*weights.shape, 3)
    n = values.shape[-1]

    def sphere(total: tuple, each: tuple) -> tuple[tuple, None]:
        (chi, *slopes), w, r = each
        left = w[:, None] * chi
        terms = [
            left.T @ chi,
            0.5 * sum((w[:, None] * s).T @ s for s in slopes),
            (grid.attraction(r)[:, None] * left).T @ chi,
            jnp.stack([(r[:, k, None] * left).T @ chi for k in range(3)]),
        ]
        return tuple(a + b for a, b in zip(total, terms, strict=True)), None

    zero = jnp.zeros((n, n))
    start = (zero, zero, zero, jnp.zeros((3, n, n)))
    return jax.lax.scan(sphere, start, (values, weights, points))[0]


def _matrix(chi: Float[Array, "b c n"], right: Float[Array, "b c n"]) -> Float[Array, "n n"]:
    n = chi.shape[-1]
    return chi.reshape(-1, n).T @ right.reshape(-1, n)
