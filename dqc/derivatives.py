"""Values that carry the derivatives of a function which need not be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero


def attach(value: Any, function: Callable[..., Any], *args: Any) -> Any:
    """``value``, with the derivatives of ``function(*args)``, whose value it is.

    The function is evaluated only under differentiation, and then only along the arguments that move.
    It closes over no traced value: what it depends on stands in ``args``, any pytrees. Derivatives of
    ``value`` itself are dropped.
    """
    return _attached(function, jax.lax.stop_gradient(value), args)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attached(function: Callable[..., Any], value: Any, args: tuple) -> Any:
    return value


@partial(_attached.defjvp, symbolic_zeros=True)
def _attached_jvp(function: Callable[..., Any], primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    value, args = primals
    return attach(value, function, *args), push_forward(function, args, tangents[1])


def push_forward(function: Callable[..., Any], args: tuple, tangents: Any) -> Any:
    """The derivative of ``function`` at ``args`` along ``tangents``, of which some are symbolic zeros."""
    leaves, tree = jax.tree.flatten(args)
    dots = tree.flatten_up_to(tangents)
    moving = [k for k, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]

    def of_moving(*values: Any) -> Any:
        moved = list(leaves)
        for k, leaf in zip(moving, values, strict=True):
            moved[k] = leaf
        return function(*tree.unflatten(moved))

    return jax.jvp(of_moving, [leaves[k] for k in moving], [dots[k] for k in moving])[1]
