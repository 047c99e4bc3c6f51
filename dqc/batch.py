"""Systems of different molecules brought to one shape, so that one program serves them all.

A ghost orbital has unit overlap and a high level of its own; a ghost shell has coefficients of zero; a
ghost grid point has weight zero; a ghost atom has no charge and sits far away. None changes an energy
beyond round-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import jax
import numpy as np

from dqc.basis import NOWHERE, Basis, Shells
from dqc.grid import Block, Grid
from dqc.integrals.coulomb import Fitted
from dqc.integrals.source import Source
from dqc.linalg import ghost_level
from dqc.system import System, store_ao, strip_ao
from dqc.types import on_device, replace

GROWTH = 1.25  # within a bucket, the largest over the smallest number of orbitals, and of grid points
FAR = 1e4  # bohr; where ghost atoms sit

BlockShape = tuple[int, tuple[int, ...]]  # chunks, and shells of each l that reach one


class Shape(NamedTuple):
    """The sizes that padding can change."""

    atoms: int
    orbitals: int
    slots: int
    auxiliary: tuple[int, ...]  # of each repulsion operator; 0 for exact integrals
    shells: tuple[tuple[int, int], ...]  # for each l: shells, and primitives of one
    grid: tuple[BlockShape, ...]
    coarse: tuple[BlockShape, ...]
    source: tuple[int, ...]  # rows of its three tables, and their numbers; empty for none


def shape_of(system: System) -> Shape:
    """The sizes of a system."""

    def blocks(grid: Grid | None) -> tuple[BlockShape, ...]:
        return tuple(
            (b.weights.shape[0], tuple(s.shape[1] for s in b.shells)) for b in (grid.blocks if grid else ())
        )

    return Shape(
        atoms=system.charges.shape[0],
        orbitals=system.overlap.shape[0],
        slots=system.occupations.shape[1],
        auxiliary=tuple(r.factor.shape[0] if isinstance(r, Fitted) else 0 for r in system.repulsion),
        shells=tuple((s.exponents.shape[0], s.exponents.shape[1]) for s in system.basis),
        grid=blocks(system.grid),
        coarse=blocks(system.coarse),
        source=tuple(len(x) for x in jax.tree.leaves(system.source)),
    )


def common_shape(systems: Sequence[System]) -> Shape:
    """The least shape that all systems can be padded to."""
    shapes = [shape_of(s) for s in systems]
    for name in ("grid", "coarse"):
        if len({len(getattr(s, name)) for s in shapes}) > 1:
            shapes = [s._replace(**{name: _merged(getattr(s, name))}) for s in shapes]  # type: ignore[arg-type]
    return Shape(*_largest(*shapes))


def _merged(blocks: tuple[BlockShape, ...]) -> tuple[BlockShape, ...]:
    return ((sum(chunks for chunks, _ in blocks), _largest(*(shells for _, shells in blocks))),)


def _largest(*values: Any) -> Any:
    """The elementwise maximum of nested tuples, missing elements left out."""
    present = [v for v in values if v is not None]
    if isinstance(present[0], int):
        return max(present)
    return tuple(_largest(*parts) for parts in zip_longest(*present))


def _fits(size: Any, room: Any) -> bool:
    """Whether nested tuples are elementwise no larger; only the angular momenta may be fewer."""
    if isinstance(size, int):
        return size <= room
    return len(size) <= len(room) and all(map(_fits, size, room))


def pad(system: System, shape: Shape) -> System:
    """The same system with ghosts up to ``shape``; AO values stored before are stored anew.

    Raises ``ValueError`` where the system is larger than the shape.
    """
    order = stored_order(system)
    for name in ("grid", "coarse"):
        own = getattr(system, name)
        if own is not None and len(own.blocks) > 1 == len(getattr(shape, name)):
            system = replace(system, **{name: _merge_blocks(own)})
    given = shape_of(system)
    wrong = [k for k in Shape._fields if not _fits(getattr(given, k), getattr(shape, k))]
    wrong += [
        f"blocks of the {k}" for k in ("grid", "coarse") if len(getattr(given, k)) != len(getattr(shape, k))
    ]
    if wrong:
        raise ValueError(f"The system does not fit into the shape to pad it to, in its {', '.join(wrong)}.")
    # On the host: every pair of shapes would be one more program to compile.
    padded = on_device(_pad_arrays(jax.tree.map(np.asarray, strip_ao(system)), shape))
    return padded if order is None else store_ao(padded, order)


def stored_order(system: System) -> int | None:
    """The order of the AO derivatives that a system stores; ``None`` where it recomputes them."""
    ao = [b.ao.shape[-3] for b in (system.grid.blocks if system.grid else ()) if b.ao is not None]
    return None if not ao else int(ao[0] > 1)


def _pad_arrays(system: System, shape: Shape) -> System:
    n, ghosts = shape.orbitals, shape.orbitals - system.overlap.shape[0]
    diagonal = np.arange(n) >= n - ghosts
    levels = np.where(diagonal, ghost_level(system.overlap.dtype) + np.arange(n), 0.0)
    far = FAR + 10.0 * np.arange(shape.atoms - system.coords.shape[0])
    pairs = n * (n + 1) // 2
    repulsion = tuple(
        replace(r, factor=_grow(r.factor, (rows, pairs)))
        if isinstance(r, Fitted)
        else replace(r, integrals=_grow(r.integrals, (pairs, pairs)))
        for r, rows in zip(system.repulsion, shape.auxiliary, strict=True)
    )
    width = shape.auxiliary[0] or pairs  # of potentials on the grid
    square = {
        name: _grow(getattr(system, name), (n, n)) for name in ("nuclear", "screening", "atomic_density")
    }
    return replace(
        system,
        charges=_grow(system.charges, (shape.atoms,)),
        coords=np.concatenate([system.coords, far[:, None] * np.eye(1, 3)]),
        overlap=_grow(system.overlap, (n, n)) + np.diag(diagonal.astype(system.overlap.dtype)),
        kinetic=_grow(system.kinetic, (n, n)) + np.diag(levels),
        dipole=_grow(system.dipole, (3, n, n)),
        repulsion=repulsion,
        basis=_pad_basis(system.basis, shape.shells),
        grid=_pad_grid(system.grid, shape.grid, shape.atoms, width),
        coarse=_pad_grid(system.coarse, shape.coarse, shape.atoms, width),
        occupations=_grow(system.occupations, (system.occupations.shape[0], shape.slots)),
        source=_pad_source(system.source, shape.source),
        **square,
    )


def _grow(array: Any, shape: tuple[int, ...], fill: int = 0) -> Any:
    widths = [(0, target - size) for target, size in zip(shape, array.shape, strict=True)]
    return np.pad(array, widths, constant_values=fill)


def _pad_basis(basis: Basis, shape: tuple[tuple[int, int], ...]) -> Basis:
    nothing: Any = np.zeros(0, int), np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0, int)
    empty = Shells(*nothing)
    widened = basis + (empty,) * (len(shape) - len(basis))
    return tuple(
        Shells(
            atom=_grow(shells.atom, (h,)),
            exponents=_grow(shells.exponents, (h, r)),
            coefficients=_grow(shells.coefficients, (h, r)),
            ao=_grow(shells.ao, (h,), NOWHERE),
        )
        for shells, (h, r) in zip(widened, shape, strict=True)
    )


def _pad_source(source: Source | None, shape: tuple[int, ...]) -> Source | None:
    if source is None:
        return None
    tables, numbers = (source.shells, source.auxiliary, source.cores), shape[-1]
    shells, auxiliary, cores = (_grow(t, (rows, 8)) for t, rows in zip(tables, shape[:3], strict=True))
    return Source(shells=shells, auxiliary=auxiliary, cores=cores, numbers=_grow(source.numbers, (numbers,)))


def _pad_grid(grid: Grid | None, shape: tuple[BlockShape, ...], atoms: int, width: int) -> Grid | None:
    if grid is None:
        return None
    blocks = tuple(_pad_block(b, *s, width) for b, s in zip(grid.blocks, shape, strict=True))
    return Grid(blocks=blocks, radii=_grow(grid.radii, (atoms,)))


def _pad_block(block: Block, chunks: int, shells: tuple[int, ...], width: int) -> Block:
    size, potential = block.weights.shape[1], block.potential
    none = np.zeros((block.weights.shape[0], 0), np.int32)
    widened = block.shells + (none,) * (len(shells) - len(block.shells))
    return Block(
        atom=_grow(block.atom, (chunks, size)),
        offset=_grow(block.offset, (chunks, size, 3)),
        quadrature=_grow(block.quadrature, (chunks, size)),
        weights=_grow(block.weights, (chunks, size)),
        shells=tuple(_grow(s, (chunks, h), NOWHERE) for s, h in zip(widened, shells, strict=True)),
        potential=None if potential is None else _grow(potential, (chunks, size, width)),
    )


def _merge_blocks(grid: Grid) -> Grid:
    """The same grid as one block, AO values left out."""
    ((_, shells),) = _merged(tuple((0, tuple(s.shape[1] for s in b.shells)) for b in grid.blocks))
    widths = [0 if b.potential is None else b.potential.shape[-1] for b in grid.blocks]
    blocks = [_pad_block(b, b.weights.shape[0], shells, w) for b, w in zip(grid.blocks, widths, strict=True)]
    return replace(grid, blocks=(jax.tree.map(lambda *parts: np.concatenate(parts), *blocks),))


def stack(systems: Sequence[System]) -> System:
    """Systems of one shape as one, with a leading batch axis on every array, for ``jax.vmap``.

    Raises ``ValueError`` where the shapes differ.
    """
    if not systems:
        raise ValueError("There are no systems to stack.")
    forms = [([x.shape for x in jax.tree.leaves(s)], jax.tree.structure(s)) for s in systems]
    for k, form in enumerate(forms):
        if form != forms[0]:
            raise ValueError(
                f"Systems 0 and {k} have different shapes; pad them with "
                "dqc.pad(system, dqc.common_shape(systems)), or let dqc.bucket group them."
            )
    return on_device(jax.tree.map(lambda *leaves: np.stack(leaves), *systems))


def unstack(batch: Any) -> list[Any]:
    """The elements of a batched ``System``, ``Solution`` or other pytree."""
    size = jax.tree.leaves(batch)[0].shape[0]
    return [jax.tree.map(lambda x, k=k: x[k], batch) for k in range(size)]


def bucket(systems: Sequence[System], growth: float = GROWTH) -> list[tuple[list[int], System]]:
    """Group systems of like size, pad and stack them: a list of (indices, batched ``System``).

    Within a bucket the numbers of orbitals, and of grid points, differ by at most the factor ``growth``;
    systems that differ in kind (restricted or not, operators, stored AO values) never share one.
    """
    return [(group, _stack_padded([systems[k] for k in group])) for group in groups(systems, growth)]


def groups(systems: Sequence[System], growth: float = GROWTH) -> list[list[int]]:
    """The indices of the systems that share a bucket."""
    kinds: dict[Any, list[int]] = {}
    for index, system in enumerate(systems):
        kinds.setdefault(_kind(system), []).append(index)
    found: list[list[int]] = []
    for members in kinds.values():
        members.sort(key=lambda k: _sizes(systems[k]))
        start = len(found)
        for index in members:
            for group in found[start:]:
                if _alike([systems[k] for k in (*group, index)], growth):
                    group.append(index)
                    break
            else:
                found.append([index])
    return found


def _stack_padded(systems: list[System]) -> System:
    shape = common_shape(systems)
    return stack([pad(s, shape) for s in systems])


def _kind(system: System) -> Any:
    types = tuple(type(r) for r in system.repulsion)
    omegas = tuple(float(r.omega) for r in system.repulsion)
    grids = (system.grid is None, system.coarse is None)
    held = (system.source is None, bool(system.grid) and system.grid.blocks[0].potential is None)  # type: ignore
    return system.occupations.shape[0], types, omegas, grids, stored_order(system), held


def _sizes(system: System) -> tuple[int, int]:
    points = sum(b.weights.size for b in (system.grid.blocks if system.grid else ()))
    return system.overlap.shape[0], max(points, 1)


def _alike(systems: list[System], growth: float) -> bool:
    return all(max(sizes) <= growth * min(sizes) for sizes in zip(*map(_sizes, systems), strict=True))


def padding_waste(systems: Sequence[System], buckets: Sequence[tuple[list[int], System]]) -> float:
    """The share of the grid work, sum over chunks of (AOs)^2, that buckets spend on ghosts."""
    needed = sum(work(shape_of(s)) for s in systems)
    spent = sum(work(shape_of(unstack(batch)[0])) * len(indices) for indices, batch in buckets)
    return 1.0 - needed / max(spent, 1)


def work(shape: Shape) -> int:
    """The work of one pass over the grid: the sum over chunks of the square of the AOs that reach it."""
    return sum(c * sum((2 * l + 1) * h for l, h in enumerate(s)) ** 2 for c, s in shape.grid)
