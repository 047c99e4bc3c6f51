"""Energies of neural orbitals beside complete-basis limits and the SCF's basis sets. See README.md."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import optax
from pyscf import dft, scf

import dqc
import dqc.cache
from dqc.basis import pyscf_mole
from dqc.density import density_matrix
from dqc.interop.pyscf import attach
from dqc.orbitals import training
from dqc.orbitals.expectation import slope, system_on
from dqc.orbitals.gauss_newton import ITERATIONS, step
from dqc.orbitals.neural import Orbitals
from dqc.orbitals.quadrature import placed

HERE = Path(__file__).parent
BASES = ("def2-svp", "def2-tzvp", "def2-qzvpp")
CURVES = {
    "H2": ("H 0 0 0; H 0 0 {}", (1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)),
    "N2": ("N 0 0 0; N 0 0 {}", (1.7, 1.9, 2.068, 2.3, 2.6, 3.0)),
}
CURVE_FUNCTIONAL = "pbe"
DIRECT_BASIS = "def2-svp"
LOCAL_HYBRID = "0.25*hf + 0.75*r2scan, r2scan"  # the parent of the rows "local_hybrid"
FIRST_ORDER = (("H2", "pbe"), ("LiH", "pbe"))
ADAM, ADAM_STEPS = 0.01, 60  # learning rate; steps
NOTES = {"limit": "", "near": "  (reference 0.1 to 0.3 above the limit)", "first-order": "  (Adam)"}


def tasks() -> list[dict[str, Any]]:
    """Every calculation: those with a reference, quick ones first, then the curves."""
    systems = tomllib.loads((HERE / "systems.toml").read_text())
    rows = []
    for name, entry in systems.items():
        for kind in ("limit", "near"):
            for xc, reference in entry.get(kind, {}).items():
                row = {"system": name, "atoms": entry["atoms"], "xc": xc}
                rows.append(row | {"reference": reference, "kind": kind})
    for name, (atoms, distances) in CURVES.items():
        for distance in distances:
            row = {"system": name, "atoms": atoms.format(distance), "xc": CURVE_FUNCTIONAL}
            rows.append(row | {"distance": distance, "kind": "curve"})
    hard = tomllib.loads((HERE.parent / "convergence" / "cases.toml").read_text())
    rows += [{"system": name, "xc": case.get("xc", "pbe"), "kind": "direct"} for name, case in hard.items()]
    compared = [row for row in rows if row["kind"] == "limit" and (row["system"], row["xc"]) in FIRST_ORDER]
    return rows + [row | {"kind": "first-order"} for row in compared]


def direct(task: dict[str, Any]) -> dict[str, Any]:
    """Direct minimisation of LCAO coefficients from the SCF's start, and from its end, beside the SCF."""
    case = tomllib.loads((HERE.parent / "convergence" / "cases.toml").read_text())[task["system"]]
    if "file" in case:
        mol = dqc.Molecule.from_xyz(HERE.parent.parent / "examples" / f"{case['file']}.xyz")
    else:
        mol = dqc.Molecule.from_string(case["atoms"], charge=case.get("charge", 0), spin=case.get("spin"))
    xc = dqc.functional(task["xc"])
    system = dqc.build(mol, DIRECT_BASIS, xc)
    field = dqc.scf(system, xc, tolerance=1e-6)
    row: dict[str, Any] = {"scf": float(field.energy), "scf_converged": bool(field.converged)}
    row["scf_iterations"] = int(field.iterations)
    for name, guess in (("start", "sap"), ("end", field.density_matrix)):
        sol = dqc.minimise(system, xc, guess=guess, tolerance=1e-6, steps=1000)
        row |= {name: float(sol.energy), f"{name}_converged": bool(sol.converged)}
        row[f"{name}_iterations"] = int(sol.iterations)
    return row


def functional(name: str) -> dqc.Functional:
    return dqc.neural(LOCAL_HYBRID, rung=name) if name == "local_hybrid" else dqc.functional(name)


def molecule(task: dict[str, Any]) -> dqc.Molecule:
    return dqc.Molecule.from_string(task["atoms"], unit="bohr")


