"""The molecules of a data set as systems: integrals kept on disk, padded to few shapes, cut into chunks.

A chunk is what one call of a compiled program works on: molecules of one shape along a leading axis. All
chunks of a shape share the program. On a CPU a chunk has one molecule for each device, since one after
another is faster there than together; on an accelerator it has many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

import dqc.cache
from dqc import storage
from dqc.batch import GROWTH, common_shape, groups, pad, shape_of, stack, work
from dqc.data.sets import Density, Labels
from dqc.molecule import Molecule
from dqc.system import System, ao_bytes, build, memory_bytes, store_ao
from dqc.types import on_device
from dqc.xc.functional import Functional

LANES = 16  # molecules to a chunk and accelerator
AXIS = "molecules"  # of the mesh of devices


@dataclass(frozen=True)
class Chunk:
    """Molecules that are solved in one call of a program, padded to one shape."""

    names: tuple[str, ...]
    system: System  # with a leading axis; where it is longer than ``names``, the last molecule is repeated
    labels: dict[str, Any]  # what is known of the molecules, likewise; zero where it is not
    known: dict[str, Float[np.ndarray, " a"]]  # 1 for the molecules of which it is, else 0

    @property
    def lanes(self) -> int:
        """The length of the leading axis."""
        return int(self.system.charges.shape[0])


@dataclass(frozen=True)
class Prepared:
    """The molecules of a data set, ready for the programs."""

    chunks: tuple[Chunk, ...]
    mesh: Mesh | None  # the devices that share each chunk; None for one
    padding_waste: float  # the share of the work on the grid that is spent on ghosts
    programs: int  # different shapes, each of which is compiled once

    @property
    def names(self) -> tuple[str, ...]:
        """The molecules, in the order of the chunks."""
        return tuple(name for chunk in self.chunks for name in chunk.names)


def prepare(
    molecules: Mapping[str, Molecule],
    xc: Functional,
    *,
    basis: str = "def2-svp",
    grid: int = 3,
    two_electron: str = "df",
    auxbasis: str | None = None,
    labels: Mapping[str, Labels] | None = None,
    wanted: Sequence[str] = (),
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
    **arrangement: Any,
) -> Prepared:
    """Build the systems, or read them from the cache, and arrange them.

    Options are those of :func:`dqc.build` and of :func:`arranged`. ``wanted`` are the names of those
    ``labels`` that a loss reads. ``progress`` wraps the iteration over the molecules.
    """
    options = {"basis": basis, "grid": grid, "two_electron": two_electron, "auxbasis": auxbasis}
    systems = {name: cached(molecules[name], xc, **options) for name in progress(list(molecules))}
    known = {name: (labels or {}).get(name, Labels()) for name in molecules}

    def label(name: str, what: str, system: System) -> Any:
        return label_arrays(what, known[name], molecules[name], system)

    held = {name: tuple(what for what in wanted if what in known[name].known) for name in molecules}
    return arranged(systems, xc, held, label, **arrangement)


def arranged(
    systems: Mapping[str, System],
    xc: Functional,
    held: Mapping[str, tuple[str, ...]] | None = None,
    label: Callable[[str, str, System], Any] | None = None,
    *,
    growth: float = GROWTH,
    lanes: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Prepared:
    """Systems brought to few shapes, and cut into chunks.

    ``growth`` bounds the padding as in :func:`dqc.bucket`, ``lanes`` is the number of molecules to a chunk,
    and ``devices`` share each chunk (all of the default kind if None). ``held`` names the labels of each
    molecule, and ``label`` gives their arrays for a padded system.
    """
    mesh = _mesh(devices)
    count = 1 if mesh is None else mesh.size
    if lanes is None:
        lanes = count if jax.default_backend() == "cpu" else LANES * count
    if lanes < 1 or lanes % count:
        raise ValueError(f"lanes={lanes} should be a positive multiple of the {count} devices.")
    names, plain = list(systems), list(systems.values())
    together = groups(plain, growth)
    shapes = [common_shape([plain[k] for k in group]) for group in together]
    needed = sum(work(shape_of(system)) for system in plain)
    spent = sum(work(shape) * len(group) for shape, group in zip(shapes, together, strict=True))
    padded = [[pad(plain[k], shape) for k in group] for shape, group in zip(shapes, together, strict=True)]
    if sum(ao_bytes(system) for group in padded for system in group) < memory_bytes() / 4:
        order = 0 if xc.needs.rung == "lda" else 1
        padded = [[store_ao(system, order) for system in group] for group in padded]
    chunks = []
    for group, members in zip(together, padded, strict=True):
        of = [names[k] for k in group]
        known = {what: [what in (held or {}).get(name, ()) for name in of] for what in _all(held, of)}
        for start in range(0, len(group), lanes):
            lane = [min(start + k, len(group) - 1) for k in range(lanes)]
            rows = [{what: label(of[k], what, members[k]) for what in known} for k in lane]  # type: ignore[misc]
            arrays = on_device(jax.tree.map(lambda *x: np.stack(x), *rows))
            batch = stack([members[k] for k in lane])
            spec = PartitionSpec(AXIS)
            present = {what: np.array([float(row[k]) for k in lane]) for what, row in known.items()}
            named = tuple(of[start : start + lanes])
            chunks.append(Chunk(named, placed(batch, mesh, spec), placed(arrays, mesh, spec), present))
    return Prepared(tuple(chunks), mesh, 1.0 - needed / max(spent, 1), len(together))


def _all(held: Mapping[str, tuple[str, ...]] | None, names: Sequence[str]) -> tuple[str, ...]:
    """The labels that any of these molecules has."""
    return tuple(dict.fromkeys(what for name in names for what in (held or {}).get(name, ())))


def label_arrays(label: str, labels: Labels, molecule: Molecule, system: System) -> Any:
    """A label in the shapes of a padded system; zero where it is not known."""
    atoms = system.charges.shape[0]
    if label == "density":
        return _density_on_blocks(labels.density, molecule, system)
    value = getattr(labels, label)
    if label == "forces":
        value = np.zeros((0, 3)) if value is None else np.asarray(value)
        return np.pad(value, ((0, atoms - len(value)), (0, 0)))
    empty = np.zeros(3) if label == "dipole" else np.zeros(())
    return empty if value is None else np.asarray(value, float)


def _density_on_blocks(
    density: Density | None, molecule: Molecule, system: System
) -> tuple[Float[np.ndarray, "b 2 c"], ...]:
    """rho_s of the reference on every block of the grid."""
    from dqc.interop.reference import density_at  # needs PySCF, which systems from the cache do not

    rows = []
    for block in system.grid.blocks if system.grid else ():
        chunks, points = block.weights.shape
        if density is None:
            rows.append(np.zeros((chunks, 2, points)))
            continue
        at = np.asarray(system.coords)[np.asarray(block.atom)] + np.asarray(block.offset)
        rho = density_at(density, molecule, at.reshape(-1, 3)).reshape(2, chunks, points)
        rows.append(rho.transpose(1, 0, 2))
    return tuple(rows)


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh | None:
    devices = jax.devices() if devices is None else list(devices)
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


def placed(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Arrays that every process holds, laid out over the devices of a mesh."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, spec)

    def lay(x: Any) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(lay, tree)


def cached(molecule: Molecule, xc: Functional, **options: Any) -> System:
    """A system without AO values, from the cache's folder where it is there and else kept in it."""
    folder = dqc.cache.folder()
    if folder is None:
        return build(molecule, xc=xc, ao="recomputed", **options)
    path = folder.parent / "systems" / f"{_key(molecule, xc, options)}.safetensors"
    if path.is_file():
        try:
            return storage.load(path, ao="recomputed")
        except ValueError:
            pass  # of another version, or damaged: it is replaced
    system = build(molecule, xc=xc, ao="recomputed", **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.save(system, path)
    return system


def _key(molecule: Molecule, xc: Functional, options: Mapping[str, Any]) -> str:
    """A name for all that a system depends on."""
    needs = xc.needs
    what = {
        "symbols": molecule.symbols,
        "coords": molecule.coords.tolist(),
        "charge": molecule.charge,
        "spin": molecule.spin,
        "needs": [needs.rung, sorted(needs.omegas), needs.exchange_density],
        "version": [dqc.__version__, storage.VERSION],
        **options,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
