"""``build``: from a molecule to a ``System``, all the arrays that its Kohn-Sham equations need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dqc.basis import Basis, auxiliary_mole, pyscf_mole, shells_of
from dqc.grid import Block, Grid, build_grid
from dqc.integrals import libcint
from dqc.integrals.ao import ao_indices, ao_values
from dqc.integrals.coulomb import Exact, Fitted
from dqc.integrals.source import Source, source_of
from dqc.molecule import Molecule
from dqc.types import on_device, pytree, replace, traced
from dqc.xc.functional import Functional, Needs

CHUNK = 512  # grid points to a chunk
SEMILOCAL = Needs(rung="mgga", omegas=(0.0,))


@pytree
class System:
    """A molecule in a basis, as arrays only (hartree, bohr); its shapes alone key a compilation."""

    charges: Float[Array, " a"]  # nuclear charges less the electrons of effective core potentials
    coords: Float[Array, "a x"]
    nuclear_repulsion: Float[Array, ""]
    overlap: Float[Array, "n n"]
    kinetic: Float[Array, "n n"]
    nuclear: Float[Array, "n n"]  # attraction by the nuclei, effective core potentials included
    screening: Float[Array, "n n"]  # superposition of atomic potentials, for the starting orbitals
    atomic_density: Float[Array, "n n"]  # superposition of atomic densities, likewise
    dipole: Float[Array, "x n n"]  # <p| r |q>, about the origin
    repulsion: tuple[Fitted | Exact, ...]  # omega = 0 first, then the long-range ones asked for
    basis: Basis
    grid: Grid | None  # None where the functional has no semilocal part
    coarse: Grid | None  # a cheaper grid for the first iterations
    occupations: Float[Array, "s i"]
    source: Source | None  # what integrals at other positions are computed from


def build(
    molecule: Molecule,
    basis: str | Mapping[str, Any],
    xc: Functional | None = None,
    grid: int = 3,
    two_electron: Literal["df", "exact"] = "df",
    auxbasis: str | Mapping[str, Any] | None = None,
    integrals: Literal["libcint"] = "libcint",
    ao: Literal["auto", "stored", "recomputed"] = "auto",
    ecp: str | Mapping[str, Any] | None = "auto",
) -> System:
    """Compute the integrals and the grid of a molecule in a basis.

    Of ``xc`` only ``xc.needs`` is read; without it the system serves every semilocal functional and
    plain exact exchange. ``grid`` is PySCF's level, 0 to 9. ``two_electron="df"`` fits the densities
    in ``auxbasis`` (``None``: PySCF's choice for the basis and functional); ``"exact"`` keeps the
    four-index integrals, for small systems. ``ao`` says whether AO values on the grid are stored or
    recomputed in every iteration; ``"auto"`` stores them where they take less than a quarter of the
    memory. Raises ``ValueError`` for what does not exist and for what would not fit into memory.
    """
    _check_choice("two_electron", two_electron, ("df", "exact"))
    _check_choice("integrals", integrals, ("libcint",))
    _check_choice("ao", ao, ("auto", "stored", "recomputed"))
    _check_choice("grid", grid, tuple(range(10)))
    needs = SEMILOCAL if xc is None else xc.needs
    mole = pyscf_mole(molecule, basis, ecp)
    shells = shells_of(mole)
    quadrature = None if needs.rung == "none" else build_grid(mole, shells, grid, CHUNK)
    coarse = build_grid(mole, shells, 0, CHUNK, 1) if quadrature is not None and grid > 1 else None
    exact = two_electron == "exact"
    auxiliary = None if exact else auxiliary_mole(mole, basis, auxbasis, bool(needs.omegas))
    system = System(
        charges=mole.atom_charges().astype(float),
        coords=np.asarray(mole.atom_coords()),  # type: ignore[arg-type]
        nuclear_repulsion=np.asarray(mole.energy_nuc(), float),  # type: ignore[arg-type]
        screening=libcint.atomic_potential(mole),  # type: ignore[arg-type]
        atomic_density=libcint.atomic_density(mole),  # type: ignore[arg-type]
        repulsion=_repulsion(mole, auxiliary, needs),
        basis=shells,
        grid=quadrature,
        coarse=coarse,
        occupations=lowest_occupations(*mole.nelec),  # type: ignore[arg-type]
        source=source_of(mole, auxiliary),
        **libcint.one_electron(mole),  # type: ignore[arg-type]
    )
    if needs.exchange_density:
        system = _with_potentials(system, mole, auxiliary)
    system = on_device(system)
    if ao == "stored":
        _check_memory(ao_bytes(system), "AO values on the grid", 'ao="recomputed"')
    if ao == "stored" or (ao == "auto" and ao_bytes(system) < memory_bytes() / 4):
        system = store_ao(system, order=0 if needs.rung == "lda" else 1)
    return system


def check_needs(system: System, xc: Functional) -> None:
    """Raise ``ValueError`` where a system lacks an array that a functional needs."""
    remedy = "; build the system with xc= this functional."
    if xc.needs.exchange_density and xc.needs.rung == "none":
        raise ValueError("A functional of the exact-exchange energy density needs a grid: its rung is 'lda'.")
    if xc.needs.rung != "none" and system.grid is None:
        raise ValueError("The functional has a semilocal part and the system has no grid" + remedy)
    blocks = system.grid.blocks if system.grid else ()
    stored = [b.ao.shape[1] for b in blocks if b.ao is not None]
    if xc.needs.rung in ("gga", "mgga") and 1 in stored:
        raise ValueError(
            f"A {xc.needs.rung} functional needs AO gradients that the system has not stored" + remedy
        )
    if xc.needs.exchange_density and system.basis and any(b.potential is None for b in blocks):
        raise ValueError(
            "A local hybrid needs potentials on the grid that the system has not stored" + remedy
        )
    wanted = list(xc.needs.operators[1:])
    held = [r.omega for r in system.repulsion[1 : len(wanted) + 1]]
    # Inside a transformation the omegas have no values to compare; their number still says something.
    if len(held) < len(wanted) or not (traced(held) or [float(w) for w in held] == wanted):
        raise ValueError(
            "The functional's range-separated exchange needs integrals the system lacks" + remedy
        )


def _with_potentials(system: System, mole: Any, auxiliary: Any) -> System:
    """The system with the Coulomb potentials on its grids that the exact-exchange energy density needs."""
    width = mole.nao * (mole.nao + 1) // 2 if auxiliary is None else auxiliary.nao
    points = sum(b.weights.size for grid in (system.grid, system.coarse) if grid for b in grid.blocks)
    _check_memory(8 * width * points, "potentials on the grid of a local hybrid", "a smaller grid or basis")

    root = None if auxiliary is None else libcint.inverse_root(libcint.metric(auxiliary))

    def held(grid: Grid | None) -> Grid | None:
        if grid is None:
            return None
        blocks = []
        for b in grid.blocks:
            at = system.coords[np.asarray(b.atom)] + np.asarray(b.offset)
            rows = [libcint.potentials(mole, auxiliary, root, chunk) for chunk in at]
            blocks.append(replace(b, potential=np.stack(rows)))
        return replace(grid, blocks=tuple(blocks))

    return replace(system, grid=held(system.grid), coarse=held(system.coarse))


def lowest_occupations(alpha: int, beta: int) -> np.ndarray:
    """One row of 2s for a closed shell; else a row of 1s for each spin, padded with 0 to one length."""
    if alpha == beta:
        return np.full((1, max(alpha, 1)), 2.0 if alpha else 0.0)
    slots = np.arange(max(alpha, beta))
    return (slots < np.array([[alpha], [beta]])).astype(float)


def store_ao(system: System, order: int = 1) -> System:
    """The same system with AO values (and, for ``order=1``, gradients) stored on its grids."""

    def stored(grid: Grid | None) -> Grid | None:
        if grid is None:
            return None
        blocks = (replace(b, **block_ao(system.basis, system.coords, b, order)) for b in grid.blocks)
        return replace(grid, blocks=tuple(blocks))

    return replace(system, grid=stored(system.grid), coarse=stored(system.coarse))


def strip_ao(system: System) -> System:
    """The same system without stored AO values: they are recomputed in every iteration."""

    def stripped(grid: Grid | None) -> Grid | None:
        return grid and replace(grid, blocks=tuple(replace(b, ao=None, index=None) for b in grid.blocks))

    return replace(system, grid=stripped(system.grid), coarse=stripped(system.coarse))


@partial(jax.jit, static_argnames="order")
def block_ao(
    basis: Basis, coords: Float[Array, "a x"], block: Block, order: int
) -> dict[str, Float[Array, "b d c m"] | Int[Array, "b m"]]:
    """What a block stores of the AOs: values (and gradients) on every chunk, and indices."""

    def chunk(args: tuple) -> Float[Array, "d c m"]:
        atom, offset, shells = args
        return ao_values(basis, coords, shells, coords[atom] + offset, order)

    return {
        "ao": jax.lax.map(chunk, (block.atom, block.offset, block.shells)),
        "index": jax.vmap(partial(ao_indices, basis))(block.shells),
    }


def ao_bytes(system: System) -> int:
    """The memory that stored AO values and gradients take."""
    total = 0
    for grid in (system.grid, system.coarse):
        for block in grid.blocks if grid else ():
            m = sum((2 * l + 1) * s.shape[1] for l, s in enumerate(block.shells))
            total += 4 * 8 * m * block.weights.size
    return total


def memory_bytes() -> int:
    """The machine's physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _repulsion(mole: Any, auxiliary: Any, needs: Needs) -> tuple[Fitted | Exact, ...]:
    omegas = needs.operators
    pairs = mole.nao * (mole.nao + 1) // 2
    if auxiliary is None:
        _check_memory(len(omegas) * 8 * pairs**2, "exact four-index integrals", 'two_electron="df"')
        return tuple(Exact(np.asarray(w), libcint.four_index(mole, w)) for w in omegas)  # type: ignore[arg-type]
    _check_memory(
        (len(omegas) + 1) * 8 * auxiliary.nao * pairs, "density-fitting integrals", "a smaller basis"
    )
    return tuple(Fitted(np.asarray(w), libcint.fitted(mole, auxiliary, w)) for w in omegas)  # type: ignore[arg-type]


def _check_memory(needed: int, what: str, remedy: str) -> None:
    if needed > memory_bytes():
        raise ValueError(
            f"The {what} would take {needed / 2**30:.1f} GiB and this machine has "
            f"{memory_bytes() / 2**30:.1f} GiB; use {remedy}."
        )


def _check_choice(name: str, given: Any, choices: tuple) -> None:
    if given not in choices:
        raise ValueError(f"{name}={given!r} is not one of {', '.join(repr(c) for c in choices)}.")
