"""The decay v_xc -> -1/r far outside a neutral or charged system.

Almbladh, von Barth (1985), doi:10.1103/PhysRevB.31.3231.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.energy import chunk_orbitals
from dqc.grid import Block, Grid
from dqc.integrals.ao import all_shells, ao_indices, ao_values
from dqc.solution import Solution
from dqc.system import System
from dqc.xc.features import Features
from dqc.xc.functional import Functional

THRESHOLDS = (1e-3, 1e-4, 1e-5)  # densities, electrons/bohr^3, below which the tail begins


def tail(
    system: System, xc: Functional, solution: Solution, thresholds: tuple[float, ...] = THRESHOLDS
) -> Float[Array, ""]:
    """mean over k of (<t_k| v_xc + 1/r |phi> / <t_k| 1/r |phi>)^2, dimensionless, phi being the HOMO.

    t_k = phi (n_k / (n + n_k))^3 is the part of phi where the density is below n_k. v_xc is the whole
    operator, with the kinetic-energy density and exact exchange (which acts as -1/r on occupied orbitals,
    not on others); v_xc phi is expanded in the basis, which should have diffuse functions. 1/r is the
    nuclei's potential over their charge. Near 1 for a semilocal functional; differentiable through the
    solution too. NaN where that has not converged. Raises ``ValueError`` for a system without a grid.
    """
    if system.grid is None:
        raise ValueError(
            "the tail is found on a grid: build the system with a semilocal xc=, or without xc=."
        )
    f, rows = solution.occupations, solution.occupations.shape[0]
    C = solution.mo_coeff[:, :, : f.shape[1]]
    held = jnp.where(f > 0.5 * (3 - rows), solution.mo_energy[:, : f.shape[1]], -jnp.inf)
    spin, slot = jnp.unravel_index(jnp.argmax(held), held.shape)
    J = system.repulsion[0].coulomb(solution.density_matrix.sum(0))
    v_xc = solution.fock[spin] - system.kinetic - system.nuclear - J
    changed = jnp.linalg.solve(system.overlap, v_xc @ C[spin, :, slot])
    C, f = jax.lax.stop_gradient((C, f))
    exact, given = _in_windows(
        system.grid, system, xc, C, f, C[spin, :, slot], changed, jnp.asarray(thresholds)
    )
    return jnp.mean((given / exact + 1.0) ** 2) + jnp.where(solution.converged, 0.0, jnp.nan)


def _in_windows(
    grid: Grid,
    system: System,
    xc: Functional,
    orbitals: Float[Array, "s n i"],
    occupations: Float[Array, "s i"],
    phi: Float[Array, " n"],
    changed: Float[Array, " n"],
    thresholds: Float[Array, " q"],
) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    """<t_k| 1/r |phi>, and <t_k|changed> with an orbital that v_xc made of phi, on the grid."""
    both = jnp.stack([phi, changed], axis=1)

    def chunk(total: tuple[Array, Array], block: Block) -> tuple[tuple[Array, Array], None]:
        ao, local, index = chunk_orbitals(system, xc, block, orbitals)
        rho = jnp.einsum("sci,si->c", jnp.einsum("cm,smi->sci", ao[0], local) ** 2, occupations)
        value, made = (ao[0] @ both.at[index].get(mode="fill", fill_value=0.0)).T
        points = system.coords[block.atom] + block.offset
        distance = jnp.linalg.norm(points[:, None] - system.coords, axis=-1)
        unit = (system.charges / jnp.maximum(distance, 1e-8)).sum(1) / system.charges.sum()
        t = (thresholds[:, None] / (rho + thresholds[:, None])) ** 3 * value * block.weights
        return (total[0] + t @ (unit * value), total[1] + t @ made), None

    total = (jnp.zeros_like(thresholds), jnp.zeros_like(thresholds))
    for block in grid.blocks:
        total, _ = jax.lax.scan(chunk, total, block)
    return total


def radial_potential(
    xc: Functional, density: Callable[[Array], Array], r: Float[Array, " g"]
) -> Float[Array, "2 g"]:
    """v_xc(r) of a spherical density, hartree: de/dn - r^-2 d/dr (r^2 de/dn') by differentiation in r.

    ``density`` maps radii (bohr) to spin densities of shape (2, g). Of a hybrid it is the semilocal part.
    Raises ``ValueError`` for a meta-GGA, whose potential is no function of r: see :func:`tail`.
    """
    if xc.needs.rung == "mgga":
        raise ValueError("a meta-GGA has no local potential; losses.tail serves every functional.")

    def parts(r: Array) -> tuple[Array, Array]:
        n, slope = jax.jvp(density, (r,), (jnp.ones_like(r),))

        def energy(n: Array, slope: Array) -> Array:
            zero = jnp.zeros_like(slope)
            return xc(Features(rho=n, grad=jnp.stack([slope, zero, zero], axis=1), tau=None))  # type: ignore[arg-type]

        e, pull = jax.vjp(energy, n, slope)
        by_n, by_slope = pull(jnp.ones_like(e))
        return by_n, by_slope

    (by_n, by_slope), (_, change) = jax.jvp(parts, (r,), (jnp.ones_like(r),))
    return by_n - change - 2.0 * by_slope / r


def radial_tail(xc: Functional, density: Callable[[Array], Array], r: Float[Array, " g"]) -> Float[Array, ""]:
    """mean over r of (r v_xc + 1)^2 for the first spin, dimensionless; arguments of :func:`radial_potential`.

    1 where the potential falls off exponentially.
    """
    return jnp.mean((r * radial_potential(xc, density, r)[0] + 1.0) ** 2)


def radial_density(system: System, solution: Solution, atom: int = 0) -> Callable[[Array], Array]:
    """Spin densities along x from a nucleus, as a function of the distance: for :func:`radial_potential`."""
    shells = all_shells(system.basis)
    index = ao_indices(system.basis, shells)
    P = solution.density_matrix
    spins = jnp.concatenate([P, P]) / 2.0 if P.shape[0] == 1 else P
    local = spins[:, index[:, None], index]
    axis = jnp.asarray([1.0, 0.0, 0.0])

    def density(r: Float[Array, " g"]) -> Float[Array, "2 g"]:
        points = system.coords[atom] + r[:, None] * axis
        ao = ao_values(system.basis, system.coords, shells, points, order=0)[0]
        return jnp.einsum("gp,spq,gq->sg", ao, local, ao)

    return density
