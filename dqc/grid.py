"""Atom-centred integration grids.

Points sit on spheres around the atoms, which are PySCF's for a grid level; the molecule's weights are
Becke's partition of unity, a JAX function of the nuclear positions. For speed the points are stored
as chunks of neighbours, each with the list of the shells that reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dqc.basis import Basis
from dqc.derivatives import attach_rule
from dqc.types import pytree

AO_THRESHOLD = 3e-8  # an AO below this on a chunk is left out there, bohr^(-3/2)
POINT_THRESHOLD = 1e-14  # a point with a smaller weight is dropped, bohr^3
WORTH_A_BLOCK = 0.85  # one more block, and program to compile, must bring the work below this share


@pytree
class Block:
    """Chunks of grid points that see the same number of shells of each angular momentum.

    A ghost point has quadrature weight 0; a ghost shell has an index out of range.
    """

    atom: Int[Array, "b c"]  # the atom each point belongs to
    offset: Float[Array, "b c x"]  # the point relative to its atom, bohr
    quadrature: Float[Array, "b c"]  # the atomic quadrature's weight, bohr^3
    weights: Float[Array, "b c"]  # the molecule's weight: quadrature times Becke's share, bohr^3
    shells: tuple[Int[Array, "b h"], ...]  # for each l, the shells that reach the chunk
    ao: Float[Array, "b d c m"] | None = None  # AO values and gradients; None: recomputed on the fly
    index: Int[Array, "b m"] | None = None  # which AOs these are, a ghost's out of range
    # What makes the exact-exchange energy density: Coulomb potentials (Repulsion.mixed) of fitting functions
    # or of pairs of AOs, or without a basis that density itself; None where no functional needs it
    potential: Float[Array, "b c P"] | Float[Array, "b c pq"] | Float[Array, "b s c"] | None = None


@pytree
class Grid:
    """Integration points, as blocks, and what Becke's partition needs to know of the atoms."""

    blocks: tuple[Block, ...]
    radii: Float[Array, " a"]  # Bragg-Slater radii, bohr; 0 for a ghost atom


def becke_share(
    points: Float[Array, "c x"],
    atom: Int[Array, " c"],
    coords: Float[Array, "a x"],
    radii: Float[Array, " a"],
) -> Float[Array, " c"]:
    """The share of a point that belongs to its atom, P_A / sum_B P_B.

    P_A = prod_B s(nu_AB), nu = mu + a (1 - mu^2) with Treutler and Ahlrichs' a from the square roots
    of the radii. Becke (1988), doi:10.1063/1.454033, eqs. 13, 19-22 and A2; Treutler, Ahlrichs (1995),
    doi:10.1063/1.469408.
    """
    real = radii > 0
    root = jnp.sqrt(jnp.where(real, radii, 1.0))
    shift = jnp.clip(0.25 * (root / root[:, None] - root[:, None] / root), -0.5, 0.5)
    n = coords.shape[0]
    pair = coords[:, None] - coords
    apart = ~jnp.eye(n, dtype=bool) & real[:, None] & real
    inverse = jnp.where(apart, 1.0 / jnp.sqrt(jnp.where(apart, (pair**2).sum(-1), 1.0)), 0.0)
    square = sum((points[:, k] - coords[:, k, None]) ** 2 for k in range(3))
    distance = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    cells = real[:, None] * _cells((distance, inverse), shift, apart)
    return jnp.where(atom == jnp.arange(n)[:, None], cells, 0.0).sum(0) / cells.sum(0)


def _cells(
    lengths: tuple[Float[Array, "a c"], Float[Array, "a a"]],
    shift: Float[Array, "a a"],
    apart: Bool[Array, "a a"],
) -> Float[Array, "a c"]:
    """P_A = prod_B s(nu_AB), from the distances to the points and the inverse ones between the atoms."""
    distance, inverse = jax.lax.stop_gradient(lengths)

    def multiply(cells: Float[Array, "a c"], other: tuple) -> tuple[Float[Array, "a c"], None]:
        return cells * _switch(distance, *other)[0], None

    cells, _ = jax.lax.scan(multiply, jnp.ones_like(distance), (distance, inverse, shift.T, apart))
    return attach_rule(cells, _cells_change, lengths, shift, apart)


