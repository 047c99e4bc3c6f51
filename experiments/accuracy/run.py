"""Energies of dqc against PySCF's, over molecules, functionals, basis sets and integrals. See README.md."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, scf

import dqc
import dqc.cache
from dqc.basis import pyscf_mole
from dqc.scf import iterate

HERE = Path(__file__).parent
FUNCTIONALS = ("pbe", "b3lyp", "lda,vwn", "r2scan")
LEVELS = (3, 5, 7)  # of the grid, where two orientations of one state are compared
DEGENERATE = ("hydroxyl", "nitric_oxide")  # a hole in a pi shell
AGREEMENT = 1e-8  # hartree
RESTARTS = 3  # from unstable modes, where PySCF has found a lower state


def molecule(entry: dict[str, Any]) -> dqc.Molecule:
    """A molecule of systems.toml."""
    if "file" in entry:
        return dqc.Molecule.from_xyz(HERE.parent.parent / "examples" / f"{entry['file']}.xyz")
    return dqc.Molecule.from_string(entry["atoms"], charge=entry.get("charge", 0), spin=entry.get("spin"))


def tasks(systems: dict[str, Any]) -> list[dict[str, Any]]:
    """Every comparison, the fitted ones in def2-SVP first."""
    names = ("system", "basis", "xc", "two_electron", "grid")
    small = [name for name in systems if systems[name].get("small")]
    triple = [name for name in systems if systems[name].get("triple")]
    rows = [(name, "def2-svp", xc, "df", 3) for xc, name in product(FUNCTIONALS, systems)]
    rows += [(name, "def2-svp", xc, "exact", 3) for name, xc in product(small, ("pbe", "b3lyp"))]
    rows += [(name, "def2-tzvp", xc, "df", 3) for name, xc in product(triple, FUNCTIONALS)]
    rows += [
        (name, "def2-svp", *rest)
        for name, *rest in product(DEGENERATE, ("pbe", "r2scan"), ("df",), LEVELS[1:])
    ]
    return [dict(zip(names, row, strict=True)) for row in rows]


def reference(mol: dqc.Molecule, task: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """PySCF's energy, converged as tightly as asked by any means it has, and its density matrix."""
    mole = pyscf_mole(mol, task["basis"])
    mole.basis = task["basis"]  # by name: PySCF chooses the fitting basis by it
    mf = (dft.UKS if mol.spin else dft.RKS)(mole, xc=task["xc"])
    mf = mf.density_fit() if task["two_electron"] == "df" else mf
    mf.grids.level = task["grid"]
    mf.conv_tol, mf.conv_tol_grad, mf.max_cycle, mf.chkfile = 1e-12, 1e-7, 60, None
    mf.kernel()
    how = "diis"
    if not mf.converged:
        orbitals = mf.mo_coeff, mf.mo_occ
        mf = scf.newton(mf)
        mf.kernel(*orbitals)
        how = "newton"
    gradient = float(np.linalg.norm(mf.get_grad(mf.mo_coeff, mf.mo_occ)))
    row = {"pyscf": float(mf.e_tot), "pyscf_converged": bool(mf.converged), "pyscf_by": how}
    return row | {"pyscf_gradient": gradient}, np.asarray(mf.make_rdm1())


def solve(system: dqc.System, xc: dqc.Functional, **options: Any) -> dqc.Solution:
    """The same as ``dqc.scf``; driven step by step, one compiled step serves every guess."""
    *_, solution = iterate(system, xc, tolerance=1e-6, **options)
    return solution


def downhill(
    system: dqc.System, xc: dqc.Functional, solution: dqc.Solution, reference: float
) -> tuple[dqc.Solution, int]:
    """A solution above the reference, followed along its unstable modes, and the number of restarts."""
    restarts = 0
    while restarts < RESTARTS and float(solution.energy) > reference + AGREEMENT:
        found = dqc.stability(system, xc, solution)
        if found.stable:
            break
        solution, restarts = solve(system, xc, guess=found.guess), restarts + 1
    return solution, restarts


def compare(mol: dqc.Molecule, task: dict[str, Any]) -> dict[str, Any]:
    """One row of the results."""
    row, density = reference(mol, task)
    xc = dqc.functional(task["xc"])
    system = dqc.build(mol, task["basis"], xc, grid=task["grid"], two_electron=task["two_electron"])
    solution, restarts = downhill(system, xc, solve(system, xc), row["pyscf"])
    row |= {
        "dqc": float(solution.energy),
        "converged": bool(solution.converged),
        "iterations": int(solution.iterations),
        "residual": float(solution.residual),
        "restarts": restarts,
    }
    if mol.spin:
        again = solve(system, xc, guess=density)
        row |= {"dqc_from_pyscf": float(again.energy), "again_converged": bool(again.converged)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """All rows, then what does not agree and the largest deviations."""
    lines = [
        f"{'system':<23} {'basis':<10} {'xc':<8} {'integrals':<9} grid {'PySCF':>14} {'dqc-PySCF':>11} "
        f"{'from its density':>17}  it"
    ]
    different, wrong, agreed = [], [], []
    for row in rows:
        own = row["dqc"] - row["pyscf"]
        start = row["dqc_from_pyscf"] - row["pyscf"] if "dqc_from_pyscf" in row else None
        again = "" if start is None else f"{start:.1e}"
        lines.append(
            f"{row['system']:<23} {row['basis']:<10} {row['xc']:<8} {row['two_electron']:<9} "
            f"{row['grid']:>4} {row['pyscf']:>14.8f} {own:>11.1e} {again:>17} {row['iterations']:>3}"
        )
        best = own if start is None or abs(own) < abs(start) else start
        if not row["converged"] or not row.get("again_converged", True) or abs(best) > AGREEMENT:
            wrong.append(lines[-1])
        elif abs(own) > AGREEMENT:
            different.append(lines[-1])
        agreed.append(abs(best))
    kinds = {row["system"] for row in rows}
    lines += ["", f"{len(rows)} comparisons of {len(kinds)} systems; largest |dE| {max(agreed):.1e} Ha"]
    lines += [f"other states, from our own start ({len(different)}):", *different]
    lines += [f"not converged or beyond {AGREEMENT:.0e} Ha ({len(wrong)}):", *wrong]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON-lines file; what it already holds is not repeated")
    parser.add_argument("--only", nargs="+", help="names of systems")
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    options = parser.parse_args()
    dqc.cache.enable()
    systems = tomllib.loads((HERE / "systems.toml").read_text())
    rows = (
        [json.loads(line) for line in options.results.read_text().splitlines()]
        if options.results.exists()
        else []
    )
    for task in [] if options.table else tasks(systems):
        if options.only and task["system"] not in options.only:
            continue
        if any(task.items() <= row.items() for row in rows):
            continue
        started = time.perf_counter()
        row = task | compare(molecule(systems[task["system"]]), task)
        row["seconds"] = round(time.perf_counter() - started, 1)
        rows.append(row)
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{value}" for value in row.values()), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
