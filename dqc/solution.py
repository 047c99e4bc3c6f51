"""The result of solving the Kohn-Sham equations."""

from __future__ import annotations

from jaxtyping import Array, Bool, Float, Int

from dqc.energy import Energies
from dqc.response import Response
from dqc.types import pytree


@pytree
class History:
    """Energy and residual of each iteration; NaN after the last one."""

    energy: Float[Array, " t"]  # hartree
    residual: Float[Array, " t"]


@pytree
class Solution:
    """A self-consistent field in atomic units, converged or not: ``converged`` says which.

    ``energies``, ``density_matrix`` and ``fock`` belong to each other exactly; ``mo_coeff`` reproduces
    ``density_matrix`` with ``occupations``, and diagonalises ``fock`` within each set of equal
    occupations and, up to ``residual``, between them.

    Every field that depends on the functional, the system or the occupations is differentiable by them
    (see :mod:`dqc.response`); where the field has not converged, or its response has not, a derivative
    that is not zero is NaN. ``mo_coeff`` then does not turn among orbitals of equal occupation, and of
    degenerate ``mo_energy`` only the sum has a meaning.
    """

    energy: Float[Array, ""]  # hartree; under smearing the free energy
    energies: Energies
    density_matrix: Float[Array, "s n n"]
    fock: Float[Array, "s n n"]
    mo_coeff: Float[Array, "s n k"]
    mo_energy: Float[Array, "s k"]  # hartree; levels above 5000 are ghosts
    occupations: Float[Array, "s i"]
    temperature: Float[Array, ""] | None  # k T of smeared occupations, hartree; None for given ones
    converged: Bool[Array, ""]
    residual: Float[Array, ""]  # norm of the orbital gradient, ||X^T (F P S - S P F) X|| / sqrt(2)
    iterations: Int[Array, ""]
    history: History
    response: Response  # a report on derivatives: see there

    @property
    def message(self) -> str:
        """A sentence on how the calculation ended."""
        ended = f"{int(self.iterations)} iterations, residual {float(self.residual):.1e}"
        if bool(self.converged):
            return f"Converged: {ended}."
        return (
            f"Not converged: {ended}. More iterations (max_iterations=), a level shift (level_shift=0.3), "
            "damping (damping=0.5), smearing (smearing=0.01) or another start (guess=) may help."
        )
