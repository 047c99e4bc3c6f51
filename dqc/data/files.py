"""Data sets as files: the JSON format of :mod:`dqc.data`, and extended xyz."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dqc.constants import ANGSTROM, BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from dqc.data.sets import Density, Labels, Reaction, Reactions
from dqc.molecule import Molecule
from dqc.names import nearest
from dqc.paths import existing, replacing

FORMAT = "xcref-1"
_UNITS = {"hartree": 1.0, "kcal/mol": 1.0 / HARTREE_IN_KCAL_PER_MOL}
_OWN = {"format", "set", "units", "n_systems", "n_reactions", "systems", "reactions"}  # the rest is ``about``


def read(path: str | Path) -> Reactions:
    """Read a data set: JSON in the format ``xcref-1`` (see :mod:`dqc.data`), or extended xyz through ASE.

    Of extended xyz (.xyz, .extxyz) every frame is a molecule: ``charge`` and ``spin`` (2S) or
    ``multiplicity`` among its keys, energy, forces and dipole moment in ASE's units, which become labels; the
    energy is also a reaction of one molecule with coefficient 1. Frames are called by their key ``name`` if
    there is one.

    Raises FileNotFoundError with the nearest names, ModuleNotFoundError where ASE is needed and missing, and
    ValueError for a file in another format or unit, a molecule that cannot be (its charge, spin or atoms),
    labels that do not fit it, and a reaction that names an unknown one, has not as many coefficients as
    molecules, or whose value is no finite number.
    """
    path = existing(path)
    if path.suffix.lower() in (".xyz", ".extxyz"):
        from dqc.data.extxyz import read_frames

        return read_frames(path)
    return _read_json(path)


def write(data: Reactions, path: str | Path) -> None:
    """Write a data set in the format ``xcref-1``, values in hartree, densities in a file beside it.

    Each file is replaced in one step. :func:`read` gives the set again, coordinates to round-off. Raises
    ValueError for a path that does not end in .json.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"cannot write a data set to {path}: a name that ends in .json is expected")
    beside = path.with_suffix(".safetensors")
    densities = {name: known.density for name, known in data.labels.items() if known.density is not None}
    if densities:
        with replacing(beside) as partial:
            save_file({name: packed(density.matrix) for name, density in densities.items()}, partial)
    systems = {name: _system(name, molecule, data, beside) for name, molecule in data.molecules.items()}
    reactions = [
        {"id": r.name, "systems": r.molecules, "coeffs": r.coefficients, "value": r.value}
        for r in data.reactions
    ]
    record = {"format": FORMAT, "set": data.name, **data.about}
    record |= {"units": {"coordinates": "angstrom", "value": "hartree"}}
    record |= {"n_systems": len(systems), "n_reactions": len(reactions)}
    with replacing(path) as partial:
        partial.write_text(_dump(record, systems, reactions))


