"""The result of minimising the energy of neural orbitals, and its derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dqc.energy import Energies
from dqc.orbitals.expectation import expectation, overlap_on
from dqc.orbitals.neural import Neural, Nuclei, Orbitals, Parameters
from dqc.orbitals.quadrature import Quadrature, placed
from dqc.solution import History
from dqc.types import pytree, replace, static
from dqc.xc.functional import Functional

BATCH = 512  # points evaluated at a time


@pytree
class NeuralSolution:
    """Neural orbitals at the minimum of the energy, converged or not, in atomic units.

    ``energy`` and ``energies`` are quadratures on ``grid``, which is finer than, and independent of, the
    grids of the minimisation. ``energy_error`` estimates the error of quadrature and Poisson solver: the
    change of the energy from the next coarser grid, plus what the Coulomb operator lacks in symmetry. It
    says nothing of how far the network is from its best.
    """

    energy: Float[Array, ""]
    energies: Energies
    energy_error: Float[Array, ""]
    mo_coeff: Float[Array, "s n i"]  # the linear layer: canonical orbitals in the network's functions
    mo_energy: Float[Array, "s i"]  # hartree, of the orbitals that may carry electrons
    occupations: Float[Array, "s i"]
    parameters: Parameters  # of the network's other layers
    nuclei: Nuclei
    grid: Quadrature
    converged: Bool[Array, ""]
    residual: Float[Array, ""]  # norm of dE/dtheta
    iterations: Int[Array, ""]
    history: History  # on the grids of the minimisation
    network: Neural = static()

    def orbital(self, points: Float[Array, "g x"]) -> Float[Array, "s g i"]:
        """phi_si(r) on points, in bohr^(-3/2)."""

        def one(point: Float[Array, " x"]) -> Float[Array, "s i"]:
            chi = self.network.functions_on(self.parameters, self.nuclei, point[None])[0]
            return jnp.einsum("n,sni->si", chi, self.mo_coeff)

        return jax.lax.map(one, jnp.asarray(points, float), batch_size=BATCH).transpose(1, 0, 2)

    def density(self, points: Float[Array, "g x"]) -> Float[Array, "s g"]:
        """rho_s(r) = sum_i f_si phi_si(r)^2 on points, in electrons/bohr^3; one row holds both spins."""
        return jnp.einsum("sgi,si->sg", self.orbital(points) ** 2, self.occupations)

    def overlap(self) -> Float[Array, "s i i"]:
        """The overlap of the orbitals on ``grid``: 1 but for the quadrature."""
        return overlap_on(self.orbitals, self.grid)

    @property
    def orbitals(self) -> Orbitals:
        """The orbitals by themselves."""
        return Orbitals(self.parameters, self.nuclei, self.mo_coeff, self.occupations, self.network)

    @property
    def message(self) -> str:
        """A sentence on how the calculation ended."""
        ended = f"{int(self.iterations)} steps, gradient {float(self.residual):.1e}"
        if bool(self.converged):
            return f"Converged: {ended}."
        return f"Not converged: {ended}. More steps (steps=) or a larger network may help."


@jax.jit
def energy(solution: NeuralSolution, xc: Functional) -> Float[Array, ""]:
    """The energy of the solution's orbitals on its grid, differentiable by ``xc``.

    At a minimum the orbitals' response is of second order, so that this gradient is that of the minimum
    (Hellmann, Feynman).
    """
    return expectation(solution.orbitals, solution.grid, xc).total


@jax.jit
def forces(solution: NeuralSolution, xc: Functional) -> Float[Array, "a x"]:
    """-dE/dR in hartree/bohr, by differentiation of the whole energy at held parameters.

    The functions, their orthonormalisation, the grid with its weights and the Poisson solver all move with
    the nuclei, so that nothing is missing of the derivative of the discretised energy; the parameters'
    response is of second order at the minimum.
    """

    def moved(coords: Float[Array, "a x"]) -> Float[Array, ""]:
        nuclei = replace(solution.nuclei, coords=coords)
        grid = placed(solution.grid, coords, jnp.eye(3))
        return expectation(replace(solution.orbitals, nuclei=nuclei), grid, xc).total

    return -jax.grad(moved)(solution.nuclei.coords)
