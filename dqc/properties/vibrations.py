"""Harmonic vibrations: the Hessian, frequencies, normal modes and infrared intensities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.constants import (
    DALTON_IN_ELECTRON_MASSES,
    HARTREE_IN_INVERSE_CM,
    INTENSITY_IN_KM_PER_MOL,
    MASSES,
)
from dqc.guess import starting_density
from dqc.molecule import Molecule
from dqc.nuclei import at
from dqc.properties.dipole import dipole
from dqc.properties.forces import forces
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.xc.functional import Functional

STEP = 0.005  # bohr; the error is of its square: some 0.1 cm^-1 in the stretching of O-H
TOLERANCE = 1e-8  # of the fields, whose error is divided by twice the step
LINEAR = 1e-3  # of the radii of gyration, the least over the largest of a molecule that counts as linear

Progress = Callable[[int, int], None]


class Curvature(NamedTuple):
    """Second derivatives of the energy: by two positions, and by a position and a field."""

    hessian: Float[Array, "a x a x"]  # hartree/bohr^2
    dipole_derivatives: Float[Array, "a x x"]  # d mu_y / d R_ax, e


class Vibrations(NamedTuple):
    """Harmonic vibrations by rising frequency: 3 N - 6 of them, 3 N - 5 for a linear molecule."""

    frequencies: Float[np.ndarray, " v"]  # cm^-1; an imaginary one is negative
    intensities: Float[np.ndarray, " v"]  # infrared absorption, km/mol
    modes: Float[np.ndarray, "v a x"]  # dR/dQ, m_e^(-1/2): sum_ax m_a modes_vax modes_wax = delta_vw
    hessian: Float[Array, "a x a x"]  # hartree/bohr^2
    dipole_derivatives: Float[Array, "a x x"]  # d mu_y / d R_ax, e

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real frequencies, hartree."""
        return float(np.maximum(self.frequencies, 0.0).sum() / (2 * HARTREE_IN_INVERSE_CM))


def hessian(
    system: System,
    xc: Functional,
    solution: Solution | None = None,
    step: float = STEP,
    progress: Progress | None = None,
    **options: Any,
) -> Float[Array, "a x a x"]:
    """d2E / dR_ax dR_by in hartree/bohr^2, symmetrised, by central differences of analytic forces.

    Every nucleus is displaced by ``step`` (bohr) both ways along each axis, 6 N fields in all; each
    starts from the density matrix of the equilibrium, and one compiled program serves them all.
    ``solution`` is the field at the equilibrium, solved first if none is given; ``options`` are those of
    :func:`dqc.scf`, with a tolerance of 1e-8 if none is given. ``progress(done, of)`` is called after each
    pair of fields. NaN in the rows and columns of displacements whose field has not converged. Not to
    be traced, nor for a system in a field. Raises what :func:`dqc.at` raises.
    """
    return curvature(system, xc, solution, step, progress, **options).hessian


def curvature(
    system: System,
    xc: Functional,
    solution: Solution | None = None,
    step: float = STEP,
    progress: Progress | None = None,
    **options: Any,
) -> Curvature:
    """The :func:`hessian` and, from the same fields, the derivatives of the dipole moment."""
    options = {"tolerance": TOLERANCE} | options
    if solution is None:
        start = options.get("guess", "sap")
        plain = isinstance(start, str) and options.get("moments") is None
        guess = starting_density(system, start) if plain else start  # shares the program of the restarts
        solution = scf(system, xc, **(options | {"guess": guess}))
    options = {name: option for name, option in options.items() if name != "moments"}
    options["guess"] = solution.density_matrix
    n = system.coords.shape[0]
    rows = []
    for atom, axis in itertools.product(range(n), range(3)):
        shift = jnp.zeros((n, 3)).at[atom, axis].set(step)
        ahead, behind = (_first(system, xc, system.coords + d, options) for d in (shift, -shift))
        rows.append(jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind))
        if progress is not None:
            progress(len(rows), 3 * n)
    H = -jnp.stack([row[0] for row in rows]).reshape(3 * n, 3 * n)
    moments = jnp.stack([row[1] for row in rows]).reshape(n, 3, 3)
    return Curvature(hessian=(0.5 * (H + H.T)).reshape(n, 3, n, 3), dipole_derivatives=moments)


