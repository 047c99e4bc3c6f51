"""Sums and multiples of functionals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree, static
from dqc.xc.features import Features
from dqc.xc.functional import Functional, Needs, Rung

RUNGS: tuple[Rung, ...] = ("none", "lda", "gga", "mgga")


def merge_needs(*needs: Needs) -> Needs:
    """The needs of a sum: the highest rung, the union of the omegas, any exchange density."""
    return Needs(
        rung=max((n.rung for n in needs), key=RUNGS.index, default="none"),
        omegas=tuple(sorted({w for n in needs for w in n.omegas})),
        exchange_density=any(n.exchange_density for n in needs),
    )


class Algebra:
    """Arithmetic for functionals: ``f + g``, ``f - g``, ``0.5 * f``, ``f / 2``, ``-f``.

    A Python number is a fixed coefficient; a JAX array or a NumPy array becomes a leaf of the tree.
    """

    def __add__(self, other: Any) -> Sum:
        return Sum((self, other)) if isinstance(other, Functional) else NotImplemented  # type: ignore

    def __radd__(self, other: Any) -> Any:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum([f, g])

    def __sub__(self, other: Any) -> Sum:
        return Sum((self, -1.0 * other)) if isinstance(other, Functional) else NotImplemented  # type: ignore

    def __mul__(self, factor: Any) -> Scaled:
        return scaled(factor, self)  # type: ignore[arg-type]

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Scaled:
        return scaled(1.0 / divisor, self)  # type: ignore[arg-type]

    def __neg__(self) -> Scaled:
        return scaled(-1.0, self)  # type: ignore[arg-type]


def scaled(factor: Any, functional: Functional) -> Scaled:
    """``factor * functional``; raises a ``ValueError`` when the factor is not one real number."""
    if isinstance(factor, (int, float)) and not isinstance(factor, bool):
        return Scaled(functional, None, float(factor))
    factor = jnp.asarray(factor)
    if factor.ndim or not jnp.issubdtype(factor.dtype, jnp.floating):
        raise ValueError(f"a functional is scaled by one real number, not by {factor.dtype} {factor.shape}")
    return Scaled(functional, factor, 1.0)


@pytree
class Scaled(Algebra):
    """A multiple of a functional: both its energy density and its exact exchange."""

    functional: Functional
    factor: Float[Array, ""] | None  # a leaf, when the factor was an array
    constant: float = static(default=1.0)

    @property
    def _scale(self) -> float | Float[Array, ""]:
        return self.constant if self.factor is None else self.constant * self.factor

    @property
    def needs(self) -> Needs:
        return self.functional.needs

    def exchange(self) -> dict[float, Float[Array, ""]]:
        return {omega: self._scale * a for omega, a in self.functional.exchange().items()}

    def __call__(self, features: Features) -> Float[Array, " g"]:
        return self._scale * self.functional(features)


@pytree
class Sum(Algebra):
    """A sum of functionals: energy densities add, and so do the coefficients of exact exchange."""

    parts: tuple[Functional, ...]

    @property
    def needs(self) -> Needs:
        return merge_needs(*(f.needs for f in self.parts))

    def exchange(self) -> dict[float, Float[Array, ""]]:
        total: dict[float, Float[Array, ""]] = {}
        for part in self.parts:
            for omega, a in part.exchange().items():
                total[omega] = total[omega] + a if omega in total else a
        return total

    def __call__(self, features: Features) -> Float[Array, " g"]:
        return jax.tree_util.tree_reduce(jnp.add, [f(features) for f in self.parts])
