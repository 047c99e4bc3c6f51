"""Systems with moved nuclei: ``at``, and the derivatives of a system with respect to their positions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.derivatives import attach, attach_rule
from dqc.grid import Grid, becke_weights
from dqc.integrals import motion
from dqc.integrals.coulomb import Exact, Fitted
from dqc.integrals.motion import Motion
from dqc.integrals.source import Source, functions
from dqc.system import System, block_ao
from dqc.types import replace


def at(system: System, coords: Float[Array, "a x"]) -> System:
    """The same molecule with its nuclei at ``coords`` (bohr), which may be traced.

    Every array follows: integrals, through libcint on the host, grid points and weights. What serves
    the starting guess alone stays, and so do the shells that are known to reach each chunk of the grid
    and the points that were dropped: ``at`` is meant for displacements small beside a bond, to 0.3 bohr;
    build anew for larger ones. First derivatives with respect to ``coords`` are available in both
    modes, and any of those with respect to other inputs; second derivatives of the integrals raise
    ``NotImplementedError``. Raises ``ValueError`` for a system without its ``source``, or for coordinates
    of another shape.
    """
    coords = checked(system, coords)
    return follow(_recomputed(system, jax.lax.stop_gradient(coords)), coords)


def follow(system: System, coords: Float[Array, "a x"]) -> System:
    """The same values, each with its derivatives with respect to ``coords``, where the system stands.

    Raises what :func:`at` raises.
    """
    coords = checked(system, coords)
    return replace(follow_on_device(system, coords), **follow_on_host(system, coords))


def follow_on_device(system: System, coords: Float[Array, "a x"]) -> System:
    """:func:`follow` for what JAX itself computes from positions: all but the integrals."""
    return replace(
        system,
        coords=attach(system.coords, _same, coords),
        nuclear_repulsion=attach(system.nuclear_repulsion, nuclear_repulsion, coords, system.charges),
        screening=jax.lax.stop_gradient(system.screening),
        atomic_density=jax.lax.stop_gradient(system.atomic_density),
        grid=_following(system.grid, coords),
        coarse=_following(system.coarse, coords),
    )


def follow_on_host(system: System, coords: Float[Array, "a x"]) -> dict[str, Any]:
    """:func:`follow` for the integrals, whose derivatives libcint computes: the fields of the system."""

    def moved(value: Array, kind: Motion, *own: Array) -> Array:
        def change(
            move: Array, coords: Array, value: Array, source: Any, charges: Array, *own: Array
        ) -> Array:
            return kind.push(move, value, motion.place(source, charges, coords), *own)

        return attach_rule(value, change, coords, value, system.source, system.charges, *own)

    def two_electron(r: Fitted | Exact) -> Fitted | Exact:
        name, kind, *own = _two_electron(r)
        return replace(r, **{name: moved(getattr(r, name), kind, *own)})

    found = {name: moved(getattr(system, name), kind) for name, kind in motion.ONE_ELECTRON.items()}
    return found | {"repulsion": tuple(two_electron(r) for r in system.repulsion)}


def through_integrals(system: System, slopes: dict[str, Any]) -> Float[Array, "a x"]:
    """dE/dR through those integrals, fields of the system, by which ``slopes`` are dE's."""
    assert system.source is not None
    here = motion.place(system.source, system.charges, system.coords)
    parts = [kind.pull(slopes[name], here) for name, kind in motion.ONE_ELECTRON.items() if name in slopes]
    for r, slope in zip(system.repulsion, slopes["repulsion"], strict=True):
        name, kind, *own = _two_electron(r)
        parts.append(kind.pull(getattr(slope, name), here, *own))
    return jnp.stack(parts).sum(0)


def _two_electron(r: Fitted | Exact) -> tuple:
    """The name of an operator's integrals, their motion, and what it reads besides."""
    if isinstance(r, Fitted):
        return "factor", motion.FITTED, r.omega, r.factor
    return "integrals", motion.EXACT, r.omega


def nuclear_repulsion(coords: Float[Array, "a x"], charges: Float[Array, " a"]) -> Float[Array, ""]:
    """sum_{A<B} Z_A Z_B / R_AB."""
    same = jnp.eye(len(charges), dtype=bool)
    square = ((coords[:, None] - coords) ** 2).sum(-1)
    inverse = jnp.where(same, 0.0, 1.0 / jnp.sqrt(jnp.where(same, 1.0, square)))
    return 0.5 * charges @ inverse @ charges


def _same(coords: Float[Array, "a x"]) -> Float[Array, "a x"]:
    return coords


def _following(grid: Grid | None, coords: Float[Array, "a x"]) -> Grid | None:
    """The weights follow; AO values do where they are used, since that is chunk by chunk."""
    if grid is None:
        return None
    blocks = []
    for b in grid.blocks:
        args = (b.atom, b.offset, b.quadrature, coords, grid.radii)
        blocks.append(replace(b, weights=attach(b.weights, becke_weights, *args)))
    return replace(grid, blocks=tuple(blocks))


def _recomputed(system: System, coords: Float[Array, "a x"]) -> System:
    """The system at other positions, without derivatives; ghost orbitals keep their integrals."""
    source, charges, n = system.source, system.charges, system.overlap.shape[-1]
    assert source is not None
    real = jnp.arange(n) < functions(source.shells)
    computed = {
        name: jnp.where(real[:, None] & real, value, getattr(system, name))
        for name, value in motion.one_electron(n, source, charges, coords).items()
    }
    return replace(
        system,
        coords=coords,
        nuclear_repulsion=nuclear_repulsion(coords, charges),
        repulsion=tuple(_moved(r, source, charges, coords) for r in system.repulsion),
        grid=_regridded(system, system.grid, coords),
        coarse=_regridded(system, system.coarse, coords),
        **computed,
    )


def _moved(r: Fitted | Exact, source: Source, charges: Array, coords: Array) -> Fitted | Exact:
    value = motion.repulsion(r, source, charges, coords)
    return replace(r, factor=value) if isinstance(r, Fitted) else replace(r, integrals=value)


def _regridded(system: System, grid: Grid | None, coords: Float[Array, "a x"]) -> Grid | None:
    if grid is None:
        return None
    blocks = []
    for b in grid.blocks:
        weights = becke_weights(b.atom, b.offset, b.quadrature, coords, grid.radii)
        ao = b.ao
        if ao is not None:
            ao = block_ao(system.basis, coords, b, int(ao.shape[1] > 1))["ao"]
        blocks.append(replace(b, weights=weights, ao=ao))
    return replace(grid, blocks=tuple(blocks))


def checked(system: System, coords: Float[Array, "a x"]) -> Float[Array, "a x"]:
    """Coordinates, bohr, to move a system's nuclei to.

    Raises ``ValueError`` for other shapes, and for systems whose integrals cannot follow: of no known basis
    tables, or with the tables of a local hybrid.
    """
    if system.source is None:
        raise ValueError(
            "This system does not know its basis as libcint's tables (its source is None): "
            "build it anew with dqc.build to move its nuclei."
        )
    if any(b.potential is not None for grid in (system.grid, system.coarse) if grid for b in grid.blocks):
        raise ValueError(
            "Nuclei do not move under a local hybrid: its exact-exchange energy density has no derivatives "
            "with respect to their positions here."
        )
    if jnp.shape(coords) != system.coords.shape:
        raise ValueError(
            f"The coordinates have the shape {jnp.shape(coords)}, and those of the system's atoms, "
            f"in bohr, have {system.coords.shape}."
        )
    return jnp.asarray(coords, system.coords.dtype)
