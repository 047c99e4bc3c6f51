"""``dqc energy``: one self-consistent field, printed as it happens, then its result as a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dqc.cache
from dqc.cli import STATUS_FAILED
from dqc.commands.clock import Timings
from dqc.commands.options import build_options, check_writable, scf_options, title, write_text
from dqc.constants import DIPOLE_IN_DEBYE, HARTREE_IN_EV
from dqc.iterations import State
from dqc.molecule import Molecule
from dqc.properties.dipole import dipole
from dqc.properties.forces import forces
from dqc.properties.frontier import frontier
from dqc.properties.spin_square import spin_square
from dqc.scf import iterate
from dqc.solution import Solution
from dqc.storage import save
from dqc.system import System, build
from dqc.xc.files import functional

FORCES_TOLERANCE = 1e-6  # of the field, where forces are asked for and --conv is not given


def run(arguments: argparse.Namespace) -> int:
    """Compute, print, and write what was asked for; returns the exit status."""
    dqc.cache.enable()
    check_writable(arguments.json, arguments.save)
    timings = Timings()
    with timings.phase("set-up"):
        molecule = Molecule.from_xyz(arguments.molecule, arguments.charge, arguments.spin)
        xc = functional(arguments.xc)
        system = jax.block_until_ready(build(molecule, xc=xc, **build_options(arguments)))
    if arguments.save:
        save(system, arguments.save)
    if arguments.forces and arguments.tolerance is None:
        arguments.tolerance = FORCES_TOLERANCE
    print(title(molecule, system, arguments))
    with timings.phase("SCF"):
        solution = jax.block_until_ready(_printed(iterate(system, xc, **scf_options(arguments))))
    results = summary(system, solution)
    if arguments.forces:
        with timings.phase("forces"):
            results["forces"] = np.asarray(forces(system, xc, solution)).tolist()
    print(_table(molecule, results, timings))
    if arguments.json:
        _write_json(Path(arguments.json), arguments, molecule, results, timings)
    print(solution.message)
    return 0 if results["converged"] else STATUS_FAILED


def summary(system: System, solution: Solution) -> dict[str, Any]:
    """What the table and the JSON file hold, as plain numbers: hartree, and debye for the dipole moment."""
    homo, lumo = (float(level) for level in frontier(solution))
    return {
        "converged": bool(solution.converged),
        "iterations": int(solution.iterations),
        "residual": float(solution.residual),
        "energy": float(solution.energy),
        "energies": {name: float(value) for name, value in dataclasses.asdict(solution.energies).items()},
        "homo": homo if math.isfinite(homo) else None,
        "lumo": lumo if math.isfinite(lumo) else None,
        "spin_square": float(spin_square(system, solution)) if len(solution.density_matrix) == 2 else None,
        "dipole_debye": (np.asarray(dipole(system, solution)) * DIPOLE_IN_DEBYE).tolist(),
    }


def _printed(steps: Iterator[State | Solution]) -> Solution:
    """Print each iteration when it is done; the last item is the solution."""
    print(f"{'iteration':>9} {'energy / Ha':>18} {'change / Ha':>12} {'residual':>10}")
    before = math.nan
    for step in steps:
        if isinstance(step, Solution):
            return step
        energy = float(step.energies.total)
        change = "" if math.isnan(before) else f"{energy - before:.2e}"
        row = f"{int(step.iteration):>9} {energy:>18.10f} {change:>12} {float(step.residual):>10.2e}"
        print(row + _manner(step), flush=True)
        before = energy
    raise RuntimeError("the iterations ended without a solution")


def _manner(step: State) -> str:
    words = [word for word, holds in (("coarse grid", step.waited), ("direct", step.direct)) if bool(holds)]
    return "  " + ", ".join(words) if words else ""


def _table(molecule: Molecule, results: dict[str, Any], timings: Timings) -> str:
    rows = [("", "")]
    rows += [(name.replace("_", " "), f"{value:.10f} Ha") for name, value in results["energies"].items()]
    rows += [("total energy", f"{results['energy']:.10f} Ha"), ("", "")]
    homo, lumo = results["homo"], results["lumo"]
    gap = None if homo is None or lumo is None else lumo - homo
    for name, level in (("HOMO", homo), ("LUMO", lumo), ("gap", gap)):
        if level is not None:
            rows.append((name, f"{level:.6f} Ha {level * HARTREE_IN_EV:10.4f} eV"))
    if results["spin_square"] is not None:
        S = molecule.spin / 2
        rows.append(("<S^2>", f"{results['spin_square']:.6f} (pure spin state: {S * (S + 1):.2f})"))
    mu = results["dipole_debye"]
    origin = " about the origin" if molecule.charge else ""
    components = ", ".join(f"{component + 0.0:.4f}" for component in np.round(mu, 4))
    rows.append(("dipole", f"{np.linalg.norm(mu):.4f} D ({components}){origin}"))
    if "forces" in results:
        rows += [("", ""), ("forces / (Ha/bohr)", "".join(f"{axis:>14}" for axis in "xyz"))]
        for number, (symbol, F) in enumerate(zip(molecule.symbols, results["forces"], strict=True), start=1):
            rows.append((f"{number:>5} {symbol}", "".join(f"{x + 0.0:14.8f}" for x in np.round(F, 8))))
    rows += [("", "")]
    rows += [(f"time, {name}", f"{seconds:.2f} s") for name, seconds in timings.items()]
    return "\n".join(f"{name:<20} {value}".rstrip() for name, value in rows)


def _write_json(
    path: Path, arguments: argparse.Namespace, molecule: Molecule, results: dict[str, Any], timings: Timings
) -> None:
    record = {
        "program": f"dqc {dqc.__version__}",
        "molecule": {
            "file": arguments.molecule,
            "symbols": molecule.symbols,
            "coords_bohr": molecule.coords.tolist(),
            "charge": molecule.charge,
            "spin": molecule.spin,
        },
        "method": {"xc": arguments.xc, **build_options(arguments), **scf_options(arguments)},
        "units": "hartree unless a key says otherwise",
        **results,
        "seconds": dict(timings),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
