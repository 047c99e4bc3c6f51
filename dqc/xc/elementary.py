"""Elementary functions that a density functional spends its time in, fast in double precision.

On a CPU, XLA's float64 logarithm and cube root are library calls of 15-25 ns a point and keep the
loop around them from vectorising. Here they are a few multiplications on the bits of the number: 1 ns.
On other devices, and in other precisions, XLA's own functions are used. Each has its derivative as a
rule written with the functions themselves, so that every order of differentiation works.

Arguments are positive normal numbers (the functionals guard zero before they call).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_EXPONENT_OF_TWO_52 = 0x4330000000000000  # bits of 2^52, whose last mantissa bit is worth 1
_BITS_OF_ROOT_HALF = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
_BITS_HIGH_OF_ONE = 0x3FF00000  # upper 32 bits of 1.0
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


def _bits(x: Array) -> Array:
    return lax.bitcast_convert_type(x, jnp.int64)


def _float(i: Array) -> Array:
    return lax.bitcast_convert_type(i, jnp.float64)


def _small_int_to_float(i: Array) -> Array:
    """A non-negative integer below 2^52 as a float, by its bits (this vectorises everywhere)."""
    return _float(i | _EXPONENT_OF_TWO_52) - 2.0**52


def _split(x: Array) -> tuple[Array, Array]:
    """k and m in [sqrt(1/2), sqrt(2)) with x = 2^k m."""
    i = _bits(x)
    k = (i - _BITS_OF_ROOT_HALF) >> 52
    return _small_int_to_float(k + 2048) - 2048.0, _float(i - (k << 52))


def _log_of_product(k: Array, f: Array) -> Array:
    """ln[2^k (1 + f)], ln(1 + f) = 2 artanh(s) with s = f/(2 + f)."""
    s = f / (2.0 + f)
    z = s * s
    series = jnp.zeros_like(z)
    for n in range(10, 0, -1):
        series = (series + 1.0 / (2 * n + 1)) * z
    return k * _LN2_HIGH + (2.0 * s + (2.0 * s * series + k * _LN2_LOW))


def _log_by_bits(x: Array) -> Array:
    k, m = _split(x)
    return _log_of_product(k, m - 1.0)


def _log1p_by_bits(x: Array) -> Array:
    """Where 1 + x needs no reduction, f = x: its rounding is not corrected, since XLA folds (1 + x) - 1."""
    k, m = _split(1.0 + x)
    return _log_of_product(k, jnp.where(k == 0.0, x, m - 1.0))


def _cbrt_by_bits(x: Array) -> Array:
    """x y^2 with y = x^(-1/3): a linear guess in the bits, then y <- y (1 - e)^(-1/3), e = 1 - x y^3."""
    high = _small_int_to_float(_bits(x) >> 32)
    guess = high * (-1.0 / 3.0) + (4.0 / 3.0 * _BITS_HIGH_OF_ONE - 5.0e4)
    y = _float(_bits(guess + 2.0**52) << 32)
    for _ in range(3):
        e = 1.0 - (x * y) * (y * y)
        y = y + y * e * (1.0 / 3.0 + e * (2.0 / 9.0 + e * (14.0 / 81.0)))
    return x * (y * y)


def divide(x: Float[Array, "..."] | float, y: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """x / y, whose derivatives of every order are one division by y: q = x/y changes by (dx - q dy)/y.

    JAX's own rule, dx/y - x y^(-2) dy, divides twice, in further orders by higher powers of y, and ends in
    a sum, which XLA on the CPU evaluates again wherever it is used: Hessians take two to five times as long.
    """
    shape, dtype = jnp.broadcast_shapes(jnp.shape(x), jnp.shape(y)), jnp.result_type(x, y)
    return _divide.bind(*(jnp.broadcast_to(jnp.asarray(a, dtype), shape) for a in (x, y)))


def _divide_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    q = _divide.bind(x, y)
    if not isinstance(dy, ad.Zero):
        dx = -(q * dy) if isinstance(dx, ad.Zero) else dx - q * dy
    return q, _divide.bind(dx, y)


def _divide_transpose(ct: Any, x: Any, y: Array) -> tuple[Any, None]:
    return (ct if isinstance(ct, ad.Zero) else _divide.bind(ct, y)), None


def _divide_batched(args: tuple, axes: tuple) -> tuple[Array, int]:
    size = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)
    return _divide.bind(*(batching.bdim_at_front(x, k, size) for x, k in zip(args, axes, strict=True))), 0


_divide = Primitive("divide")
_divide.def_impl(lax.div)
_divide.def_abstract_eval(lambda x, y: x)
ad.primitive_jvps[_divide] = _divide_jvp
ad.primitive_transposes[_divide] = _divide_transpose
batching.primitive_batchers[_divide] = _divide_batched
mlir.register_lowering(_divide, mlir.lower_fun(lax.div, multiple_results=False))


@jax.custom_jvp
def log(x: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """Natural logarithm of a positive number, to 1 ulp or so."""
    if x.dtype != jnp.float64:
        return jnp.log(x)
    return lax.platform_dependent(x, cpu=_log_by_bits, default=jnp.log)


@log.defjvp
def _log_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return log(x), divide(dx, x)


@jax.custom_jvp
def log1p(x: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """ln(1 + x) for x > -1, accurate at small x."""
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    return lax.platform_dependent(x, cpu=_log1p_by_bits, default=jnp.log1p)


@log1p.defjvp
def _log1p_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return log1p(x), divide(dx, 1.0 + x)


@jax.custom_jvp
def cbrt(x: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """Cube root of a positive number."""
    if x.dtype != jnp.float64:
        return jnp.cbrt(x)
    return lax.platform_dependent(x, cpu=_cbrt_by_bits, default=jnp.cbrt)


@cbrt.defjvp
def _cbrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    c = cbrt(x)
    return c, divide(dx, 3.0 * (c * c))


_ARCSINH_SERIES = (  # arcsinh(x)/x = sum_n c_n x^(2n), c_n = (-1)^n (2n)! / (4^n n!^2 (2n + 1))
    1.0, -1 / 6, 3 / 40, -15 / 336, 105 / 3456, -945 / 42240, 10395 / 599040, -135135 / 9676800,
    2027025 / 175472640, -34459425 / 3530096640,
)  # fmt: skip


@jax.custom_jvp
def arcsinh_ratio(q: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """arcsinh(x)/x as a function of q = x^2 >= 0, analytic at q = 0."""
    small = q < 0.01
    x = jnp.sqrt(jnp.where(small, 1.0, q))
    return jnp.where(small, _series(jnp.where(small, q, 0.0), 0), divide(log(x + jnp.sqrt(1.0 + x * x)), x))


@arcsinh_ratio.defjvp
def _arcsinh_ratio_jvp(primals, tangents):
    """d/dq [arcsinh(x)/x] = (1/sqrt(1 + q) - arcsinh(x)/x) / (2 q)."""
    (q,), (dq,) = primals, tangents
    value = arcsinh_ratio(q)
    small = q < 0.01
    safe = jnp.where(small, 1.0, q)
    far = divide(divide(1.0, jnp.sqrt(1.0 + safe)) - value, 2.0 * safe)
    return value, jnp.where(small, _series(jnp.where(small, q, 0.0), 1), far) * dq


def _series(q: Array, derivative: int) -> Array:
    """The series of arcsinh(x)/x in q, or its first derivative."""
    if derivative:
        coefficients = [n * c for n, c in enumerate(_ARCSINH_SERIES)][1:]
    else:
        coefficients = list(_ARCSINH_SERIES)
    total = jnp.full_like(q, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * q + c
    return total
