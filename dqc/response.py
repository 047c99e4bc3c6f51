"""Derivatives of self-consistent orbitals, by the implicit function theorem.

Converged orbitals solve r(y; theta) = 0, the orbital gradient being a function of a rotation y and of all
that the energy depends on, so dy/dtheta = -(dr/dy)^(-1) dr/dtheta: the coupled-perturbed Kohn-Sham
equations. y lives on pairs of orbitals with different occupations and is scaled by their gaps, which
makes dr/dy the identity plus the coupling by the Fock matrix's response, symmetric, and applied by
forward differentiation of the Fock matrix. No eigenvector is differentiated, so gaps inside the occupied
or the virtual space do not matter. Gerratt, Mills (1968), doi:10.1063/1.1670299; Handy, Schaefer (1984),
doi:10.1063/1.447489.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.derivatives import attach, beside, instantiated, push_forward
from dqc.linalg import inverse_square_root
from dqc.minres import minres, refined
from dqc.occupations import chemical_potential, fermi_slopes
from dqc.types import pytree

SMALLEST_GAP = 1e-3  # hartree, in the scale of a rotation: a preconditioner, it changes no result
MAX_ITERATIONS = 200
MAX_CORRECTIONS = 60  # where there is a rough operator: each keeps two vectors
ZERO_MODE = 1e-2  # a Ritz value below this is a direction in which the energy hardly changes


@pytree
class Response:
    """How the linear equations of a derivative were solved; all zero where none were.

    It belongs to the derivative, so it travels with it: in forward mode it is the tangent of
    ``Solution.response``, in reverse mode the gradient with respect to the argument ``response`` of
    :func:`dqc.scf`, for which :func:`no_response` is the value to give.
    """

    iterations: Float[Array, ""]
    residual: Float[Array, ""]  # relative to the right-hand side
    smallest: Float[Array, ""]  # Ritz value of least magnitude, of a matrix that is one without coupling
    converged: Float[Array, ""]  # 1 or 0; where it is 0 the derivative is NaN

    @property
    def zero_mode(self) -> bool:
        """Whether the energy hardly changes along some rotation, as in a symmetry-broken open shell."""
        return bool((self.iterations > 0) & (jnp.abs(self.smallest) < ZERO_MODE))


def no_response() -> Response:
    """The report of equations that were not solved."""
    return Response(*[jnp.zeros(())] * 4)


@pytree
class Rotation:
    """Rotations of orbitals with given occupations, about converged ones.

    C(y) = C~ (C~^T S C~)^(-1/2) with C~ = C_slots + C Y, where Y_ij = p_ij y_ij and, inside the slots, Y is
    antisymmetric. p_ij = (2 |f_j - f_i| |e_i - e_j|)^(-1/2) is zero for equal occupations.
    """

    orbitals: Float[Array, "s n k"]
    scale: Float[Array, "s k i"]  # p, each pair once
    slope: Float[Array, "s k i"]  # 2 p (f_j - f_i): from C^T F C to the gradient by y
    diagonal: Float[Array, "s k i"]  # 2 p^2 (f_j - f_i) (e_i - e_j): dr/dy without coupling

    def start(self) -> Float[Array, "s k i"]:
        """No rotation."""
        return jnp.zeros_like(self.scale)

    def solved(self, y: Float[Array, "s k i"]) -> Float[Array, "s k i"]:
        """y where it has been solved for: to any order."""
        return y

    def change(self, y: Float[Array, "s k i"]) -> Float[Array, "s n i"]:
        """The orbitals of the slots move by C Y."""
        slots = y.shape[2]
        Y = self.scale * y
        # Not by .at[].add of its own transpose: with that, reverse derivatives came out at two thirds on a
        # CPU (jaxlib 0.10), as if the update were made in place of what it reads.
        within, across = Y[:, :slots], Y[:, slots:]
        return self.orbitals @ jnp.concatenate([within - within.transpose(0, 2, 1), across], axis=1)

    def moved(self, y: Float[Array, "s k i"], S: Float[Array, "n n"]) -> Float[Array, "s n i"]:
        """The rotated orbitals of the slots, orthonormal under S."""
        return _lowdin(self.orbitals[:, :, : y.shape[2]] + self.change(y), S)

    def frame(self, y: Float[Array, "s k i"], S: Float[Array, "n n"]) -> Float[Array, "s n k"]:
        """All orbitals, moved without turning among orbitals of equal occupation."""
        occupied = self.moved(y, S)
        virtual = self.orbitals[:, :, y.shape[2] :]
        virtual = virtual - occupied @ (occupied.transpose(0, 2, 1) @ S @ virtual)
        return jnp.concatenate([occupied, _lowdin(virtual, S)], axis=2)

    def gradient(
        self,
        y: Float[Array, "s k i"],
        C: Float[Array, "s n i"],
        S: Float[Array, "n n"],
        F: Float[Array, "s n n"],
    ) -> Float[Array, "s k i"]:
        """r(y) = 2 p (f_j - f_i) C^T F C for pairs in the slots, with (1 - S C C^T) F C for the others, where
        C is :meth:`moved`."""
        slots = y.shape[2]
        FC = F @ C
        within = C.transpose(0, 2, 1) @ FC
        across = self.orbitals[:, :, slots:].transpose(0, 2, 1) @ (FC - S @ C @ within)
        return self.slope * jnp.concatenate([within, across], axis=1)

    def linear(self, y: Float[Array, "s k i"], dF: Float[Array, "s n n"]) -> Float[Array, "s k i"]:
        """r to first order, where y moves the orbitals from convergence and F by dF."""
        slots = self.orbitals[:, :, : y.shape[2]]
        return self.diagonal * y + self.slope * (self.orbitals.transpose(0, 2, 1) @ dF @ slots)


@pytree
class Smearing:
    """Changes of the density matrix of orbitals with Fermi-Dirac occupations, to first order.

    dP = L y in the converged orbitals, where L L^T is minus the response of non-interacting electrons
    at a fixed number of them: divided differences of the Fermi function, and on the diagonal its slopes
    w less w w^T / sum w, the share of the chemical potential.
    """

    orbitals: Float[Array, "s n k"]
    levels: Float[Array, "s k"]
    off: Float[Array, "s k k"]  # roots of minus the divided differences; the diagonal is zero
    diagonal: Float[Array, "s k"]  # roots of the slopes w
    mean: Float[Array, "s k"]  # the same, normalised
    share: Float[Array, "s k k"]  # f_j / (f_i^2 + f_j^2): from dP to a change of the orbitals

    def start(self) -> Float[Array, "s k k"]:
        """No change."""
        return jnp.zeros_like(self.off)

    def solved(self, y: Float[Array, "s k k"]) -> Float[Array, "s k k"]:
        """y where it has been solved for: to first order, whose own derivative is therefore NaN."""
        return attach(y, lambda y: jnp.nan * y, y)

    def change(self, y: Float[Array, "s k k"]) -> Float[Array, "s n k"]:
        """The orbitals move by dC with dC f C^T + C f dC^T = C (L y) C^T."""
        return self.orbitals @ self._turn(y)

    def moved(self, y: Float[Array, "s k k"], S: Float[Array, "n n"]) -> Float[Array, "s n k"]:
        """Orbitals C with C f C^T = C~ (f + L y) C~^T to first order."""
        C = _lowdin(self.orbitals, S)
        return C + C @ self._turn(y)

    def frame(self, y: Float[Array, "s k k"], S: Float[Array, "n n"]) -> Float[Array, "s n k"]:
        """The orbitals in which y is written."""
        return _lowdin(self.orbitals, S)

    def gradient(
        self,
        y: Float[Array, "s k k"],
        C: Float[Array, "s n k"],
        S: Float[Array, "n n"],
        F: Float[Array, "s n n"],
    ) -> Float[Array, "s k k"]:
        """r(y) = y + L^T (C~^T F C~ - e)."""
        C = self.frame(y, S)
        return y + self._by_levels(C.transpose(0, 2, 1) @ F @ C - self._on_diagonal(self.levels))

    def linear(self, y: Float[Array, "s k k"], dF: Float[Array, "s n n"]) -> Float[Array, "s k k"]:
        """r to first order, where y moves the orbitals from convergence and F by dF."""
        return y + self._by_levels(self.orbitals.transpose(0, 2, 1) @ dF @ self.orbitals)

    def _turn(self, y: Array) -> Float[Array, "s k k"]:
        y = 0.5 * (y + y.transpose(0, 2, 1))
        return self.share * (self.off * y + self._on_diagonal(self.diagonal * self._without_mean(y)))

    def _by_levels(self, G: Array) -> Float[Array, "s k k"]:
        return self.off * G + self._on_diagonal(self._without_mean(self.diagonal[:, :, None] * G))

    def _without_mean(self, y: Array) -> Float[Array, "s k"]:
        diagonal = jnp.diagonal(y, axis1=1, axis2=2)
        return diagonal - self.mean * (self.mean * diagonal).sum(1, keepdims=True)

    def _on_diagonal(self, values: Array) -> Float[Array, "s k k"]:
        return values[:, :, None] * jnp.eye(values.shape[1], dtype=values.dtype)


def rotation(
    orbitals: Float[Array, "s n k"], levels: Float[Array, "s k"], occupations: Float[Array, "s i"]
) -> Rotation:
    """The rotations of converged orbitals."""
    k, slots = levels.shape[1], occupations.shape[1]
    f = jnp.pad(occupations, ((0, 0), (0, k - slots)))
    once = jnp.arange(k)[:, None] > jnp.arange(slots)
    difference = jnp.where(once, f[:, None, :slots] - f[:, :, None], 0.0)
    apart = levels[:, :, None] - levels[:, None, :slots]
    gap = jnp.maximum(jnp.abs(apart), SMALLEST_GAP)
    pair = difference != 0
    scale = jnp.where(pair, 1.0 / jnp.sqrt(2.0 * jnp.where(pair, jnp.abs(difference), 1.0) * gap), 0.0)
    slope = 2.0 * scale * difference
    return Rotation(orbitals, scale, slope, slope * scale * apart)


def smearing(
    orbitals: Float[Array, "s n k"],
    levels: Float[Array, "s k"],
    occupations: Float[Array, "s k"],
    temperature: Float[Array, ""],
) -> Smearing:
    """The changes of a density matrix under smearing."""
    f = occupations
    mu = chemical_potential(levels, f.sum(1), temperature)
    slopes = fermi_slopes(levels, mu, temperature)
    one = jnp.eye(levels.shape[1], dtype=bool)
    diagonal = jnp.sqrt(jnp.diagonal(slopes, axis1=1, axis2=2))
    norm = jnp.linalg.norm(diagonal, axis=1, keepdims=True)
    squares = f[:, :, None] ** 2 + f[:, None, :] ** 2
    held = squares > 1e-24
    share = jnp.where(held, f[:, None, :] / jnp.where(held, squares, 1.0), 0.0)
    return Smearing(
        orbitals=orbitals,
        levels=levels,
        off=jnp.sqrt(jnp.where(one, 0.0, slopes)),
        diagonal=diagonal,
        mean=diagonal / jnp.where(norm > 0, norm, 1.0),
        share=share,
    )


def _lowdin(orbitals: Float[Array, "s n i"], S: Float[Array, "n n"]) -> Float[Array, "s n i"]:
    return orbitals @ inverse_square_root(orbitals.transpose(0, 2, 1) @ S @ orbitals)


def root(
    field: Callable[..., Array],
    rough: Callable[..., Array] | None,
    chart: Rotation | Smearing,
    fock: Float[Array, "s n n"],
    tolerance: Float[Array, ""],
    report: Response,
    S: Float[Array, "n n"],
    *args: Any,
) -> tuple[Array, Response]:
    """y = 0 and ``report``, with the derivatives of the y that solves r(y; S, F) = 0, F = field(C(y), *args).

    ``fock`` is the value of F, whose own derivatives are dropped, and ``rough`` a cheaper field like it, to
    precondition the linear equations.
    ``tolerance`` is that of the linear equations, relative to their right-hand side. Where these do not
    converge the derivative is NaN, unless it is zero: then nothing is solved.
    """
    return _root(field, rough, chart, chart.start(), fock, tolerance, report, (S, *args))


def _residual(
    field: Callable[..., Array], chart: Any, fock: Array, y: Array, S: Array, *args: Any
) -> Float[Array, "..."]:
    """r(y), where the value of the field is known."""
    C = chart.moved(y, S)
    return chart.gradient(y, C, S, attach(fock, field, C, *args))


def _linear_residual(
    field: Callable[..., Array], chart: Any, args: tuple, y: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The derivative of r along y at convergence: what that of _residual comes to there, in fewer steps."""
    C, dC = chart.orbitals[:, :, : y.shape[2]], chart.change(y)
    return chart.linear(y, jax.jvp(lambda C: field(C, *args), (C,), (dC,))[1])


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _root(
    field: Callable[..., Array],
    rough: Callable[..., Array] | None,
    chart: Any,
    y: Array,
    fock: Array,
    tolerance: Array,
    report: Response,
    args: tuple,
) -> tuple[Array, Response]:
    return beside((y, report), (chart, tolerance, args))


