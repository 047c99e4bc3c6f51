"""Errors of one molecule's field against its labels, and of a fixed field against self-consistency.

Each is a mean square in the unit that its logarithm is read in, so that a weight of 1 weighs an error of
one unit like an error of 1 kcal/mol of an energy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.constants import BOHR_IN_ANGSTROM, DIPOLE_IN_DEBYE, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from dqc.density import features, spin_rows
from dqc.energy import chunk_orbitals, fock
from dqc.grid import Block
from dqc.properties.dipole import dipole
from dqc.properties.forces import forces
from dqc.properties.frontier import frontier
from dqc.solution import Solution
from dqc.system import System
from dqc.xc.functional import Functional

# A term maps (system, functional, field, the molecule's label) to its error.
Term = Callable[[System, Functional, Solution, Any], Float[Array, ""]]

SMALLEST_GAP = 1e-3  # hartree


def density_error(
    system: System, xc: Functional, field: Solution, label: tuple[Float[Array, "b 2 c"], ...]
) -> Float[Array, ""]:
    """sum_s int (rho_s - rho_s,ref)^2 dr / N, bohr^-3; the label is rho_s,ref on the blocks of the grid."""
    f = field.occupations
    C = field.mo_coeff[:, :, : f.shape[1]]

    @jax.checkpoint
    def chunk(total: Array, part: tuple[Block, Array]) -> tuple[Array, None]:
        block, reference = part
        ao, local, _ = chunk_orbitals(system, xc, block, C)
        rho = features(*spin_rows(ao, local, f, "lda")).rho
        return total + jnp.vdot(block.weights, ((rho - reference) ** 2).sum(0)), None

    total = jnp.zeros(())
    for block, reference in zip(system.grid.blocks if system.grid else (), label, strict=True):
        total, _ = jax.lax.scan(chunk, total, (block, reference))
    return total / f.sum()


def dipole_error(system: System, xc: Functional, field: Solution, label: Array) -> Float[Array, ""]:
    """|mu - mu_ref|^2, debye^2."""
    return jnp.sum(((dipole(system, field) - label) * DIPOLE_IN_DEBYE) ** 2)


def force_error(system: System, xc: Functional, field: Solution, label: Array) -> Float[Array, ""]:
    """The mean over atoms of |F - F_ref|^2, (eV/angstrom)^2."""
    unit = HARTREE_IN_EV / BOHR_IN_ANGSTROM
    real = system.charges > 0
    squares = jnp.sum(((forces(system, xc, field) - label) * unit) ** 2, axis=1)
    return jnp.sum(jnp.where(real, squares, 0.0)) / real.sum()


def homo_error(system: System, xc: Functional, field: Solution, label: Array) -> Float[Array, ""]:
    """(epsilon_HOMO + I)^2 with the vertical ionisation energy I, eV^2.

    Exactly zero for the exact functional: Perdew, Parr, Levy, Balduz (1982), doi:10.1103/PhysRevLett.49.1691.
    """
    return ((frontier(field).homo + label) * HARTREE_IN_EV) ** 2


def stationarity(system: System, xc: Functional, field: Solution, label: Any = None) -> Float[Array, ""]:
    """sum (f_i - f_a) F_ia^2 / (e_a - e_i) over orbitals i and a of each spin, kcal/mol.

    To second order the energy that a fixed field would lose by becoming self-consistent, if its potential did
    not follow its density; since it does, mostly to its screening, the loss is usually smaller. Where it is
    large, an energy at that field says little. F is the Fock matrix of ``xc`` at the field, whose orbitals
    and levels are those of the functional that it was solved with.
    """
    C, e, f = field.mo_coeff, field.mo_energy, field.occupations
    spins, slots = f.shape
    F, _ = fock(system, xc, C[:, :, :slots], f, system.grid)
    coupling = C.transpose(0, 2, 1) @ F @ C[:, :, :slots]
    one_spin = f / (3 - spins)
    held = jnp.pad(one_spin, ((0, 0), (0, C.shape[2] - slots)))
    transfer = jnp.maximum(one_spin[:, None, :] - held[:, :, None], 0.0)
    gap = jnp.maximum(e[:, :, None] - e[:, None, :slots], SMALLEST_GAP)
    return (3 - spins) * HARTREE_IN_KCAL_PER_MOL * jnp.sum(transfer * coupling**2 / gap)


TERMS: dict[str, Term] = {  # by the name of the label
    "density": density_error,
    "dipole": dipole_error,
    "forces": force_error,
    "ionisation": homo_error,
}
UNITS = {
    "density": "bohr^(-3/2)",
    "dipole": "D",
    "forces": "eV/angstrom",
    "ionisation": "eV",
}