def _cells_change(
    moves: tuple[Float[Array, "a c"], Float[Array, "a a"]],
    lengths: tuple[Float[Array, "a c"], Float[Array, "a a"]],
    shift: Float[Array, "a a"],
    apart: Bool[Array, "a a"],
) -> Float[Array, "a c"]:
    """dP_A = P_A sum_B (d ln s(nu_AB) / d mu_AB) d mu_AB."""
    (distance, inverse), (dd, di) = lengths, moves

    @jax.checkpoint  # in reverse mode nothing is kept for each pair of atoms
    def add(total: Float[Array, "a c"], others: tuple) -> tuple[Float[Array, "a c"], None]:
        other, (dd_b, di_b) = others
        _, slope = _switch(distance, *other)
        dmu = (dd - dd_b) * other[1][:, None] + (distance - other[0]) * di_b[:, None]
        return total + slope * dmu, None

    others = (distance, inverse, shift.T, apart), (dd, di)
    total, _ = jax.lax.scan(add, jnp.zeros_like(distance), others)
    return _cells(lengths, shift, apart) * total


def _switch(
    distance: Float[Array, "a c"],
    other: Float[Array, " c"],
    inverse: Float[Array, " a"],
    shift: Float[Array, " a"],
    apart: Bool[Array, " a"],
) -> tuple[Float[Array, "a c"], Float[Array, "a c"]]:
    """s(nu_AB) for all A and one B, and d ln s / d mu."""
    mu = (distance - other) * inverse[:, None]
    nu = mu + shift[:, None] * (1.0 - mu * mu)
    slope = 1.0 - 2.0 * shift[:, None] * mu
    for _ in range(3):
        slope = slope * 1.5 * (1.0 - nu * nu)
        nu = 0.5 * nu * (3.0 - nu * nu)
    s = jnp.where(apart[:, None], 0.5 * (1.0 - nu), 1.0)
    inside = apart[:, None] & (s > 0)
    return s, jnp.where(inside, -0.5 * slope / jnp.where(inside, s, 1.0), 0.0)


@jax.jit
def becke_weights(
    atom: Int[Array, "b c"],
    offset: Float[Array, "b c x"],
    quadrature: Float[Array, "b c"],
    coords: Float[Array, "a x"],
    radii: Float[Array, " a"],
) -> Float[Array, "b c"]:
    """Quadrature weights times each point's share, chunk by chunk, bohr^3."""

    @jax.checkpoint
    def chunk(args: tuple) -> Float[Array, " c"]:
        atom, offset, quadrature = args
        return quadrature * becke_share(coords[atom] + offset, atom, coords, radii)

    return jax.lax.map(chunk, (atom, offset, quadrature))


