"""Is a self-consistent field a minimum? The lowest eigenvalue of the orbital Hessian says.

Seeger, Pople (1977), doi:10.1063/1.434318; Bauernschmitt, Ahlrichs (1996), doi:10.1063/1.471637.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import identity
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigsh

from dqc.density import density_matrix
from dqc.energy import fock
from dqc.minimiser import orbital_gradient, rotate
from dqc.solution import Solution
from dqc.system import System
from dqc.types import pytree
from dqc.xc.functional import Functional

UNSTABLE = -1e-4  # hartree; zero modes (a rotation of an open shell) fluctuate about zero
SHIFT = 0.1  # hartree, of the spectrum while its end is sought
STEP = 0.5  # radians, of the largest rotation in the starting density of a restart


@pytree
class Stability:
    """The lowest mode of the orbital Hessian of a solution."""

    eigenvalue: Float[Array, ""]  # hartree; negative: the energy falls along the mode
    guess: Float[Array, "s n n"]  # a density matrix along the mode, to restart from

    @property
    def stable(self) -> bool:
        """Whether the solution is a minimum."""
        return bool(self.eigenvalue > UNSTABLE)


def stability(
    system: System, xc: Functional, solution: Solution, unrestricted: bool = True, seed: int = 0
) -> Stability:
    """The lowest eigenvalue of d2E/dK2 over real rotations C exp(K) of a solution's orbitals.

    ``unrestricted=True`` lets the two spins of a restricted solution differ as well (its singlet and
    triplet modes); ``False`` stays with its own kind. An unstable solution is mended by
    ``dqc.scf(system, xc, guess=stability(...).guess)``. It runs on the host, by Lanczos iterations
    with Hessian-vector products from forward differentiation of the Fock matrix.
    """
    C, f = solution.mo_coeff, solution.occupations
    if unrestricted and C.shape[0] == 1:
        C, f = jnp.concatenate([C, C]), jnp.concatenate([f, f]) / 2
    full = jnp.pad(f, ((0, 0), (0, C.shape[2] - f.shape[1])))
    real = np.asarray(jnp.linalg.norm(C, axis=1) > 0)
    differ = np.asarray(full[:, :, None] > full[:, None, :]) & real[:, :, None] & real[:, None, :]
    pairs = np.nonzero(differ)
    start = np.random.default_rng(seed).normal(size=len(pairs[0]))
    operator = LinearOperator(
        (len(start), len(start)),
        matvec=lambda v: np.asarray(_product(system, xc, C, f, _generator(v, pairs, full)))[pairs],
        dtype=float,
    )
    if len(start) < 3:
        matrix = np.stack([operator @ row for row in np.eye(len(start))])
        values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    else:
        # ARPACK's tolerance is relative to the eigenvalue: shifted, a zero mode converges as any other.
        shifted = operator + SHIFT * aslinearoperator(identity(len(start)))
        values, vectors = eigsh(shifted, k=1, which="SA", v0=start, tol=1e-4)
        values = values - SHIFT
    mode = _generator(vectors[:, 0], pairs, full)
    moved = rotate(C, STEP * mode / jnp.abs(mode).max())[:, :, : f.shape[1]]
    return Stability(eigenvalue=jnp.asarray(values[0]), guess=density_matrix(moved, f))


def _generator(values: np.ndarray, pairs: tuple, full: Array) -> Float[Array, "s k k"]:
    spins, k = full.shape
    upper = np.zeros((spins, k, k))
    upper[pairs] = np.asarray(values).reshape(-1)
    return jnp.asarray(upper - upper.transpose(0, 2, 1))


@jax.jit
def _product(system: System, xc: Functional, C: Array, f: Array, generator: Array) -> Float[Array, "s k k"]:
    """The derivative of the orbital gradient along a rotation."""

    def gradient(generator: Array) -> Float[Array, "s k k"]:
        moved = rotate(C, generator)
        F, _ = fock(system, xc, moved[:, :, : f.shape[1]], f, system.grid)
        return orbital_gradient(moved, F, f)[0]

    return jax.jvp(gradient, (jnp.zeros_like(generator),), (generator,))[1]
