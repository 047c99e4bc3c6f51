"""``dqc check``: which exact conditions a functional satisfies, and by how much it violates the others."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dqc.cache
from dqc.cli import STATUS_FAILED
from dqc.commands.options import check_writable, write_text
from dqc.losses.fractional import fields, flat_plane, fractional_charge, fractional_spin, ionization_potential
from dqc.losses.one_electron import hydrogenic, self_interaction
from dqc.molecule import Molecule
from dqc.system import System, build
from dqc.xc.box import Points, lattice
from dqc.xc.constraints import CONDITIONS, conflicts, gradient_coefficient, inapplicable, violations
from dqc.xc.files import functional
from dqc.xc.functional import Functional

BASIS = "aug-cc-pvqz"
CURVE = np.linspace(0.0, 2.0, 17)  # numbers of electrons of the picture


def run(arguments: argparse.Namespace) -> int:
    """Compute, print, and write what was asked for; returns the exit status."""
    check_writable(arguments.json, arguments.figure)
    if arguments.figure:
        from dqc.commands.check_figure import draw
    dqc.cache.enable()
    xc = functional(arguments.xc)
    points = lattice(xc.needs.rung)
    _progress(f"exact conditions at {points.s.shape[0]} points")
    values = jax.jit(violations)(xc, points)
    found = pointwise(xc, points, values)
    print(_conditions_table(arguments.xc, found), flush=True)
    _progress(f"one electron; then the fields of hydrogen in {BASIS}")
    system = build(Molecule(["H"], np.zeros((1, 3)), spin=1), BASIS, xc, two_electron="exact")
    figures, converged = hydrogen(system, xc)
    print(_figures_table(figures))
    record: dict[str, Any] = {"functional": arguments.xc, "conditions": found, "figures_mHa": figures}
    if arguments.figure:
        _progress("the energy of hydrogen between 0 and 2 electrons")
        record["hydrogen_curve"] = curve(system, xc)
        draw(Path(arguments.figure), arguments.xc, xc, points, values, record["hydrogen_curve"])
    if arguments.json:
        _write_json(Path(arguments.json), record)
    if not converged:
        print("Not converged: a field of hydrogen; its figures above are nan.")
    return 0 if converged else STATUS_FAILED


def pointwise(xc: Functional, points: Points, values: dict[str, jax.Array]) -> dict[str, dict[str, Any]]:
    """For each condition: satisfied or not (or why not asked), the largest violation, where, at how many."""
    seen = {key for key, axis in vars(points).items() if np.ptp(axis) > 0}
    rows: dict[str, dict[str, Any]] = {}
    for name, condition in CONDITIONS.items():
        rows[name] = {"statement": condition.statement, "source": condition.source}
        if name not in values:
            rows[name] |= {"satisfied": None, "reason": inapplicable(xc, name)}
            continue
        v = np.asarray(values[name])
        finite = np.isfinite(v)
        worst = int(np.argmax(np.where(finite, v, -np.inf)))
        rows[name] |= {
            "satisfied": bool((v <= condition.tolerance).all()),
            "violation": float(v[worst]),
            "share": float((v > condition.tolerance).mean()),
            "not_finite": float((~finite).mean()),
            "at": {
                key: float(getattr(points, key)[worst]) for key in condition.varies.split() if key in seen
            },
        }
    if inapplicable(xc, "gradient_expansion") is None:
        rows["gradient_expansion"]["mu"] = float(gradient_coefficient(xc))
    return rows


def hydrogen(system: System, xc: Functional) -> tuple[dict[str, float], bool]:
    """Errors in mHa (nan where a field has not converged), and whether all fields have converged."""
    atoms = {shell: hydrogenic(1.0, shell) for shell in ("1s", "2s", "2p")}
    figures = {
        f"self-interaction of H {shell}, E_xc + E_H": self_interaction(xc, density)
        for shell, density in atoms.items()
    }
    figures["the same 1s with half an electron of each spin"] = self_interaction(xc, atoms["1s"], zeta=0.0)
    one, half, none = (jnp.asarray([[up], [down]]) for up, down in ((1.0, 0.0), (0.5, 0.5), (0.0, 0.0)))
    tests = {
        "H, self-consistent: E + 1/2": flat_plane(system, xc, one.T),
        "H with 1/2 electron: E - E(1)/2": fractional_charge(system, xc, none, one, (0.5,)),
        "H with half an electron of each spin: E + 1/2": fractional_spin(system, xc, one, half, -0.5),
        "H: HOMO + ionisation potential": ionization_potential(system, xc, none, one),
    }
    for name, test in tests.items():
        figures[name] = jnp.where(test.converged, test.error, jnp.nan)[0]
    converged = all(bool(test.converged.all()) for test in tests.values())
    return {name: 1e3 * float(value) for name, value in figures.items()}, converged


def curve(system: System, xc: Functional) -> list[tuple[float, float]]:
    """Electrons, and the energy of hydrogen in hartree (nan where not converged): up first, then down."""
    occupations = np.array([[[min(N, 1.0)], [max(N - 1.0, 0.0)]] for N in CURVE])
    found = fields(system, xc, jnp.asarray(occupations))
    energies = np.where(found.converged, found.energy, np.nan)
    return [(float(N), float(E)) for N, E in zip(CURVE, energies, strict=True)]


def _progress(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def _conditions_table(name: str, rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        name,
        "",
        f"{'condition':<26} {'':<9} {'by up to':>9} {'points':>7}  worst at",
    ]
    for key, row in rows.items():
        if row["satisfied"] is None:
            lines.append(f"{key:<26} {'-':<9} {row['reason']}")
        elif row["satisfied"]:
            lines.append(f"{key:<26} satisfied")
        else:
            where = ", ".join(f"{axis} {x:.3g}" for axis, x in row["at"].items())
            share = f"{row['share']:.1%}" if where else ""
            lines.append(f"{key:<26} {'violated':<9} {row['violation']:>9.2g} {share:>7}  {where}".rstrip())
        if row.get("not_finite"):
            lines.append(f"{'':<26} not finite at {row['not_finite']:.1%} of the points")
        if "mu" in row:
            lines[-1] += f"  (mu = {row['mu']:.5f}, 10/81 = {10 / 81:.5f})"
    asked = [row for row in rows.values() if row["satisfied"] is not None]
    lines += ["", f"{sum(row['satisfied'] for row in asked)} of {len(asked)} conditions are satisfied."]
    return "\n".join(lines)


def _figures_table(figures: dict[str, float]) -> str:
    lines = ["", f"{'error, exactly zero':<48} {'mHa':>9}"]
    lines += [f"{name:<48} {value + 0.0:>9.2f}" for name, value in figures.items()]
    return "\n".join(lines)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    about = {
        "program": f"dqc {dqc.__version__}",
        "units": "violations are dimensionless (high_density: hartree); r_s in bohr",
        "conflicts": conflicts([*CONDITIONS, "tail", "fractional_charge", "fractional_spin"]),
    }
    write_text(path, json.dumps(about | record, indent=2) + "\n")