def angular_points(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lebedev's quadrature of a sphere with ``count`` points: directions (u, x) and weights of sum 1."""
    from pyscf.dft.LebedevGrid import MakeAngularGrid

    table = np.asarray(MakeAngularGrid(count))
    return table[:, :3], table[:, 3]


def bragg_radii(numbers: Sequence[int]) -> np.ndarray:
    """Bragg and Slater's radii of elements by atomic number, bohr."""
    from pyscf.data.radii import BRAGG

    return np.asarray(BRAGG[list(numbers)])


def atomic_points(mole: Any, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PySCF's spherical quadratures of a grid level: atom (g,), offset (g, x), quadrature (g,)."""
    from pyscf.dft import gen_grid, radi

    table = gen_grid.gen_atomic_grids(
        mole, level=level, radi_method=radi.treutler, prune=gen_grid.nwchem_prune
    )
    parts = [table[mole.atom_symbol(a)] for a in range(mole.natm)]
    atom = np.repeat(np.arange(mole.natm, dtype=np.int32), [len(weights) for _, weights in parts])
    return atom, np.concatenate([p for p, _ in parts]), np.concatenate([w for _, w in parts])


def chunk_order(points: np.ndarray, size: int) -> np.ndarray:
    """An order of the points in which each run of ``size`` is a compact cell: bisection at medians."""
    order = np.arange(len(points))
    columns = np.ascontiguousarray(points.T)
    spans = [(0, len(points))]
    while spans:
        start, stop = spans.pop()
        chunks = -(-(stop - start) // size)
        if chunks < 2:
            continue
        cell = columns[:, start:stop]
        axis = int(np.argmax(cell.max(1) - cell.min(1)))
        middle = (chunks // 2) * size
        split = np.argpartition(cell[axis], middle)
        order[start:stop] = order[start:stop][split]
        columns[:, start:stop] = np.take(cell, split, axis=1)
        spans += [(start, start + middle), (start + middle, stop)]
    return order


def shell_reach(basis: Basis, threshold: float = AO_THRESHOLD) -> tuple[np.ndarray, ...]:
    """For each l, the distance beyond which each shell stays below ``threshold``, bohr."""
    r = np.linspace(0.2, 60.0, 600)
    reach = []
    for l, shells in enumerate(basis):
        decay = np.exp(-np.asarray(shells.exponents)[:, :, None] * r**2)
        size = np.einsum("hr,hrg->hg", np.abs(np.asarray(shells.coefficients)), decay) * r**l
        reach.append(r[np.minimum((size[:, ::-1] > threshold).argmax(1) * -1 + len(r), len(r) - 1)])
    return tuple(reach)


def build_grid(mole: Any, basis: Basis, level: int, chunk: int, max_blocks: int = 4) -> Grid:
    """The grid of a molecule at PySCF's ``level`` (0 to 9), without AO values, in few blocks."""
    coords = np.asarray(mole.atom_coords())
    radii = bragg_radii([int(mole.atom_nelec_core(a) + mole.atom_charge(a)) for a in range(mole.natm)])
    atom, offset, quadrature = atomic_points(mole, level)
    shares = (_chunked(x, chunk) for x in (atom, offset, quadrature))
    weights = np.asarray(becke_weights(*shares, coords, radii)).reshape(-1)[: len(atom)]
    points = coords[atom] + offset
    reach = shell_reach(basis)
    keep = np.abs(weights) > POINT_THRESHOLD  # some Lebedev weights are negative
    atom, offset, quadrature, weights, points = (x[keep] for x in (atom, offset, quadrature, weights, points))
    order = chunk_order(points, chunk)
    chunks = [_chunked(x[order], chunk) for x in (atom, offset, quadrature, weights)]
    active = _active_shells(_chunked(points[order], chunk, mode="edge"), coords, basis, reach)
    blocks = tuple(
        Block(*(x[rows] for x in chunks), _shell_lists(rows, active))  # type: ignore[call-arg]
        for rows in _group(active, max_blocks)
    )
    return Grid(blocks=blocks, radii=radii)  # type: ignore[arg-type]


def _chunked(values: np.ndarray, size: int, mode: str = "constant") -> np.ndarray:
    """Rows in chunks of ``size``, the last one padded with zeros (or with its last row)."""
    pad = -len(values) % size
    padded = np.pad(values, [(0, pad)] + [(0, 0)] * (values.ndim - 1), mode=mode)  # type: ignore[call-overload]
    return padded.reshape(-1, size, *values.shape[1:])


def _active_shells(
    points: np.ndarray, coords: np.ndarray, basis: Basis, reach: tuple[np.ndarray, ...]
) -> list[np.ndarray]:
    """For each l, which shells (b, h) come within reach of each chunk's bounding box."""
    low, high = points.min(1), points.max(1)
    outside = np.maximum(low[:, None] - coords, 0.0) + np.maximum(coords - high[:, None], 0.0)
    distance = np.sqrt((outside**2).sum(-1))
    return [distance[:, np.asarray(s.atom)] <= r for s, r in zip(basis, reach, strict=True)]


def _group(active: list[np.ndarray], most: int) -> list[np.ndarray]:
    """Chunks in at most ``most`` groups of like size, so that the padded work sum b m^2 is least."""
    counts = [a.sum(1) for a in active]
    size = sum((2 * l + 1) * count for l, count in enumerate(counts))
    order = np.argsort(size, kind="stable")
    padded = np.maximum.accumulate(np.stack([c[order] for c in counts]), axis=1)
    width = sum((2 * l + 1) * count for l, count in enumerate(padded))
    b = len(order)
    cost = np.full((most + 1, b + 1), np.inf)
    cost[0, 0] = 0.0
    cut = np.zeros((most + 1, b + 1), dtype=int)
    for k in range(1, most + 1):
        for stop in range(1, b + 1):
            trial = cost[k - 1, :stop] + (stop - np.arange(stop)) * float(width[stop - 1]) ** 2
            cut[k, stop] = int(trial.argmin())
            cost[k, stop] = trial[cut[k, stop]]
    blocks = 1
    while blocks < most and cost[blocks + 1, b] < WORTH_A_BLOCK * cost[blocks, b]:
        blocks += 1
    groups, stop = [], b
    for k in range(blocks, 0, -1):
        start = cut[k, stop]
        if stop > start:
            groups.append(order[start:stop])
        stop = start
    return groups[::-1]


def _shell_lists(rows: np.ndarray, active: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The indices of the active shells of each chunk, padded with an index out of range."""
    lists = []
    for mask in active:
        chosen = mask[rows]
        order = np.argsort(~chosen, axis=1, kind="stable")[:, : chosen.sum(1).max(initial=0)]
        inside = np.take_along_axis(chosen, order, axis=1)
        lists.append(np.where(inside, order, mask.shape[1]).astype(np.int32))
    return tuple(lists)
