"""Starting orbitals."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.density import density_matrix
from dqc.linalg import diagonalize, natural_orbitals, orthogonalizer
from dqc.system import System

GUESSES = ("sap", "sad", "core")
MOMENT_FIELD = 0.2  # hartree for a moment of one electron


def starting_orbitals(
    system: System,
    X: Float[Array, "n k"],
    spins: int,
    guess: str | Float[Array, "s n n"],
    moments: Float[Array, " a"] | None = None,
) -> Float[Array, "s n k"]:
    """Orbitals, the occupied ones first, that start an SCF.

    ``"sap"`` diagonalises the superposition of atomic potentials (Lehtola 2019,
    doi:10.1021/acs.jctc.8b01089); ``"core"`` the one-electron Hamiltonian; ``"sad"`` takes the natural
    orbitals of the superposition of atomic densities, and an array those of that density matrix.
    ``moments`` (electrons of spin up minus down, for each atom) adds a spin field on the atoms, to
    start from broken symmetry.
    """
    n = system.overlap.shape[0]
    if isinstance(guess, str) and guess != "sad":
        F = system.kinetic + system.nuclear
        F = F + system.screening if guess == "sap" else F
        F = jnp.broadcast_to(F, (spins, n, n))
        if moments is not None:
            F = F + spin_field(system, moments)
        return diagonalize(F, X)[1]
    density = system.atomic_density[None] if isinstance(guess, str) else jnp.asarray(guess)
    if density.shape[0] > spins:
        density = density.sum(0, keepdims=True)
    density = jnp.broadcast_to(density, (spins, n, n))
    if moments is not None:
        density = density - 2.0 * spin_field(system, moments)
    return natural_orbitals(density, system.overlap, X)[1]


@partial(jax.jit, static_argnames="guess")
def starting_density(system: System, guess: str = "sap") -> Float[Array, "s n n"]:
    """The density matrix of the starting orbitals, with the system's own occupations.

    As a guess it starts a field by the program that also serves restarts.
    """
    f = system.occupations
    orbitals = starting_orbitals(system, orthogonalizer(system.overlap), len(f), guess)
    return density_matrix(orbitals[:, :, : f.shape[1]], f)


def spin_field(system: System, moments: Float[Array, " a"]) -> Float[Array, "2 n n"]:
    """-+ c sum_A m_A S_A, with S_A the overlap of the AOs of atom A: it attracts one spin to A."""
    n = system.overlap.shape[0]
    on_ao = jnp.zeros(n)
    for l, shells in enumerate(system.basis):
        ao = shells.ao[:, None] + jnp.arange(2 * l + 1)
        on_ao = on_ao.at[ao].set(moments[shells.atom][:, None], mode="drop")
    field = 0.5 * MOMENT_FIELD * (on_ao[:, None] + on_ao) * system.overlap
    return jnp.stack([-field, field])
