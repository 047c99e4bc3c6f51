"""The networks inside neural functionals: Flax modules from features of grid points to one number each."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


@runtime_checkable
class NetworkLike(Protocol):
    """What a network must offer; every Linen module does. It is hashable: part of a compiled program."""

    def init(self, key: Array, x: Float[Array, "g f"]) -> Any: ...

    def apply(self, variables: Any, x: Float[Array, "g f"]) -> Float[Array, "..."]: ...


@jax.custom_jvp
def squareplus(x: Float[Array, "*g"]) -> Float[Array, "*g"]:
    """(x + sqrt(x^2 + 4)) / 2, a smooth rectifier with m(0) = 1 and m(x) m(-x) = 1 (arXiv:2112.11687).

    It needs a square root where others need an exponential, which takes ten times as long.
    """
    return _squareplus(x)[0]


@squareplus.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """m'(x) = m(x) / sqrt(x^2 + 4): no division, and one root for value and derivative."""
    m, inverse_root = _squareplus(*primals)
    return m, m * inverse_root * tangents[0]


def _squareplus(x: Float[Array, "*g"]) -> tuple[Float[Array, "*g"], Float[Array, "*g"]]:
    square = x * x + 4.0
    inverse_root = jax.lax.rsqrt(square)
    return 0.5 * (x + square * inverse_root), inverse_root


@jax.custom_jvp
def affine(
    kernel: Float[Array, "o i"], bias: Float[Array, "o 1"], y: Float[Array, "i g"]
) -> Float[Array, "o g"]:
    """kernel @ y + bias, with a derivative whose transpose XLA computes fast on CPUs."""
    return kernel @ y + bias


@affine.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    kernel, _, y = primals
    d_kernel, d_bias, dy = tangents
    # XLA multiplies by a matrix as it lies in a third of the time that one to be transposed takes, and would
    # undo a transposition that it sees: so the reverse pass is given the transposed kernel as a product. The
    # outer product of a single row it would fuse with all that made the cotangent, anew for each of its rows:
    # so a row of zeros is put below.
    rows = kernel.shape[0]
    kernel = jnp.pad(kernel, ((0, rows == 1), (0, 0)))
    transposed = _product(kernel, jnp.eye(kernel.shape[0], dtype=kernel.dtype))
    return affine(*primals), d_kernel @ y + d_bias + _product(transposed, dy)[:rows]


def _product(a: Float[Array, "k i"], b: Float[Array, "k g"]) -> Float[Array, "i g"]:
    """a^T b, exact where b is the identity."""
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision="highest")


class Perceptron(nn.Module):
    """Dense layers with smooth rectifiers between them; the last one, and so the value, starts at zero."""

    hidden: tuple[int, ...] = (16, 8)
    precision: str = "float64"

    @nn.compact
    def __call__(self, x: Float[Array, "g f"]) -> Float[Array, " g"]:
        # Layers are rows of points, not points of rows: products and rectifiers run along memory.
        y = x.T.astype(self.precision)
        for layer, width in enumerate(self.hidden):
            y = squareplus(self._dense(layer, width, nn.initializers.lecun_normal(-1, -2), y)) - 1.0
        return self._dense(len(self.hidden), 1, nn.initializers.zeros, y)[0]

    def _dense(self, layer: int, width: int, start: Any, y: Array) -> Array:
        kernel = self.param(f"kernel_{layer}", start, (width, y.shape[0]), y.dtype)
        bias = self.param(f"bias_{layer}", nn.initializers.zeros, (width, 1), y.dtype)
        return affine(kernel, bias, y)


class FromNNX(NamedTuple):
    """An NNX module as a network: its graph is the program, its state the parameters."""

    graph: Any
    state: tuple[Any, ...]  # leaves and their structure, with which the parameters start

    def init(self, key: Array, x: Array) -> Any:
        return jax.tree.unflatten(self.state[1], [leaf.value for leaf in self.state[0]])

    def apply(self, variables: Any, x: Array) -> Array:
        return nnx.merge(self.graph, variables)(x)


class _Leaf:
    """An array that hashes by identity, so that a static field can hold it."""

    def __init__(self, value: Array) -> None:
        self.value = value


def adapted(network: Any) -> NetworkLike:
    """A Linen module as it is, an NNX module through :class:`FromNNX`.

    Raises a ``ValueError`` for what is neither and has no ``init`` and ``apply``.
    """
    if isinstance(network, nnx.Module):
        graph, state = nnx.split(network)
        leaves, structure = jax.tree.flatten(state)
        return FromNNX(graph, (tuple(_Leaf(leaf) for leaf in leaves), structure))
    if not (hasattr(network, "init") and hasattr(network, "apply")):
        raise ValueError(
            f"a network is a Flax module (Linen or NNX), or anything with init(key, x) and "
            f"apply(variables, x), not {type(network).__name__}"
        )
    return network
