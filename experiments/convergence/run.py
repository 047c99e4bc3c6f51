"""Does the SCF converge, and not above PySCF with its default settings? See README.md."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, scf

import dqc
import dqc.cache
from dqc.basis import pyscf_mole

HERE = Path(__file__).parent
BASIS = "def2-svp"
ABOVE = 1e-7  # hartree: above PySCF's energy beyond its own default threshold


def cases() -> dict[str, dict[str, Any]]:
    """The hard cases, and then the systems of the accuracy experiment."""
    hard = tomllib.loads((HERE / "cases.toml").read_text())
    easy = tomllib.loads((HERE.parent / "accuracy" / "systems.toml").read_text())
    listed = {f"{name} (accuracy)": case for name, case in easy.items()}
    return {name: {"name": name, "xc": "pbe"} | case for name, case in (hard | listed).items()}


def molecule(case: dict[str, Any]) -> dqc.Molecule:
    if "file" in case:
        return dqc.Molecule.from_xyz(HERE.parent.parent / "examples" / f"{case['file']}.xyz")
    return dqc.Molecule.from_string(case["atoms"], charge=case.get("charge", 0), spin=case.get("spin"))


def pyscf(mol: dqc.Molecule, case: dict[str, Any]) -> dict[str, Any]:
    """PySCF as it comes, with the same fitting basis and grid."""
    mole = pyscf_mole(mol, BASIS)
    mole.basis = BASIS
    if case["xc"] == "hf":
        mf = scf.UHF(mole) if mol.spin else scf.RHF(mole)
    else:
        mf = (dft.UKS if mol.spin else dft.RKS)(mole, xc=case["xc"])
    mf = mf.density_fit()
    mf.chkfile = None
    mf.kernel()
    return {"energy": float(mf.e_tot), "converged": bool(mf.converged), "iterations": int(mf.cycles)}


def summary(solution: dqc.Solution) -> dict[str, Any]:
    return {
        "energy": float(solution.energy),
        "converged": bool(solution.converged),
        "iterations": int(solution.iterations),
    }


def ours(mol: dqc.Molecule, case: dict[str, Any], theirs: float) -> dict[str, dict[str, Any]]:
    """From the default guess, from the moments, and along the unstable direction of what lies too high."""
    xc = dqc.functional(case["xc"])
    system = dqc.build(mol, BASIS, xc)
    solution = dqc.scf(system, xc)
    results = {"dqc": summary(solution)}
    if "moments" in case:
        results["broken"] = summary(dqc.scf(system, xc, moments=np.array(case["moments"], float)))
    if float(solution.energy) > theirs + ABOVE:
        mode = dqc.stability(system, xc, solution, unrestricted=bool(mol.spin))
        results["dqc"]["hessian"] = float(mode.eigenvalue)
        if not mode.stable:
            results["restarted"] = summary(dqc.scf(system, xc, guess=mode.guess))
    return results


def table(rows: list[dict[str, Any]]) -> str:
    """Side by side; a failure is a run that did not converge or that ended above PySCF."""
    heads = ("PySCF", "it", "dqc-PySCF", "it", "moments", "it", "restarted", "it")
    lines = [f"{'case':<36}{'xc':<7}" + "".join(f"{h:>14}" if h != "it" else f"{h:>4}" for h in heads)]
    failures = {"PySCF": [], "dqc": [], "above": []}
    for row in rows:
        line = f"{row['name']:<36}{row['xc']:<7}"
        for key in ("pyscf", "dqc", "broken", "restarted"):
            run = row.get(key)
            if run is None:
                line += " " * 18
                continue
            value = run["energy"] if key == "pyscf" else run["energy"] - row["pyscf"]["energy"]
            number = f"{value:14.6f}" if key == "pyscf" else f"{value:14.1e}"
            line += number + f"{run['iterations'] if run['converged'] else 'no':>4}"
            if not run["converged"]:
                failures["PySCF" if key == "pyscf" else "dqc"].append(row["name"])
        ended = [row[key]["energy"] for key in ("dqc", "broken", "restarted") if key in row]
        if not min(ended) < row["pyscf"]["energy"] + ABOVE:
            failures["above"].append(row["name"])
        lines.append(line)
    lines += [
        "",
        f"{len(rows)} cases",
        f"not converged, PySCF: {len(failures['PySCF'])} {' '.join(failures['PySCF'])}",
        f"not converged, dqc:   {len(failures['dqc'])} {' '.join(failures['dqc'])}",
        f"dqc above PySCF:      {len(failures['above'])} {' '.join(failures['above'])}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON-lines file; what it already holds is not repeated")
    parser.add_argument("--only", nargs="+", help="names of cases")
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    options = parser.parse_args()
    dqc.cache.enable()
    rows = (
        [json.loads(line) for line in options.results.read_text().splitlines()]
        if options.results.exists()
        else []
    )
    done = {row["name"] for row in rows}
    for name, case in {} if options.table else cases().items():
        if name in done or (options.only and name not in options.only):
            continue
        started = time.perf_counter()
        mol = molecule(case)
        row = case | {"pyscf": pyscf(mol, case)}
        row |= ours(mol, case, row["pyscf"]["energy"])
        row["seconds"] = round(time.perf_counter() - started, 1)
        rows.append(row)
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(table([row]).splitlines()[1], f"{row['seconds']:7.1f} s", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
