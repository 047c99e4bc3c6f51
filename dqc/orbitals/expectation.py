"""The energy of neural orbitals, and its gradient by the network's parameters.

The orbitals are made orthonormal inside, by Cholesky's factor of their quadrature overlap; the energy is
:func:`dqc.energy.energies` of the orbitals as their own basis. By its gradient with respect to their values
on the points everything else is linear, so that the network is differentiated sphere by sphere:
dE/dtheta = 2 sum_i f_i <d phi_i/d theta| F - e |phi_i>.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.energy import Energies, energies
from dqc.orbitals.field import on_points
from dqc.orbitals.neural import Orbitals, Parameters
from dqc.orbitals.quadrature import Quadrature
from dqc.system import System
from dqc.types import replace
from dqc.xc.functional import Functional


def spheres(grid: Quadrature) -> Float[Array, "b c x"]:
    """The points, sphere by sphere."""
    a, w, u = grid.weights.shape
    return grid.points.reshape(a * w, u, 3)


@jax.jit
def functions_on(orbitals: Orbitals, grid: Quadrature) -> Float[Array, "b d c n"]:
    """The network's functions and their gradients on all points, sphere by sphere."""
    return jax.lax.map(orbitals.functions, spheres(grid))


def system_on(orbitals: Orbitals, grid: Quadrature) -> System:
    """The system of the network's functions on a grid, in which the linear layer is solved."""
    return on_points(grid, functions_on(orbitals, grid), orbitals.occupations)


def orbitals_on(orbitals: Orbitals, grid: Quadrature) -> Float[Array, "b d c k"]:
    """The orbitals of all spins and their gradients on all points, not yet orthonormal."""
    return jax.lax.map(orbitals.values, spheres(grid))


def energies_on(
    grid: Quadrature, xc: Functional, psi: Float[Array, "b d c k"], occupations: Float[Array, "s i"]
) -> Energies:
    """The energies of the orthonormalised orbitals, given by values and gradients on the points."""
    system = on_points(grid, psi, occupations)
    return energies(system, xc, orthonormal(system.overlap, occupations.shape[0]), occupations)


def orthonormal(overlap: Float[Array, "k k"], spins: int) -> Float[Array, "s k i"]:
    """Coefficients of orthonormal orbitals in the raw ones: L^(-T) of S = L L^T, spin by spin."""
    k = overlap.shape[0]
    i = k // spins
    one = jnp.eye(i)
    rows = []
    for s in range(spins):
        L = jnp.linalg.cholesky(overlap[s * i : (s + 1) * i, s * i : (s + 1) * i])
        inverse = jax.scipy.linalg.solve_triangular(L, one, lower=True).T
        rows.append(jnp.zeros((k, i)).at[s * i : (s + 1) * i].set(inverse))
    return jnp.stack(rows)


@jax.jit
def expectation(orbitals: Orbitals, grid: Quadrature, xc: Functional) -> Energies:
    """The energies of orbitals on a grid."""
    return energies_on(grid, xc, orbitals_on(orbitals, grid), orbitals.occupations)


@jax.jit
def overlap_on(orbitals: Orbitals, grid: Quadrature) -> Float[Array, "s i i"]:
    """The orbitals' overlap on a grid."""
    spins, _, slots = orbitals.C.shape
    psi = orbitals_on(orbitals, grid)[:, 0].reshape(-1, spins, slots)
    return jnp.einsum("g,gsi,gsj->sij", grid.weights.reshape(-1), psi, psi)


@jax.jit
def slope(orbitals: Orbitals, grid: Quadrature, xc: Functional) -> tuple[Float[Array, ""], Parameters]:
    """The energy and its gradient by the network's parameters, C being held."""
    f = orbitals.occupations
    psi = orbitals_on(orbitals, grid)
    energy, on_values = jax.value_and_grad(lambda psi: energies_on(grid, xc, psi, f).total)(psi)

    def add(total: Parameters, each: tuple) -> tuple[Parameters, None]:
        points, cotangent = each
        pull = jax.vjp(lambda p: replace(orbitals, parameters=p).values(points), orbitals.parameters)[1]
        return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

    zero = jax.tree.map(jnp.zeros_like, orbitals.parameters)
    return energy, jax.lax.scan(add, zero, (spheres(grid), on_values))[0]
