"""``dqc reference``: labels of molecules by PySCF's wave-function methods, one at a time, resumable."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import dqc
from dqc.cli import STATUS_FAILED
from dqc.commands.options import check_writable
from dqc.constants import DIPOLE_IN_DEBYE, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from dqc.data import Density, Labels, Reaction, Reactions, check, read, write
from dqc.data.derived import Balance, atomization, ionised, needed_atoms
from dqc.data.files import packed, unpacked
from dqc.data.journal import Journal
from dqc.molecule import Molecule
from dqc.names import nearest

DEFINITION = "value = sum_i coeffs[i] * E(systems[i]): electronic energies of clamped nuclei, nonrelativistic"
NOTES = (
    "Dipole moments and density matrices: unrelaxed one-particle density matrix of CCSD (of full CI, "
    "where that is the method) in the smaller basis set; of a degenerate ground state, as of OH, they "
    "are one of several. Atoms are in their ground states; a bare proton has energy zero and is left "
    "out. Ionisation energies are vertical; the electron is taken from the higher of Hartree-Fock's "
    "highest occupied levels, alpha or beta. Unrestricted Hartree-Fock under open shells; every field "
    "is tested for internal stability. Hartree-Fock to 1e-11 hartree, coupled cluster to 1e-9, full CI "
    "to 1e-10."
)


def run(arguments: argparse.Namespace) -> int:
    """Compute what is not yet in the journal, write the data set; returns the exit status."""
    out = Path(arguments.out)
    check_writable(str(out))
    if out.suffix != ".json":
        raise ValueError(f"--out {out}: a name that ends in .json is expected")
    given = _inputs(arguments.geometries)
    about = _about(arguments)
    labelling = Labelling(arguments, given)
    for sentence in check(given):
        print(f"dqc: {sentence}", file=sys.stderr)
    with tqdm(total=labelling.total, disable=None) as bar:
        for name in labelling:
            bar.set_description(name)
            labelling.compute(name)
            bar.update()
    data = labelling.data(about)
    write(data, out)
    print(_table(data, labelling))
    failed = labelling.failed
    for name, sentence in failed.items():
        print(f"dqc: {name} is left out: {sentence}", file=sys.stderr)
    for name, sentence in labelling.doubts().items():
        print(f"dqc: {name} is doubtful: {sentence}", file=sys.stderr)
    counted = f"{len(data.labels)} molecules and {len(data.reactions)} reactions"
    print(f"{counted} are in {out}; {len(failed)} failed.")
    return STATUS_FAILED if failed else 0


class Labelling:
    """The molecules still to be computed, the results so far, and the reactions between them."""

    def __init__(self, arguments: argparse.Namespace, given: Reactions) -> None:
        from dqc.basis import pyscf_mole
        from dqc.interop.level import Level

        self.level = Level(
            arguments.method,
            tuple(arguments.basis),
            arguments.frozen_core,
            arguments.focal_point,
            arguments.unrestricted,
        )
        self.given = given
        self.atomize = arguments.atomization
        atoms = needed_atoms(given.molecules) if self.atomize else {}
        if taken := atoms.keys() & given.molecules.keys():
            raise ValueError(f"a molecule is called {min(taken)!r} and is not that atom: rename it")
        self.molecules = atoms | given.molecules
        for molecule in self.molecules.values():
            for basis in self.level.basis:
                pyscf_mole(molecule, basis)  # what cannot be is refused before the work
        self.densities = _chosen("--density", arguments.density, self.molecules)
        self.ions = _chosen("--ionisation", arguments.ionisation, self.molecules)
        self.journal = Journal(Path(arguments.out).with_suffix(".jsonl"), arguments.resume)
        self.results: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.ion_of: dict[str, str] = {}  # the cation's name by the molecule's; "" for a bare proton

    @property
    def total(self) -> int:
        """How many molecules there are to compute, one-electron ions' bare protons included."""
        return len(self.molecules) + len(self.ions)

    def __iter__(self) -> Any:
        yield from list(self.molecules)
        for name in self.ions:
            yield name + "+"

    def compute(self, name: str) -> None:
        """Find or compute one molecule; a failure is kept by name."""
        if name not in self.molecules and not self._ionise(name):
            return
        from dqc.interop.reference import NotConverged, reference

        molecule, density = self.molecules[name], name in self.densities
        found = self.journal.find(molecule, str(self.level))
        if found is None or (density and found["density"] is None):
            began = time.perf_counter()
            try:
                result = reference(molecule, self.level, density)
            except NotConverged as error:
                self.failed[name] = str(error)
                return
            found = _record(result, time.perf_counter() - began)
            self.journal.add(name, molecule, str(self.level), found)
        self.results[name] = found

    def _ionise(self, name: str) -> bool:
        """Make the cation of a molecule a molecule of its own; whether there is anything to compute."""
        parent = name.removesuffix("+")
        if parent not in self.results:
            self.failed[name] = f"{parent} failed"
            return False
        ion = ionised(self.molecules[parent], tuple(self.results[parent]["homo"]))
        self.ion_of[parent] = name if ion else ""
        if ion:
            self.molecules[name] = ion
        return ion is not None

    def data(self, about: dict[str, Any]) -> Reactions:
        """What was computed: labels, and the reactions all of whose molecules are there."""
        molecules = {name: m for name, m in self.molecules.items() if name in self.results}
        wanted: dict[str, Balance] = {
            r.name: dict(zip(r.molecules, r.coefficients, strict=True)) for r in self.given.reactions
        }
        if self.atomize:
            names = [name for name in molecules if name not in self.ion_of.values()]
            found = {f"atomization of {name}": atomization(name, molecules) for name in names}
            wanted |= {key: balance for key, balance in found.items() if balance}
        for name, ion in self.ion_of.items():
            wanted[f"ionisation of {name}"] = ({ion: 1.0} if ion else {}) | {name: -1.0}
        reactions = tuple(
            Reaction(key, tuple(balance), tuple(balance.values()), self._energy(balance))
            for key, balance in wanted.items()
            if balance.keys() <= self.results.keys()
        )
        labels = {name: self._labels(name) for name in molecules}
        about = {
            "title": f"{len(molecules)} molecules at {self.level}",
            "reference_level": str(self.level),
        } | about
        if doubts := self.doubts():
            about["doubtful"] = doubts
        return Reactions(about.pop("set"), molecules, reactions, labels, about)

    def doubts(self) -> dict[str, str]:
        """Results that one determinant may be too few for, by name."""
        from dqc.interop.reference import doubt

        found = {
            name: doubt(self.molecules[name], self.level, result["t1"], result["spin_square"])
            for name, result in self.results.items()
        }
        return {name: sentence for name, sentence in found.items() if sentence}

    def _energy(self, balance: Balance) -> float:
        return sum(c * float(self.results[name]["energy"]) for name, c in balance.items())

    def _labels(self, name: str) -> Labels:
        found = self.results[name]
        density = found["density"] if name in self.densities else None
        ion = self.ion_of.get(name)
        known = ion is not None and (not ion or ion in self.results)
        return Labels(
            energy=found["energy"],
            dipole=np.array(found["dipole"]),
            ionisation=self._energy(({ion: 1.0} if ion else {}) | {name: -1.0}) if known else None,
            density=Density(unpacked(np.array(density)), self.level.basis[0]) if density else None,
        )


