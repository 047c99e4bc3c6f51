"""A second-order step for the network's parameters, in the space of functions.

To second order in a change of the orbitals, at fixed potential, the energy changes by sum_i f_i <d_i| F -
e_i |d_i>. With d_i = J_i t the orbitals' tangent, less what the linear layer makes up for by itself (its
Schur complement), this is the Gauss-Newton matrix of the parameters: M t = 2 sum_i f_i J_i^T (F - e_i) Q J_i
t. Nothing but products with J and J^T is formed, on a coarse grid, and M + damping is inverted by conjugate
gradients. Golub, Pereyra (1973), doi:10.1137/0710036 (variable projection); Martens (2010), Deep learning
via Hessian-free optimization.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.orbitals.expectation import functions_on, orbitals_on
from dqc.orbitals.neural import Orbitals, Parameters
from dqc.orbitals.poisson import potential
from dqc.orbitals.quadrature import Quadrature
from dqc.types import replace

ITERATIONS = 80  # of conjugate gradients
RELATIVE = 1e-3  # residual at which they end
LARGEST = 0.5  # change of any parameter in one step


@jax.jit
def step(
    orbitals: Orbitals,
    levels: Float[Array, "s i"],
    grid: Quadrature,
    gradient: Parameters,
    damping: Float[Array, ""],
) -> tuple[Parameters, Float[Array, ""]]:
    """-(M + damping)^(-1) gradient, shortened to ``LARGEST``, and the fall of the energy that it promises.

    ``grid`` may be coarse. ``orbitals`` are canonical, of the converged linear layer, at these ``levels``.
    """
    product = _product(orbitals, levels, grid)
    damped = lambda t: jax.tree.map(lambda x, y: x + damping * y, product(t), t)  # noqa: E731
    t, _ = jax.scipy.sparse.linalg.cg(damped, gradient, tol=RELATIVE, maxiter=ITERATIONS)
    largest = jnp.max(jnp.stack([jnp.abs(x).max() for x in jax.tree.leaves(t)]))
    t = jax.tree.map(lambda x: -x * jnp.minimum(1.0, LARGEST / largest), t)
    promised = -_dot(gradient, t) - 0.5 * _dot(t, damped(t))
    return t, promised


def _product(
    orbitals: Orbitals, levels: Float[Array, "s i"], grid: Quadrature
) -> Callable[[Parameters], Parameters]:
    """t -> M t."""
    chi = functions_on(orbitals, grid)
    n = chi.shape[-1]
    f, e = orbitals.occupations.reshape(-1), levels.reshape(-1)
    weights = grid.weights.reshape(chi.shape[0], -1)
    v = _field(grid, ((chi[:, 0] @ orbitals.columns) ** 2 * f).sum(-1))
    # F - e as a quadratic form: the factors of values and of each derivative.
    on_values = weights[..., None] * (v[..., None] - e)
    on_slopes = jnp.broadcast_to(0.5 * weights[..., None], on_values.shape)
    form = jnp.stack([on_values, on_slopes, on_slopes, on_slopes], axis=1)
    inverses = _inverses(chi, weights, v, orbitals.C, levels)
    push = jax.linearize(lambda p: orbitals_on(replace(orbitals, parameters=p), grid), orbitals.parameters)[1]
    pull = jax.linear_transpose(push, orbitals.parameters)

    def product(t: Parameters) -> Parameters:
        d = push(t)
        overlap = chi.reshape(-1, n).T @ (form * d).reshape(-1, len(e))
        d = d - chi @ jnp.einsum("knm,mk->nk", inverses, overlap)
        return pull(2.0 * f * form * d)[0]

    return product


def _inverses(
    chi: Float[Array, "b d c n"],
    weights: Float[Array, "b c"],
    v: Float[Array, "b c"],
    C: Float[Array, "s n i"],
    levels: Float[Array, "s i"],
) -> Float[Array, "k n n"]:
    """(F - e_i)^(-1) in the functions, for each orbital of both spins.

    Occupied orbitals, which are no freedom, are lifted, and small overlaps kept from the inverse.
    """
    n = chi.shape[-1]

    def matrix(k: int, factor: Float[Array, "b c"]) -> Float[Array, "n n"]:
        return chi[:, k].reshape(-1, n).T @ (factor[..., None] * chi[:, k]).reshape(-1, n)

    S = matrix(0, weights)
    H = matrix(0, weights * v) + sum(matrix(k, 0.5 * weights) for k in (1, 2, 3))
    small = 1e-8 * jnp.trace(S) / n * jnp.eye(n)

    def one_spin(C: Float[Array, "n i"], levels: Float[Array, " i"]) -> Float[Array, "i n n"]:
        occupied = S @ C @ C.T @ S
        return jax.vmap(lambda e: jnp.linalg.inv(H - e * S + (1.0 - e) * occupied + small))(levels)

    return jax.vmap(one_spin)(C, levels).reshape(-1, n, n)


def _field(grid: Quadrature, rho: Float[Array, "b c"]) -> Float[Array, "b c"]:
    """Attraction, Coulomb repulsion and Slater's exchange: near enough to F for any functional."""
    V = potential(grid, rho.reshape(1, *grid.weights.shape)).reshape(rho.shape)
    return grid.attraction(grid.points).reshape(rho.shape) + V - jnp.cbrt(3.0 / jnp.pi * rho)


def _dot(a: Parameters, b: Parameters) -> Float[Array, ""]:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), jnp.zeros(()))
