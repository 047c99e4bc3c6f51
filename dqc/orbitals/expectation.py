"""The energy of neural orbitals, and its gradient by the network's parameters.

The orbitals are made orthonormal inside, by Cholesky's factor of their quadrature overlap; the energy is
:func:`dqc.energy.energies` of the orbitals as their own basis. By its gradient with respect to their values
on the points everything else is linear, so that the network is differentiated sphere by sphere:
dE/dtheta = 2 sum_i f_i <d phi_i/d theta| F - e |phi_i>.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.energy import Energies, energies
from dqc.orbitals.field import on_points
from dqc.orbitals.neural import Neural, Nuclei, Parameters
from dqc.orbitals.quadrature import Quadrature
from dqc.xc.functional import Functional


def tabulate(
    network: Neural, parameters: Parameters, nuclei: Nuclei, grid: Quadrature
) -> Float[Array, "b d c n"]:
    """The network's functions and their gradients on all points, sphere by sphere."""
    return jax.lax.map(lambda points: network.values(parameters, nuclei, points), spheres(grid))


def spheres(grid: Quadrature) -> Float[Array, "b c x"]:
    """The points, sphere by sphere."""
    a, w, u = grid.weights.shape
    return grid.points.reshape(a * w, u, 3)


def orbitals_on(
    network: Neural, parameters: Parameters, nuclei: Nuclei, C: Float[Array, "s n i"], grid: Quadrature
) -> Float[Array, "b d c k"]:
    """The orbitals of all spins and their gradients on all points, not yet orthonormal."""
    columns = _columns(C)
    return jax.lax.map(lambda points: network.values(parameters, nuclei, points) @ columns, spheres(grid))


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


@partial(jax.jit, static_argnums=0)
def expectation(
    network: Neural,
    parameters: Parameters,
    nuclei: Nuclei,
    grid: Quadrature,
    xc: Functional,
    C: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
) -> Energies:
    """The energies of the orbitals sum_q chi_q C_qi on a grid."""
    return energies_on(grid, xc, orbitals_on(network, parameters, nuclei, C, grid), occupations)


@partial(jax.jit, static_argnums=0)
def overlap_on(
    network: Neural, parameters: Parameters, nuclei: Nuclei, grid: Quadrature, C: Float[Array, "s n i"]
) -> Float[Array, "s i i"]:
    """The orbitals' overlap on a grid."""
    psi = orbitals_on(network, parameters, nuclei, C, grid)[:, 0]
    psi = psi.reshape(-1, C.shape[0], C.shape[2])
    return jnp.einsum("g,gsi,gsj->sij", grid.weights.reshape(-1), psi, psi)


@partial(jax.jit, static_argnums=0)
def slope(
    network: Neural,
    parameters: Parameters,
    nuclei: Nuclei,
    grid: Quadrature,
    xc: Functional,
    C: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
) -> tuple[Float[Array, ""], Parameters]:
    """The energy and its gradient by the network's parameters, C being held."""
    psi = orbitals_on(network, parameters, nuclei, C, grid)
    energy, on_values = jax.value_and_grad(lambda psi: energies_on(grid, xc, psi, occupations).total)(psi)
    columns = _columns(C)

    def add(total: Parameters, each: tuple) -> tuple[Parameters, None]:
        points, cotangent = each
        pull = jax.vjp(lambda p: network.values(p, nuclei, points) @ columns, parameters)[1]
        return jax.tree.map(jnp.add, total, pull(cotangent)[0]), None

    zero = jax.tree.map(jnp.zeros_like, parameters)
    return energy, jax.lax.scan(add, zero, (spheres(grid), on_values))[0]


def _columns(C: Float[Array, "s n i"]) -> Float[Array, "n k"]:
    """The coefficients of both spins side by side."""
    return C.transpose(1, 0, 2).reshape(C.shape[1], -1)
