"""Atomic orbitals and their gradients on points."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from math import comb, factorial, pi, sqrt

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.basis import Basis, Shells

Polynomial = dict[tuple[int, int, int], float]  # exponents of x, y, z -> coefficient


def ao_values(
    basis: Basis,
    coords: Float[Array, "a x"],
    active: tuple[Array, ...],
    points: Float[Array, "c x"],
    order: int = 1,
) -> Float[Array, "d c m"]:
    """Values (and, for ``order=1``, gradients) of the AOs of the ``active`` shells on points, bohr^(-3/2).

    ``active`` lists shells for each angular momentum; an index out of range is a ghost and gives zeros.
    The AOs come in the order of :func:`ao_indices`.
    """
    parts = [
        _shell_values(l, shells, coords, index, points, order)
        for l, (shells, index) in enumerate(zip(basis, active, strict=True))
        if index.shape[0]
    ]
    # The barriers keep XLA from evaluating exponentials and polynomials again for each AO made of them.
    rows = [[plane for part in parts for plane in part[d]] for d in range(len(parts[0]))]
    rows = jax.lax.optimization_barrier(rows)
    return jnp.stack([jnp.concatenate(row, axis=-1) for row in rows])


def ao_indices(basis: Basis, active: tuple[Array, ...], n: int) -> Int[Array, " m"]:
    """The AO index of each column of :func:`ao_values`; ``n``, out of range, for ghosts."""
    parts = []
    for l, (shells, index) in enumerate(zip(basis, active, strict=True)):
        first = shells.ao.at[index].get(mode="fill", fill_value=n)
        ao = first + jnp.arange(2 * l + 1)[:, None]
        parts.append(jnp.where(first < n, ao, n).reshape(-1))
    return jnp.concatenate(parts)


def _shell_values(
    l: int,
    shells: Shells,
    coords: Float[Array, "a x"],
    index: Int[Array, " h"],
    points: Float[Array, "c x"],
    order: int,
) -> list[list[Float[Array, "c h"]]]:
    """For the value and each derivative, one plane for each m = -l..l."""
    center = coords[shells.atom.at[index].get(mode="fill", fill_value=0)]
    exponents = shells.exponents.at[index].get(mode="fill", fill_value=0.0)
    coefficients = shells.coefficients.at[index].get(mode="fill", fill_value=0.0)
    x, y, z = (points[:, None, k] - center[:, k] for k in range(3))
    r2 = x * x + y * y + z * z
    gaussians = [jnp.exp(-exponents[:, k] * r2) for k in range(exponents.shape[1])]
    radial = sum(coefficients[:, k] * g for k, g in enumerate(gaussians))
    slope = sum(-2.0 * exponents[:, k] * coefficients[:, k] * g for k, g in enumerate(gaussians))
    radial, slope = jax.lax.optimization_barrier((radial, slope))
    powers = _powers(l, x, y, z)
    harmonics = solid_harmonics(l)
    values = [_evaluate(p, powers) for p in harmonics]
    rows = [[radial * s for s in values]]
    for axis, component in enumerate((x, y, z) if order else ()):
        slopes = [_evaluate(_derivative(p, axis), powers) for p in harmonics]
        along = slope * component
        rows.append([along * s + radial * ds for s, ds in zip(values, slopes, strict=True)])
    return rows


def _powers(l: int, *components: Float[Array, "c h"]) -> list[list[Float[Array, "c h"]]]:
    table = []
    for component in components:
        powers = [jnp.ones_like(component)]
        for _ in range(l):
            powers.append(powers[-1] * component)
        table.append(powers)
    return table


def _evaluate(polynomial: Polynomial, powers: list) -> Array | float:
    total: Array | float = 0.0
    for exponents, coefficient in polynomial.items():
        term: Array | float = coefficient
        for power, exponent in zip(powers, exponents, strict=True):
            term = term * power[exponent] if exponent else term
        total = total + term
    return total


def _derivative(polynomial: Polynomial, axis: int) -> Polynomial:
    result = {}
    for exponents, coefficient in polynomial.items():
        if exponents[axis]:
            lowered = list(exponents)
            lowered[axis] -= 1
            result[tuple(lowered)] = coefficient * exponents[axis]
    return result  # type: ignore[return-value]


@lru_cache(maxsize=16)
def solid_harmonics(l: int) -> tuple[Polynomial, ...]:
    """The real solid harmonics r^l Y_lm as polynomials, for m = -l..l (x, y, z for l = 1).

    r^l Y_lm = N_lm Pi_lm(z, r) {Re, Im}(x + iy)^|m|, with Pi_lm the associated Legendre polynomial
    without its sine factor: Helgaker, Jorgensen, Olsen, Molecular Electronic-Structure Theory
    (2000), section 6.4.2.
    """
    table = {}
    for m in range(l + 1):
        norm = sqrt((2 * l + 1) / (4 * pi) * factorial(l - m) / factorial(l + m) * (2 if m else 1))
        legendre = _legendre(l, m)
        table[m] = _product(legendre, _azimuthal(m, 0), norm)
        if m:
            table[-m] = _product(legendre, _azimuthal(m, 1), norm)
    order = (1, -1, 0) if l == 1 else range(-l, l + 1)
    return tuple(table[m] for m in order)


def _legendre(l: int, m: int) -> Polynomial:
    """Pi_lm(z, r) with its powers of r^2 expanded in x, y and z."""
    result: Polynomial = defaultdict(float)
    for k in range((l - m) // 2 + 1):
        c = (-1) ** k * comb(l, k) * comb(2 * l - 2 * k, l) * factorial(l - 2 * k)
        c /= 2**l * factorial(l - 2 * k - m)
        for i in range(k + 1):
            for j in range(k - i + 1):
                weight = factorial(k) // (factorial(i) * factorial(j) * factorial(k - i - j))
                result[2 * i, 2 * j, 2 * (k - i - j) + l - 2 * k - m] += c * weight
    return dict(result)


def _azimuthal(m: int, part: int) -> Polynomial:
    """The real (part 0) or imaginary (part 1) part of (x + iy)^m."""
    return {(m - j, j, 0): (-1.0) ** (j // 2) * comb(m, j) for j in range(part, m + 1, 2)}


def _product(left: Polynomial, right: Polynomial, scale: float) -> Polynomial:
    result: Polynomial = defaultdict(float)
    for (a, b, c), u in left.items():
        for (d, e, f), v in right.items():
            result[a + d, b + e, c + f] += scale * u * v
    return {k: v for k, v in result.items() if v}
