"""Atomic orbitals and their gradients on points."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from math import comb, factorial, pi, sqrt

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dqc.basis import NOWHERE, Basis, Shells
from dqc.derivatives import attach_rule

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
    The AOs come in the order of :func:`ao_indices`. Differentiable by positions, not by the basis.
    """
    parts = [
        _shell_values(l, shells, coords, index, points, order)
        for l, (shells, index) in enumerate(zip(basis, active, strict=True))
        if index.shape[0]
    ]
    # The barriers keep XLA from evaluating exponentials and polynomials again for each AO made of them.
    rows = [[plane for part in parts for plane in part[d]] for d in range(len(parts[0]))]
    rows = jax.lax.optimization_barrier(rows)
    return jnp.stack([jnp.concatenate(row) for row in rows]).transpose(0, 2, 1)


def all_shells(basis: Basis) -> tuple[Int[Array, " h"], ...]:
    """The ``active`` of :func:`ao_values` for which nothing is left out."""
    return tuple(jnp.arange(shells.atom.shape[0], dtype=jnp.int32) for shells in basis)


def ao_indices(basis: Basis, active: tuple[Array, ...]) -> Int[Array, " m"]:
    """The AO index of each column of :func:`ao_values`; ``NOWHERE`` and above for ghosts."""
    first = [s.ao.at[k].get(mode="fill", fill_value=NOWHERE) for s, k in zip(basis, active, strict=True)]
    return jnp.concatenate(
        [(f + jnp.arange(2 * l + 1, dtype=f.dtype)[:, None]).reshape(-1) for l, f in enumerate(first)]
    )


def _shell_values(
    l: int,
    shells: Shells,
    coords: Float[Array, "a x"],
    index: Int[Array, " h"],
    points: Float[Array, "c x"],
    order: int,
) -> list[list[Float[Array, "h c"]]]:
    """For the value and each derivative, one plane for each m = -l..l."""
    # A last row for ghosts: a test for each shell would be repeated for each point.
    atom, exponents, coefficients = (
        jnp.pad(x, ((0, 1),) + ((0, 0),) * (x.ndim - 1)).at[index].get(mode="clip")
        for x in (shells.atom, shells.exponents, shells.coefficients)
    )
    r = _displacements(coords[atom], points)
    still = jax.lax.stop_gradient(r), exponents, coefficients
    return attach_rule(_planes(l, order, *still), partial(_change, l, order), r, exponents, coefficients)


def _displacements(
    centers: Float[Array, "h x"], points: Float[Array, "c x"]
) -> tuple[Float[Array, "h c"], ...]:
    """x, y and z of each point from each center: r - R, as the product of (1, -R) and (r, 1).

    A product is evaluated once, and stands in memory as one wants it. XLA would fuse a difference into
    each exponential that needs it, and read the points with strides there: four times the time. The
    product of a single row it would fuse likewise, in a reverse pass with all that made its cotangent: so a
    row is put below.
    """
    rows = len(centers)
    centers = jnp.pad(centers, ((0, rows == 1), (0, 0)))
    with jax.default_matmul_precision("highest"):
        return tuple(
            (jnp.stack([jnp.ones_like(R), -R], 1) @ jnp.stack([r, jnp.ones_like(r)]))[:rows]
            for R, r in zip(centers.T, points.T, strict=True)
        )


def _planes(
    l: int,
    order: int,
    r: tuple[Float[Array, "h c"], ...],
    exponents: Float[Array, "h g"],
    coefficients: Float[Array, "h g"],
) -> list[list[Float[Array, "h c"]]]:
    """R S and, for ``order=1``, its gradient R' r S + R grad S, of all harmonics S of a shell."""
    radial, slope = _radial(r, exponents, coefficients, 2)
    powers = _powers(l, *r)
    harmonics = solid_harmonics(l)
    values = [_evaluate(p, powers) for p in harmonics]
    rows = [[radial * s for s in values]]
    for axis in range(3 if order else 0):
        slopes = [_evaluate(_derivative(p, axis), powers) for p in harmonics]
        along = slope * r[axis]
        rows.append([along * s + radial * ds for s, ds in zip(values, slopes, strict=True)])
    return rows


def _change(
    l: int,
    order: int,
    dr: tuple[Float[Array, "h c"], ...],
    r: tuple[Float[Array, "h c"], ...],
    exponents: Float[Array, "h g"],
    coefficients: Float[Array, "h g"],
) -> list[list[Float[Array, "h c"]]]:
    """The change of :func:`_planes` as the points move by ``dr``.

    Written out, since automatic differentiation would take each exponential and each power apart, and with
    as few products for each harmonic as there can be: those with ``dr`` alone are common to a shell.
    """
    radial, slope, bend = _radial(r, exponents, coefficients, 3)
    powers = _powers(l, *r)
    along = sum(r[k] * dr[k] for k in range(3))
    stretched, turned = slope * along, [radial * x for x in dr]
    bent = [bend * along * r[k] + slope * dr[k] for k in range(3)]
    sheared = [slope * x for x in dr]

    def dot(vector: list, polynomials: list[Polynomial]) -> Array | float:
        terms = (v * _evaluate(p, powers) for v, p in zip(vector, polynomials, strict=True) if p)
        return sum(terms, 0.0)

    rows: list[list[Float[Array, "h c"]]] = [[] for _ in range(4 if order else 1)]
    for harmonic in solid_harmonics(l):
        slopes = [_derivative(harmonic, k) for k in range(3)]
        S, moved = _evaluate(harmonic, powers), dot(sheared, slopes)
        rows[0].append(stretched * S + dot(turned, slopes))
        for axis, row in enumerate(rows[1:]):
            curved = dot(turned, [_derivative(slopes[axis], k) for k in range(3)])
            along_axis = stretched * _evaluate(slopes[axis], powers)
            row.append(bent[axis] * S + r[axis] * moved + along_axis + curved)
    return rows


def _radial(
    r: tuple[Float[Array, "h c"], ...],
    exponents: Float[Array, "h g"],
    coefficients: Float[Array, "h g"],
    count: int,
) -> list[Float[Array, "h c"]]:
    """R = sum_k c_k exp(-a_k r^2) and ``count - 1`` of its derivatives (d/dr / r)^j R."""
    square = jax.lax.optimization_barrier(sum(x * x for x in r))
    gaussians = [jnp.exp(-exponents[:, k, None] * square) for k in range(exponents.shape[1])]
    powers = [coefficients * (-2.0 * exponents) ** j for j in range(count)]
    return jax.lax.optimization_barrier(
        [sum(c[:, k, None] * g for k, g in enumerate(gaussians)) for c in powers]
    )


def _powers(l: int, *components: Float[Array, "h c"]) -> list[list[Float[Array, "h c"]]]:
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