_moved = jax.jit(at)


def _first(system: System, xc: Functional, coords: Float[Array, "a x"], options: dict) -> tuple[Array, Array]:
    """Forces and dipole moment at displaced positions, NaN where the field has not converged."""
    moved = _moved(system, coords)
    solution = scf(moved, xc, **options)
    return forces(moved, xc, solution), jnp.where(solution.converged, dipole(moved, solution), jnp.nan)


def vibrations(
    molecule: Molecule,
    system: System,
    xc: Functional,
    masses: Sequence[float] | None = None,
    solution: Solution | None = None,
    step: float = STEP,
    progress: Progress | None = None,
    **options: Any,
) -> Vibrations:
    """Frequencies, normal modes and infrared intensities in the harmonic approximation.

    ``masses`` are the nuclei's in dalton, by default the elements' standard atomic weights. All other
    arguments are those of :func:`hessian`, and of ``molecule``, from which ``system`` was built, only the
    elements are read. The geometry should be a stationary point of the same method. Everything is NaN
    where a field has not converged. Raises ``ValueError`` for masses, or a system, of other atoms.
    """
    given = [MASSES[symbol] for symbol in molecule.symbols] if masses is None else masses
    m = np.asarray(given, float)
    n = system.coords.shape[0]
    if m.shape != (n,) or len(molecule.symbols) != n:
        raise ValueError(
            f"{len(molecule.symbols)} atoms in the molecule and masses of shape {m.shape} for the {n} "
            "atoms of the system: one mass an atom is expected, and the molecule the system was built from."
        )
    return normal_modes(
        m, np.asarray(system.coords), curvature(system, xc, solution, step, progress, **options)
    )


def normal_modes(
    masses: Float[np.ndarray, " a"], coords: Float[np.ndarray, "a x"], curvature: Curvature
) -> Vibrations:
    """The vibrations that follow from second derivatives, translations and rotations projected out.

    ``masses`` in dalton. With L the eigenvectors of the mass-weighted Hessian, the absorption of mode v is
    A_v = pi N_A / (3 c^2) |sum_ax dmu/dR_ax L_vax / sqrt(m_a)|^2. Wilson, Decius, Cross, *Molecular
    Vibrations* (1955), chapters 2 and 7. On the host: the number of modes depends on the values.
    """
    m = masses * DALTON_IN_ELECTRON_MASSES
    H, n = np.asarray(curvature.hessian), len(m)
    weight = 1.0 / np.sqrt(m)
    inner = internal_space(m, coords)
    D = inner @ np.einsum("a,axby,b->axby", weight, H, weight).reshape(3 * n, 3 * n) @ inner.T
    finite = np.isfinite(D).all()
    squares, L = np.linalg.eigh(D if finite else np.eye(len(D)))
    modes = (L.T @ inner).reshape(-1, n, 3) * weight[:, None] * (1.0 if finite else np.nan)
    moments = np.einsum("vax,axy->vy", modes, np.asarray(curvature.dipole_derivatives))
    frequencies = np.sign(squares) * np.sqrt(np.abs(squares)) * HARTREE_IN_INVERSE_CM
    return Vibrations(
        frequencies=frequencies if finite else np.nan * squares,
        intensities=(moments**2).sum(1) * INTENSITY_IN_KM_PER_MOL,
        modes=modes,
        **curvature._asdict(),
    )


def internal_space(
    masses: Float[np.ndarray, " a"], coords: Float[np.ndarray, "a x"]
) -> Float[np.ndarray, "v 3*a"]:
    """An orthonormal basis of mass-weighted displacements that neither shift nor turn the molecule."""
    n, root = len(masses), np.sqrt(masses)
    shifts = np.einsum("a,xy->xay", root, np.eye(3)).reshape(3, 3 * n)
    arms = coords - masses @ coords / masses.sum()
    turns = (np.cross(np.eye(3)[:, None], arms[None]) * root[:, None]).reshape(3, 3 * n)
    _, sizes, turns = np.linalg.svd(turns, full_matrices=False)  # sizes: roots of the moments of inertia
    kept = int((sizes > max(LINEAR * sizes[0], 1e-8)).sum())
    rigid = np.concatenate([shifts, turns[:kept]])
    return np.linalg.svd(rigid, full_matrices=True)[2][3 + kept :]