def _inputs(paths: list[str]) -> Reactions:
    """All molecules, of xyz files by their stems, and the reactions of the data sets among the inputs."""
    molecules: dict[str, Molecule] = {}
    reactions: list[Reaction] = []
    for path in paths:
        if path.endswith(".json"):
            data = read(path)
            found = data.molecules
            reactions += data.reactions
        else:
            found = {Path(path).stem: Molecule.from_xyz(path)}
        for name in found.keys() & molecules.keys():
            raise ValueError(f"{path}: there are two molecules {name!r}: rename one")
        molecules |= found
    return Reactions("given", molecules, tuple(reactions))


def _chosen(option: str, names: list[str] | None, known: dict[str, Molecule]) -> list[str]:
    """The molecules an option names: none where it is not given, all where it names none."""
    for name in names or ():
        if name not in known:
            raise ValueError(f"{option} names an unknown molecule {name!r}{nearest(name, known)}")
    return [] if names is None else list(names or known)


def _record(result: Any, seconds: float) -> dict[str, Any]:
    """A result as JSON."""
    density = result.labels.density
    return {
        "energy": result.labels.energy,
        "dipole": result.labels.dipole.tolist(),
        "density": None if density is None else packed(density.matrix).tolist(),
        "hartree_fock": result.hartree_fock,
        "correlation": result.correlation,
        "homo": [x if np.isfinite(x) else -1e9 for x in result.homo],  # JSON has no infinity
        "spin_square": result.spin_square,
        "t1": result.t1,
        "seconds": round(seconds, 2),
    }


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    """The head of the file: what the user says of it, the definition, the command and the programs."""
    from dqc.interop.reference import PROGRAM

    about: dict[str, Any] = {"set": Path(arguments.out).stem}
    for entry in arguments.about or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--about {entry!r} should be KEY=TEXT, such as licence=Apache-2.0")
        about[key] = value
    about |= {"definition": DEFINITION, "notes": NOTES, "command": _command(arguments)}
    return about | {"source": [{"program": f"dqc {dqc.__version__}"}, {"program": PROGRAM}]}


def _command(arguments: argparse.Namespace) -> str:
    words = ["dqc", "reference", *arguments.geometries, "--basis", *arguments.basis]
    words += ["--method", arguments.method, "--out", arguments.out]
    for flag, given in (("--focal-point", arguments.focal_point), ("--unrestricted", arguments.unrestricted)):
        words += [flag] if given else []
    words += [] if arguments.frozen_core else ["--no-frozen-core"]
    words += [] if arguments.atomization else ["--no-atomization"]
    for flag, names in (("--density", arguments.density), ("--ionisation", arguments.ionisation)):
        words += [] if names is None else [flag, *names]
    return shlex.join(words)


def _table(data: Reactions, labelling: Labelling) -> str:
    values = {reaction.name: reaction.value for reaction in data.reactions}
    rows = [f"{'':<24} {'energy/Ha':>14} {'atomiz./kcal/mol':>17} {'ionis./eV':>10} {'dipole/D':>9}"]
    rows[0] += f" {'T1':>6} {'<S^2>':>6} {'time/s':>7}"
    for name, known in data.labels.items():
        found = labelling.results[name]
        value, ionisation = values.get(f"atomization of {name}"), known.ionisation
        atoms = "" if value is None else f"{value * HARTREE_IN_KCAL_PER_MOL:.2f}"
        ion = "" if ionisation is None else f"{ionisation * HARTREE_IN_EV:.3f}"
        dipole = "" if known.dipole is None else f"{np.linalg.norm(known.dipole) * DIPOLE_IN_DEBYE:.3f}"
        row = f"{name:<24} {known.energy:>14.6f} {atoms:>17} {ion:>10} {dipole:>9}"
        rows.append(f"{row} {found['t1']:>6.3f} {found['spin_square']:>6.3f} {found['seconds']:>7.1f}")
    return "\n".join(rows)