@partial(_root.defjvp, symbolic_zeros=True)
def _root_jvp(
    field: Callable[..., Array],
    rough: Callable[..., Array] | None,
    primals: tuple,
    tangents: tuple,
) -> tuple[Any, Any]:
    chart, start, fock, tolerance, report, args = primals
    y, report = _root(field, rough, chart, start, fock, tolerance, report, args)
    here = chart.solved(y)
    slope = push_forward(partial(_residual, field, chart, fock, here), args, tangents[5])

    def operator(unknown: tuple[Array, Response]) -> tuple[Array, Response]:
        product = jax.jvp(lambda y: _residual(field, chart, fock, y, *args), (here,), (unknown[0],))[1]
        nothing = jnp.where(False, product.reshape(-1)[0], 0.0)
        return product, jax.tree.map(lambda x: x + nothing, unknown[1])

    def solve(_: Any, b: tuple[Array, Response]) -> tuple[Array, Response]:
        exact = partial(_linear_residual, field, chart, args[1:])
        if rough is None:
            end = minres(exact, b[0], tolerance, MAX_ITERATIONS)
        else:
            nearly = partial(_linear_residual, rough, chart, args[1:])
            end = refined(exact, nearly, b[0], tolerance, MAX_CORRECTIONS)
        smallest = jnp.where(end.iterations > 0, end.smallest, 0.0)
        told = Response(end.iterations, end.residual, smallest, end.converged)
        told = jax.tree.map(lambda x, like: x.astype(like.dtype), told, b[1])
        return jnp.where(end.converged, end.x, jnp.nan), told

    # The report rides along as unknowns of its own that "solve" to the report: so it passes through
    # either mode of differentiation beside the derivative that it is about. Each right-hand side takes
    # nothing from the other, and the operator nothing for the report from the derivative, in a way that
    # makes all depend on whichever tangent there is.
    carried = instantiated(tangents[4], report)
    nothing = 0.0 * (carried.iterations + slope.reshape(-1)[0])
    right = nothing.astype(slope.dtype) - slope, jax.tree.map(lambda x: x + nothing, carried)
    answer = jax.lax.custom_linear_solve(operator, right, solve, symmetric=True)
    return (y, report), answer
