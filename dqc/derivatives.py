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


def attach_rule(value: Any, rule: Callable[..., Any], x: Any, *args: Any) -> Any:
    """``value``, whose change as the array ``x`` moves by ``dx`` is ``rule(dx, x, *args)``, linear in ``dx``.

    The rule closes over no traced value. Derivatives of ``value`` and ``args`` themselves are dropped.
    """
    return _ruled(rule, jax.lax.stop_gradient(value), x, jax.lax.stop_gradient(args))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _ruled(rule: Callable[..., Any], value: Any, x: Any, args: tuple) -> Any:
    return value


@partial(_ruled.defjvp, symbolic_zeros=True)
def _ruled_jvp(rule: Callable[..., Any], primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    value, x, args = primals  # only x moves
    return attach_rule(value, rule, x, *args), rule(tangents[1], x, *args)


def undifferentiated(sentence: str, x: Any) -> Any:
    """The array ``x``; differentiating it raises ``NotImplementedError(sentence)``."""
    return _refusing(sentence, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _refusing(sentence: str, x: Any) -> Any:
    return x


@_refusing.defjvp
def _refuse(sentence: str, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    raise NotImplementedError(sentence)


def push_forward(function: Callable[..., Any], args: tuple, tangents: Any) -> Any:
    """The derivative of ``function`` at ``args`` along ``tangents``, of which some are symbolic zeros."""
    tree: Any
    leaves, tree = jax.tree.flatten(args)
    dots = tree.flatten_up_to(tangents)
    moving = [k for k, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]

    def of_moving(*values: Any) -> Any:
        moved = list(leaves)
        for k, leaf in zip(moving, values, strict=True):
            moved[k] = leaf
        return function(*tree.unflatten(moved))

    return jax.jvp(of_moving, [leaves[k] for k in moving], [dots[k] for k in moving])[1]