def field(mol: dqc.Molecule, xc: str, basis: str) -> float:
    """PySCF's energy in a basis, with exact integrals."""
    mole = pyscf_mole(mol, basis)
    if xc == "hf":
        mf = scf.UHF(mole) if mol.spin else scf.RHF(mole)
    else:
        mf = (dft.UKS if mol.spin else dft.RKS)(mole)
        mf.grids.level = 5
        if xc == "local_hybrid":
            mf = attach(mf, functional(xc))
        else:
            mf.xc = xc
    mf.chkfile = None
    return float(mf.kernel())


def calculate(task: dict[str, Any], steps: int, grid: int) -> dict[str, Any]:
    """One row of the results."""
    mol, xc = molecule(task), functional(task["xc"])
    started = time.perf_counter()
    adam = {"optimizer": optax.adam(ADAM), "steps": ADAM_STEPS, "tolerance": 0.0}
    options = adam if task["kind"] == "first-order" else {"steps": steps}
    sol = dqc.minimise(mol, xc, orbitals=dqc.orbitals.Neural(), grid=grid, **options)
    seconds = time.perf_counter() - started
    row = {
        "energy": float(sol.energy),
        "energy_error": float(sol.energy_error),
        "converged": bool(sol.converged),
        "steps": int(sol.iterations),
        "start": float(sol.history.energy[0]),
        "seconds": round(seconds, 1),
        "parameters": sum(x.size for x in jax.tree.leaves(sol.parameters)),
        "homo": float(sol.mo_energy[0].max()),
    }
    return row | {basis: field(mol, task["xc"], basis) for basis in BASES}


def operations(problem: training.Problem, orbitals: Orbitals, iterations: int) -> list[float]:
    """The multiplications and additions that the parts of a step cannot do without, in 1e9."""
    a, w, u = problem.grid.weights.shape
    points, rough = a * w * u, problem.coarse.weights.size
    network, (_, n, slots) = orbitals.network, orbitals.C.shape
    widths = (8 + len(orbitals.nuclei.elements), *network.hidden, len(network.degrees))
    perceptron = a * sum(one * two for one, two in pairwise(widths))
    functions = 2 * 4 * points * perceptron  # values and three derivatives
    matrices = 2 * 8 * points * n**2  # S, T by three directions, V, dipole by three
    poisson = 2 * 2 * (a - 1) * points * w * (problem.grid.lmax + 1) ** 2  # and its transpose
    field = iterations * (2 * 4 * points * n**2 + poisson)  # rho, J, F_xc with gradients
    gradient = 3 * functions + 2 * poisson
    product = 2 * (2 * 4 * rough * perceptron) + 2 * 2 * 4 * rough * n * slots
    return [1e-9 * x for x in (functions + matrices, field, gradient, ITERATIONS * product)]


