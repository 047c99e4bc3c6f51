"""``dqc frequencies``: harmonic frequencies and infrared intensities, as a table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

import dqc
import dqc.cache
from dqc.cli import STATUS_FAILED
from dqc.commands.options import build_options, check_writable, scf_options, title, write_text
from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.guess import starting_density
from dqc.molecule import Molecule
from dqc.properties.forces import forces
from dqc.properties.vibrations import TOLERANCE, Vibrations, vibrations
from dqc.scf import scf
from dqc.system import build
from dqc.xc.files import functional

STATIONARY = 1e-3  # hartree/bohr; above it the geometry is no minimum worth the name


def run(arguments: argparse.Namespace) -> int:
    """Compute, print, and write what was asked for; returns the exit status."""
    dqc.cache.enable()
    check_writable(arguments.json)
    molecule = Molecule.from_xyz(arguments.molecule, arguments.charge, arguments.spin)
    xc = functional(arguments.xc)
    system = jax.block_until_ready(build(molecule, xc=xc, **build_options(arguments)))
    print(title(molecule, system, arguments), flush=True)
    options = {"tolerance": TOLERANCE} | scf_options(arguments)
    guess = starting_density(system, options.pop("guess", "sap"))
    solution = scf(system, xc, guess=guess, **options)
    print(f"{solution.message} Energy {float(solution.energy):.10f} Ha", flush=True)
    if not solution.converged:
        return STATUS_FAILED
    largest = float(np.linalg.norm(forces(system, xc, solution), axis=1).max())
    print(f"Largest force {largest:.1e} Ha/bohr" + _warning(largest), flush=True)
    found = vibrations(molecule, system, xc, solution=solution, progress=_progress, **options)
    print(_table(found))
    if arguments.json:
        _write_json(Path(arguments.json), arguments, molecule, found)
    if not np.isfinite(found.frequencies).all():
        print("Not converged: the field of a displaced geometry; --conv 1e-7 or --level-shift may help.")
        return STATUS_FAILED
    return 0


def _warning(force: float) -> str:
    if force < STATIONARY:
        return ""
    return ": this is not a stationary point of the method; optimise first (dqc optimize)"


def _progress(done: int, of: int) -> None:
    """On standard error, once an atom."""
    if done % 3 == 0:
        print(f"displaced {done // 3} of {of // 3} atoms", file=sys.stderr, flush=True)


def _table(found: Vibrations) -> str:
    rows = ["", f"{'mode':>5} {'frequency / cm^-1':>18} {'intensity / (km/mol)':>21}"]
    for number, (frequency, intensity) in enumerate(
        zip(found.frequencies, found.intensities, strict=True), start=1
    ):
        imaginary = "  imaginary" if frequency < 0 else ""
        rows.append(f"{number:>5} {frequency:>18.2f} {intensity:>21.3f}{imaginary}")
    zero_point = found.zero_point_energy
    rows += ["", f"zero-point energy {zero_point:.6f} Ha {zero_point * HARTREE_IN_KCAL_PER_MOL:.3f} kcal/mol"]
    return "\n".join(rows)


def _write_json(path: Path, arguments: argparse.Namespace, molecule: Molecule, found: Vibrations) -> None:
    record = {
        "program": f"dqc {dqc.__version__}",
        "molecule": {"symbols": molecule.symbols, "coords_bohr": molecule.coords.tolist()},
        "method": {"xc": arguments.xc, **build_options(arguments), **scf_options(arguments)},
        "units": "cm^-1, km/mol; modes in m_e^(-1/2), hessian in hartree/bohr^2, dipole_derivatives in e",
        **{name: np.asarray(value).tolist() for name, value in found._asdict().items()},
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
