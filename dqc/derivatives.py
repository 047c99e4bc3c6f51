"""Values with the derivatives of functions that need not be evaluated, and linear maps with a transpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from dqc.types import traced


def attach(value: Any, function: Callable[..., Any], *args: Any, held: tuple = ()) -> Any:
    """``value``, with the derivatives of ``function(*held, *args)`` by ``args``, whose value it is.

    The function is evaluated only under differentiation, and then only along the arguments that move.
    It closes over no traced value: what it depends on stands in ``held`` and ``args``, any pytrees. The
    first derivative is taken at fixed ``held``; a second one sees these move as well, which is right
    where the function is stationary in them. Derivatives of ``value`` itself are dropped.
    """
    return _attached(function, jax.lax.stop_gradient(value), held, args)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _attached(function: Callable[..., Any], value: Any, held: tuple, args: tuple) -> Any:
    return beside(value, (held, args))


@partial(_attached.defjvp, symbolic_zeros=True)
def _attached_jvp(function: Callable[..., Any], primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    value, held, args = primals
    slope = push_forward(lambda *args: function(*held, *args), args, tangents[2])
    return _attached(function, value, held, args), slope


def attach_rule(value: Any, rule: Callable[..., Any], x: Any, *args: Any) -> Any:
    """``value``, whose change as the arrays ``x`` move by ``dx`` is ``rule(dx, x, *args)``, linear in ``dx``.

    The rule closes over no traced value. Derivatives of ``value`` and ``args`` themselves are dropped.
    """
    return _ruled(rule, jax.lax.stop_gradient(value), x, jax.lax.stop_gradient(args))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _ruled(rule: Callable[..., Any], value: Any, x: Any, args: tuple) -> Any:
    return beside(value, (x, args))


@partial(_ruled.defjvp, symbolic_zeros=True)
def _ruled_jvp(rule: Callable[..., Any], primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    value, x, args = primals  # only x moves
    return attach_rule(value, rule, x, *args), rule(instantiated(tangents[1], x), x, *args)


def linear(function: Callable[..., Any], transposed: Callable[..., Any], x: Any, *known: Any) -> Array:
    """``function(x, *known)``, linear in the array ``x``, with ``transposed(ct, *known)`` as its transpose.

    Both return one array and close over no traced value; ``known`` are pytrees of arrays. All derivatives
    are available, and those by ``known`` are JAX's own.
    """
    leaves, tree = jax.tree.flatten(known)
    return _linear.bind(x, *leaves, function=function, transposed=transposed, tree=tree)


def linear_on_host(
    function: Callable[..., Any], transposed: Callable[..., Any], shape: tuple[int, ...], x: Any, *known: Any
) -> Array:
    """:func:`linear` for ``function(x, shape, *known)`` of NumPy arrays.

    Outside compiled programs it is simply called. ``transposed`` has the same arguments: ``shape`` is that
    of the result, for either. There are no derivatives by ``known``. Under ``jax.vmap`` it is called for
    one after the other.
    """
    back = partial(_on_host, transposed, jnp.shape(x))
    return linear(partial(_on_host, function, shape), back, x, *jax.lax.stop_gradient(known))


def _on_host(function: Callable[..., Any], shape: tuple[int, ...], x: Any, *known: Any) -> Array:
    def called(x: Any, *known: Any) -> np.ndarray:
        x, known = jax.tree.map(np.asarray, (x, known))
        return np.asarray(function(x, shape, *known))

    if not traced((x, known)):
        return jnp.asarray(called(x, *known))
    result = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.pure_callback(called, result, x, *known, vmap_method="sequential")


def _linear_value(x: Any, *leaves: Any, function: Any, transposed: Any, tree: Any) -> Array:
    return function(x, *tree.unflatten(leaves))


def _linear_shape(*args: Any, **how: Any) -> Any:
    result = jax.eval_shape(partial(_linear_value, **how), *args)
    return jax.core.ShapedArray(result.shape, result.dtype)


def _linear_jvp(primals: tuple, tangents: tuple, **how: Any) -> tuple[Array, Any]:
    (x, *leaves), (dx, *dots) = primals, tangents
    parts = []
    if _moves(dx):
        parts.append(_linear.bind(dx, *leaves, **how))
    if any(map(_moves, dots)):
        parts.append(push_forward(lambda *leaves: _linear_value(x, *leaves, **how), leaves, dots))
    return _linear.bind(*primals, **how), sum(parts[1:], parts[0])


def _linear_transpose(ct: Any, x: Any, *leaves: Any, function: Any, transposed: Any, tree: Any) -> list:
    nothing = [None] * len(leaves)
    if isinstance(ct, ad.Zero):
        return [ad.Zero(x.aval), *nothing]
    return [linear(transposed, function, ct, *tree.unflatten(leaves)), *nothing]


def _linear_batched(args: tuple, axes: tuple, function: Any, transposed: Any, tree: Any) -> tuple[Array, int]:
    x, *leaves = (a if k is None else jnp.moveaxis(a, k, 0) for a, k in zip(args, axes, strict=True))
    at, *over = (None if k is None else 0 for k in axes)
    over = tree.unflatten(over)
    lanes = jax.vmap(transposed, (0, *over))
    # What all lanes share gets its cotangent from all of them: no copy of it is made for each.
    back = lanes if at == 0 else lambda ct, *known: lanes(ct, *known).sum(0)
    return linear(jax.vmap(function, (at, *over)), back, x, *tree.unflatten(leaves)), 0


_linear = Primitive("linear")
_linear.def_impl(_linear_value)
_linear.def_abstract_eval(_linear_shape)
ad.primitive_jvps[_linear] = _linear_jvp
ad.primitive_transposes[_linear] = _linear_transpose
batching.primitive_batchers[_linear] = _linear_batched
mlir.register_lowering(_linear, mlir.lower_fun(_linear_value, multiple_results=False))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def undifferentiated(sentence: str, x: Any) -> Any:
    """The array ``x``; differentiating it raises ``NotImplementedError(sentence)``."""
    return x


@undifferentiated.defjvp
def _refuse(sentence: str, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    raise NotImplementedError(sentence)


def push_forward(function: Callable[..., Any], args: Any, tangents: Any) -> Any:
    """The derivative of ``function`` at ``args`` along ``tangents``, of which some are symbolic zeros."""
    tree: Any
    leaves, tree = jax.tree.flatten(args)
    dots = tree.flatten_up_to(tangents)
    moving = [k for k, dot in enumerate(dots) if _moves(dot)]
    if not moving:
        shapes = jax.eval_shape(function, *args)
        return jax.tree.map(lambda x: np.zeros(x.shape, _tangent_dtype(x.dtype)), shapes)

    def of_moving(*values: Any) -> Any:
        moved = list(leaves)
        for k, leaf in zip(moving, values, strict=True):
            moved[k] = leaf
        return function(*tree.unflatten(moved))

    return jax.jvp(of_moving, [leaves[k] for k in moving], [dots[k] for k in moving])[1]


def _moves(dot: Any) -> bool:
    return not isinstance(dot, (SymbolicZero, ad.Zero))


def instantiated(tangents: Any, primals: Any) -> Any:
    """``tangents`` with zeros, of the shapes of ``primals``, for those that are symbolic."""

    def filled(dot: Any, x: Array) -> Array:
        return dot if _moves(dot) else jnp.zeros_like(x)

    return jax.tree.map(filled, tangents, primals, is_leaf=lambda dot: not _moves(dot))


def beside(value: Any, others: Any) -> Any:
    """``value``, batched under ``jax.vmap`` wherever ``others`` are.

    For the result of a ``custom_jvp`` function whose tangent depends on more than its value: a batched
    tangent of a value that is not has a wrong transpose under ``jit`` (JAX 0.10). Compiles to nothing.
    """
    tree: Any
    leaves, tree = jax.tree.flatten(value)
    return tree.unflatten(_beside.bind(*leaves, *jax.tree.leaves(others), count=len(leaves)))


def _beside_value(*args: Any, count: int) -> list:
    return list(args[:count])


def _beside_jvp(primals: tuple, tangents: tuple, count: int) -> tuple[list, list]:
    return _beside.bind(*primals, count=count), list(tangents[:count])


def _beside_batched(args: tuple, axes: tuple, count: int) -> tuple[list, list[int]]:
    size = next(jnp.shape(x)[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    values = [batching.bdim_at_front(x, axis, size) for x, axis in zip(args[:count], axes, strict=False)]
    return _beside.bind(*values, *args[count:], count=count), [0] * count


_beside = Primitive("beside")
_beside.multiple_results = True
_beside.def_impl(_beside_value)
_beside.def_abstract_eval(_beside_value)
ad.primitive_jvps[_beside] = _beside_jvp
batching.primitive_batchers[_beside] = _beside_batched
mlir.register_lowering(_beside, lambda context, *args, count: args[:count])


def _tangent_dtype(dtype: Any) -> Any:
    return dtype if np.issubdtype(dtype, np.inexact) else jax.dtypes.float0


def trust(good: Array, tree: Any) -> Any:
    """``tree``, whose derivatives, where ``good`` is false, are NaN unless they are zero."""
    return jax.tree.map(partial(_trusted, good), tree)


@jax.custom_jvp
def _trusted(good: Array, value: Array) -> Array:
    return beside(value, good)


@partial(_trusted.defjvp, symbolic_zeros=True)
def _trusted_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Any]:
    good, value = primals
    dot = tangents[1]
    if not _moves(dot):
        return _trusted(good, value), dot

    # An identity, solved for by something that is none where the value is not to be trusted: this has
    # the form of a linear map, which both modes of differentiation pass through.
    def solve(_: Any, b: Array) -> Array:
        return jnp.where(good | (b == 0), b, jnp.nan)

    return _trusted(good, value), jax.lax.custom_linear_solve(lambda x: x, dot, solve, symmetric=True)
