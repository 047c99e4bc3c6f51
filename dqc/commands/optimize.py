"""``dqc optimize``: the nuclei move to a minimum of the energy, a line a step."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dqc.cache
from dqc.cli import STATUS_FAILED
from dqc.commands.options import build_options, check_writable, scf_options, write_text
from dqc.constants import ANGSTROM, HARTREE_IN_EV
from dqc.molecule import Molecule


def run(arguments: argparse.Namespace) -> int:
    """Optimise, print, and keep the latest geometry in a file; returns the exit status."""
    from dqc.interop.ase import Calculator, base, to_ase

    dqc.cache.enable()
    output = Path(arguments.output or f"{Path(arguments.molecule).stem}_optimized.xyz")
    check_writable(str(output), arguments.trajectory)
    molecule = Molecule.from_xyz(arguments.molecule, arguments.charge, arguments.spin)
    options = {"xc": arguments.xc, **build_options(arguments), **scf_options(arguments)}
    atoms = to_ase(molecule)
    atoms.calc = Calculator(**options)
    print(f"{molecule.formula}, {arguments.xc}/{arguments.basis}, charge {molecule.charge}, ", end="")
    print(f"spin {molecule.spin}, BFGS until every force is below {arguments.fmax:g} eV/angstrom")
    path: list[tuple[int, float]] = []
    try:
        for step in _steps(atoms, arguments):
            write_text(output, _moved(molecule, atoms).to_xyz())
            path.append(step)
    except base.CalculationFailed as error:
        kept = f"The geometry before is in {output}." if path else "No geometry was written."
        print(f"dqc: {error} {kept}", file=sys.stderr)
        return STATUS_FAILED
    steps, force = path[-1]
    converged = force < arguments.fmax
    print(f"\n{_moved(molecule, atoms).to_xyz()}")
    ended = "Converged" if converged else "Not converged"
    print(f"{ended}: {steps} steps, largest force {force:.4f} eV/angstrom; the geometry is in {output}.")
    return 0 if converged else STATUS_FAILED


def _steps(atoms: Any, arguments: argparse.Namespace) -> Iterator[tuple[int, float]]:
    """Print each step when it is done, and yield its number and its largest force, eV/angstrom."""
    from ase.io import write
    from ase.optimize import BFGS

    if arguments.trajectory:
        Path(arguments.trajectory).unlink(missing_ok=True)
    print(f"{'step':>5} {'energy / Ha':>18} {'change / Ha':>12} {'force / (eV/A)':>15}")
    before, optimizer = math.nan, BFGS(atoms, logfile=None)
    for _ in optimizer.irun(fmax=arguments.fmax, steps=arguments.steps):
        energy = atoms.get_potential_energy(force_consistent=True) / HARTREE_IN_EV
        force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        change = "" if math.isnan(before) else f"{energy - before:.2e}"
        print(f"{optimizer.nsteps:>5} {energy:>18.10f} {change:>12} {force:>15.4f}", flush=True)
        if arguments.trajectory:
            write(arguments.trajectory, atoms, format="extxyz", append=True)
        yield optimizer.nsteps, force
        before = energy


def _moved(molecule: Molecule, atoms: Any) -> Molecule:
    coords = atoms.get_positions() * ANGSTROM
    return Molecule(molecule.symbols, coords, molecule.charge, molecule.spin)
