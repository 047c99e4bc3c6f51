"""Limited-memory BFGS with a line search, one energy evaluation at a time.

The unknown is a rotation: the point moves by C -> C exp(K), and gradients and steps are antisymmetric
matrices in the frame that moves with C, where parallel transport along the step leaves them unchanged.
Van Voorhis, Head-Gordon (2002), doi:10.1080/00268970110103642; Nocedal, Wright, Numerical
Optimization (2006), algorithms 7.4 and 3.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.types import pytree, replace

MEMORY = 8
LARGEST_ROTATION = 0.4  # radians, for any pair of orbitals in one step
SUFFICIENT_DECREASE = 1e-4
SMALLEST_GAP = 0.2  # hartree, in the preconditioner


@pytree
class Descent:
    """The last accepted point, the search direction from it, and the curvature seen so far."""

    orbitals: Float[Array, "s n k"]
    energy: Float[Array, ""]  # inf before the first accepted point
    gradient: Float[Array, "s k k"]
    direction: Float[Array, "s k k"]
    length: Float[Array, ""]
    steps: Float[Array, "t s k k"]
    changes: Float[Array, "t s k k"]
    count: Int[Array, ""]


def start(orbitals: Float[Array, "s n k"]) -> Descent:
    """No accepted point and no curvature yet."""
    s, _, k = orbitals.shape
    zero, memory = jnp.zeros((s, k, k)), jnp.zeros((MEMORY, s, k, k))
    return Descent(
        orbitals, jnp.asarray(jnp.inf, float), zero, zero, jnp.zeros(()), memory, memory, jnp.zeros((), int)
    )


def advance(
    descent: Descent,
    orbitals: Float[Array, "s n k"],
    energy: Float[Array, ""],
    gradient: Float[Array, "s k k"],
    curvature: Float[Array, "s k k"],
) -> tuple[Descent, Float[Array, "s n k"]]:
    """Accept or refuse the point just evaluated, and return the next one to evaluate.

    ``curvature`` is the positive diagonal of the Hessian that preconditions the step.
    """
    slope = inner(descent.gradient, descent.direction)
    gain = energy - descent.energy
    first = jnp.isinf(descent.energy)
    rounding = 1e-13 * jnp.abs(energy)
    accept = first | (gain <= SUFFICIENT_DECREASE * descent.length * slope + rounding)
    moved = _accepted(descent, orbitals, energy, gradient, curvature, first)
    shorter = -0.5 * slope * descent.length / jnp.where(accept, 1.0, gain - slope * descent.length)
    refused = replace(descent, length=descent.length * jnp.clip(shorter, 0.1, 0.5))
    new = jax.tree.map(lambda a, b: jnp.where(accept, a, b), moved, refused)
    return new, rotate(new.orbitals, new.length * new.direction)


def _accepted(
    descent: Descent,
    orbitals: Array,
    energy: Array,
    gradient: Array,
    curvature: Array,
    first: Array,
) -> Descent:
    step, change = descent.length * descent.direction, gradient - descent.gradient
    curved = ~first & (inner(step, change) > 1e-10 * inner(step, step))
    place = descent.count % MEMORY
    keep = lambda memory, row: jnp.where(curved, memory.at[place].set(row), memory)  # noqa: E731
    steps, changes = keep(descent.steps, step), keep(descent.changes, change)
    count = descent.count + curved
    direction = -_inverse_hessian(steps, changes, count, gradient, curvature)
    downhill = inner(direction, gradient) < 0
    direction = jnp.where(downhill, direction, -gradient / curvature)
    length = jnp.minimum(1.0, LARGEST_ROTATION / jnp.maximum(jnp.abs(direction).max(), 1e-30))
    return Descent(orbitals, energy, gradient, direction, length, steps, changes, count)


def _inverse_hessian(
    steps: Array, changes: Array, count: Array, gradient: Array, curvature: Array
) -> Float[Array, "s k k"]:
    """The two-loop recursion, newest pair first."""
    places = (count - 1 - jnp.arange(MEMORY)) % MEMORY
    used = jnp.arange(MEMORY) < count
    products = jnp.stack([inner(s, y) for s, y in zip(steps, changes, strict=True)])
    weight = jnp.where(products > 0, 1.0 / jnp.where(products > 0, products, 1.0), 0.0)

    def newest_first(q: Array, x: tuple) -> tuple[Array, Array]:
        k, active = x
        a = jnp.where(active, weight[k] * inner(steps[k], q), 0.0)
        return q - a * changes[k], a

    def oldest_first(q: Array, x: tuple) -> tuple[Array, None]:
        k, active, a = x
        b = jnp.where(active, weight[k] * inner(changes[k], q), 0.0)
        return q + (a - b) * steps[k], None

    q, a = jax.lax.scan(newest_first, gradient, (places, used))
    return jax.lax.scan(oldest_first, q / curvature, (places, used, a), reverse=True)[0]


def orbital_gradient(
    orbitals: Float[Array, "s n k"], fock: Float[Array, "s n n"], occupations: Float[Array, "s i"]
) -> tuple[Float[Array, "s k k"], Float[Array, "s k k"]]:
    """dE/dK_pq = 2 (C^T F C)_pq (f_q - f_p) for C exp(K), and a positive diagonal of the Hessian.

    The diagonal is that of fixed F, 2 (F_pp - F_qq) (f_q - f_p), kept away from zero.
    """
    f = jnp.pad(occupations, ((0, 0), (0, orbitals.shape[2] - occupations.shape[1])))
    in_orbitals = orbitals.transpose(0, 2, 1) @ fock @ orbitals
    # Symmetric to the last bit: L-BFGS would amplify what is not, and the orbitals cease to be orthonormal.
    in_orbitals = 0.5 * (in_orbitals + in_orbitals.transpose(0, 2, 1))
    difference = f[:, None, :] - f[:, :, None]
    level = jnp.diagonal(in_orbitals, axis1=1, axis2=2)
    gap = jnp.maximum(jnp.abs(level[:, :, None] - level[:, None, :]), SMALLEST_GAP)
    curvature = jnp.where(difference == 0, 1.0, 2.0 * jnp.abs(difference) * gap)
    return 2.0 * in_orbitals * difference, curvature


def inner(a: Float[Array, "s k k"], b: Float[Array, "s k k"]) -> Float[Array, ""]:
    """The inner product of antisymmetric matrices, each independent pair once."""
    return 0.5 * jnp.vdot(a, b)


def rotate(orbitals: Float[Array, "s n k"], generator: Float[Array, "s k k"]) -> Float[Array, "s n k"]:
    """C (1 - K/2)^(-1) (1 + K/2): Cayley's form of C exp(K), exactly orthogonal."""
    one = jnp.eye(generator.shape[-1])
    return orbitals @ jnp.linalg.solve(one - 0.5 * generator, one + 0.5 * generator)