def _dump(record: dict[str, Any], systems: dict[str, Any], reactions: list[Any]) -> str:
    """JSON with a line for every entry of the header, every molecule and every reaction."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
    named = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in systems.items()]
    listed = [f"  {json.dumps(entry)}" for entry in reactions]
    lines.append('"systems": {\n' + ",\n".join(named) + "\n}")
    lines.append('"reactions": [\n' + ",\n".join(listed) + "\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _system(name: str, molecule: Molecule, data: Reactions, beside: Path) -> dict[str, Any]:
    coords = (molecule.coords * BOHR_IN_ANGSTROM).tolist()
    entry = {"charge": molecule.charge, "mult": molecule.spin + 1, "elements": molecule.symbols}
    entry |= {"coords": coords}
    known = data.labels.get(name, Labels())
    labels = {key: np.asarray(getattr(known, key)).tolist() for key in known.known if key != "density"}
    if known.density is not None:
        labels["density"] = {"file": beside.name, "basis": known.density.basis}
    return entry | ({"labels": labels} if labels else {})


def _read_json(path: Path) -> Reactions:
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise ValueError(f"{path} has the format {found!r}, and {FORMAT!r} is read")
    units = record.get("units", {})
    if units.get("coordinates") != "angstrom" or units.get("value") not in _UNITS:
        raise ValueError(
            f"{path} has the units {units}: coordinates in angstrom, values in {', '.join(_UNITS)}"
        )
    for key in ("systems", "reactions"):
        if key not in record:
            raise ValueError(f"{path} has no {key!r}: see dqc.data for the format")
    systems = record["systems"]
    molecules = {name: _molecule(name, entry, path) for name, entry in systems.items()}
    scale = _UNITS[units["value"]]
    reactions = tuple(_reaction(entry, molecules, scale, path) for entry in record["reactions"])
    labels = {
        name: _labels(name, entry["labels"], path) for name, entry in systems.items() if "labels" in entry
    }
    about = {key: value for key, value in record.items() if key not in _OWN}
    try:
        return Reactions(str(record.get("set", path.stem)), molecules, reactions, labels, about)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _molecule(name: str, entry: dict[str, Any], path: Path) -> Molecule:
    try:
        coords = np.asarray(entry["coords"], float) * ANGSTROM
        return Molecule(entry["elements"], coords, entry["charge"], entry["mult"] - 1)
    except (ValueError, KeyError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}, molecule {name!r}: {what}") from None


def _reaction(entry: dict[str, Any], known: dict[str, Molecule], scale: float, path: Path) -> Reaction:
    where = f"{path}, reaction {entry.get('id')!r}"
    names, coefficients = tuple(entry["systems"]), tuple(float(c) for c in entry["coeffs"])
    for name in names:
        if name not in known:
            raise ValueError(f"{where} names an unknown molecule {name!r}{nearest(name, known)}")
    if len(names) != len(coefficients):
        raise ValueError(f"{where} has {len(names)} molecules and {len(coefficients)} coefficients")
    value = entry.get("value")
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f"{where} has the value {value!r}, which is no finite number")
    return Reaction(str(entry["id"]), names, coefficients, value * scale)


def _labels(name: str, entry: dict[str, Any], path: Path) -> Labels:
    where = f"{path}, molecule {name!r}"
    known = list(Labels.__dataclass_fields__)
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}: unknown label {key!r}, and {', '.join(known)} are known")
    try:
        given: dict[str, Any] = {key: float(entry[key]) for key in ("energy", "ionisation") if key in entry}
        given |= {key: np.asarray(entry[key], float) for key in ("dipole", "forces") if key in entry}
        if "density" in entry:
            given["density"] = _density(name, entry["density"], path)
        return Labels(**given)
    except (ValueError, TypeError, KeyError) as error:
        what = f"its density lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where}: {what}") from None


def _density(name: str, entry: dict[str, Any], path: Path) -> Density:
    file = existing(path.parent / entry["file"])
    try:
        with safe_open(file, framework="numpy") as tensors:
            return Density(unpacked(tensors.get_tensor(name)), entry["basis"])
    except SafetensorError as error:
        raise ValueError(f"{file} holds no density of that name ({error})") from None


def packed(P: Float[np.ndarray, "2 n n"]) -> Float[np.ndarray, "s pq"]:
    """The lower triangles by rows; one of them where both spins are equal."""
    rows, columns = np.tril_indices(P.shape[-1])
    return np.ascontiguousarray(P[: 1 if np.array_equal(P[0], P[1]) else 2, rows, columns])


def unpacked(triangles: Float[np.ndarray, "s pq"]) -> Float[np.ndarray, "2 n n"]:
    """What :func:`packed` was given; raises ValueError for a length that is no triangle's."""
    n = (int(np.sqrt(8 * triangles.shape[-1] + 1)) - 1) // 2
    if triangles.ndim != 2 or n * (n + 1) // 2 != triangles.shape[1] or triangles.shape[0] not in (1, 2):
        raise ValueError(
            f"packed triangles of shape {triangles.shape}: (s, n (n + 1)/2) is expected, s = 1 or 2"
        )
    rows, columns = np.tril_indices(n)
    P = np.zeros((2, n, n))
    P[:, rows, columns] = triangles
    P[:, columns, rows] = triangles
    return P