def profile(names: list[str], grid: int) -> str:
    """Where the time of a step goes once everything is compiled, beside the operations it needs."""
    systems = tomllib.loads((HERE / "systems.toml").read_text())
    parts = ("functions", "SCF", "gradient", "Gauss-Newton")
    lines = [f"{'':<5}{'points':>8}{'n':>5}" + "".join(f"{part:>22}" for part in parts) + f"{'GFLOP/s':>9}"]
    for name in names:
        mol, xc = molecule(systems[name]), dqc.functional("pbe")
        problem, state = training.prepare(mol, xc, dqc.orbitals.Neural(), grid, 0)
        orbitals = state.orbitals
        turned, coarse = (
            placed(g, orbitals.nuclei.coords, state.rotation) for g in (problem.grid, problem.coarse)
        )
        f, C = orbitals.occupations, orbitals.C
        functions = partial(system_on, orbitals, turned)
        field = partial(dqc.scf, functions(), xc, occupations=f, guess=density_matrix(C, f), tolerance=1e-6)
        calls = (
            functions,
            field,
            partial(slope, orbitals, turned, xc),
            partial(step, orbitals, state.mo_energy, coarse, state.gradient, state.damping),
        )
        seconds = []
        for call in calls:
            jax.block_until_ready(call())
            started = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - started)
        needed = operations(problem, orbitals, int(field().iterations))
        cells = "".join(f"{f'{t:.2f} s, {x:.1f} GFLOP':>22}" for t, x in zip(seconds, needed, strict=True))
        rate = sum(needed) / sum(seconds)
        lines.append(f"{name:<5}{turned.weights.size:>8}{C.shape[1]:>5}{cells}{rate:>9.1f}")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Beside the references, in mHa; and the same for the curves."""
    head = f"{'':<5} {'xc':<12} {'energy / Ha':>15} {'error':>8} {'energy_error':>13} " + "".join(
        f"{basis:>12}" for basis in BASES
    )
    lines = [head + f" {'steps':>6} {'time / s':>9}"]
    for row in rows:
        if row["kind"] in ("curve", "direct"):
            continue
        off = {name: 1e3 * (row[name] - row["reference"]) for name in ("energy", *BASES)}
        lines.append(
            f"{row['system']:<5} {row['xc']:<12} {row['energy']:>15.7f} {off['energy']:>8.4f} "
            f"{1e3 * row['energy_error']:>13.4f} "
            + "".join(f"{off[basis]:>12.3f}" for basis in BASES)
            + f" {row['steps']:>6} {row['seconds']:>9.0f}"
            + NOTES[row["kind"]]
            + ("" if row["converged"] else "  (not converged)")
        )
    lines += ["", f"{'':<5} {'R / bohr':>8} {'energy / Ha':>15} " + "".join(f"{b:>12}" for b in BASES)]
    for row in rows:
        if row["kind"] == "curve":
            above = "".join(f"{1e3 * (row[basis] - row['energy']):>12.3f}" for basis in BASES)
            lines.append(f"{row['system']:<5} {row['distance']:>8.3f} {row['energy']:>15.7f} {above}")
    lines += [
        "",
        f"{'':<28} {'xc':<6} {'SCF / Ha':>15} {'it':>4} {'minimum-SCF':>12} {'it':>4} {'from its end':>13}",
    ]
    for row in rows:
        if row["kind"] == "direct":
            its = [row[f"{k}_iterations"] if row[f"{k}_converged"] else "no" for k in ("scf", "start")]
            lines.append(
                f"{row['system']:<28} {row['xc']:<6} {row['scf']:>15.8f} {its[0]:>4} "
                f"{row['start'] - row['scf']:>12.1e} {its[1]:>4} {row['end'] - row['scf']:>13.1e}"
            )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The curves: energies, and how far above the neural ones the basis sets lie."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(CURVES), figsize=(10, 7), sharex="col")
    for column, name in enumerate(CURVES):
        points = sorted(
            (row for row in rows if row["kind"] == "curve" and row["system"] == name),
            key=lambda row: row["distance"],
        )
        R = [row["distance"] for row in points]
        top, bottom = axes[:, column]
        for basis in BASES:
            top.plot(R, [row[basis] for row in points], label=basis)
            bottom.semilogy(R, [1e3 * (row[basis] - row["energy"]) for row in points], "o-", label=basis)
        top.plot(R, [row["energy"] for row in points], "k.", label="neural orbitals")
        top.set(title=f"{name}, {CURVE_FUNCTIONAL.upper()}", ylabel="energy / Ha")
        bottom.set(xlabel="R / bohr", ylabel="above neural orbitals / mHa")
        top.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON-lines file; what it already holds is not repeated")
    parser.add_argument("--only", nargs="+", help="names of systems")
    parser.add_argument("--xc", nargs="+", help="functionals")
    parser.add_argument("--kind", nargs="+", help="limit, near, curve, direct, first-order")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--grid", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--profile", nargs="+", help="names of systems of which one step is timed")
    parser.add_argument("--figure", type=Path, help="draw the curves to this file")
    options = parser.parse_args()
    dqc.cache.enable()
    if options.profile:
        print(profile(options.profile, options.grid))
        return
    rows = (
        [json.loads(line) for line in options.results.read_text().splitlines()]
        if options.results.exists()
        else []
    )
    for task in [] if options.table else tasks():
        chosen = {"only": "system", "xc": "xc", "kind": "kind"}
        wanted = [
            getattr(options, o) is None or task[key] in getattr(options, o) for o, key in chosen.items()
        ]
        if not all(wanted) or any(task.items() <= row.items() for row in rows):
            continue
        if task["kind"] == "direct":
            row = task | direct(task)
        else:
            row = task | calculate(task, options.steps, options.grid)
        rows.append(row)
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(str(value) for value in row.values()), flush=True)
    print(table(rows))
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
