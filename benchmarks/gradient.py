"""What derivatives cost, in time and memory: of the energy, of losses on the density, forces.

    python benchmarks/gradient.py                                     # water and ethanol
    python benchmarks/gradient.py --molecules benzene aspirin --parts cost forces memory
    python benchmarks/gradient.py --torch-dqc PYTHON --pyscfad PYTHON # with the scripts in benchmarks/peers
    python benchmarks/gradient.py --parts unrolled --figure curve.png --json numbers.json

PBE/def2-SVP, density fitting, grid level 3; theta are three constants of PBE. Times are medians of warm calls
that take turns, and every table says what compiling took. The parts, each in processes of its own:

cost      An extra is what value_and_grad takes beyond the SCF alone, as a share of the SCF. "dipole" is the
          loss sum (mu - 1)^2, "density" the Coulomb energy of the density less that of the atoms; both solve
          for the response of the orbitals.
forces    From a converged solution, against PySCF's analytic gradient with density fitting, whose grid moves
          with the nuclei (grid_response) or does not. Both fields are converged alike: to 1e-7 in the
          orbital gradient.
memory    Peaks beyond what the process held after its imports, with integrals, grid and compiled programs
          (from the cache), of energies alone and of each derivative.
unrolled  Temporary memory of the compiled gradient of the dipole loss, as XLA plans it, through the implicit
          function theorem and through the unrolled iterations, for growing numbers of these.
peers     One training step (the energy and dE/dtheta, everything built anew) and forces, SCF included, of
          the programs whose Python is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from derivatives import ITERATIONS, LOSSES
from energy import EXAMPLES
from peers.harness import thread_settings

PARTS = "cost forces memory unrolled peers".split()
SCRIPTS = Path(__file__).parent / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--molecules", nargs="+", default=["water", "ethanol"], metavar="NAME")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, metavar="PART", help=str(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--curve", default="ethanol", metavar="NAME", help="the molecule of part unrolled")
    parser.add_argument("--figure", metavar="FILE", help="a picture of part unrolled (needs matplotlib)")
    parser.add_argument("--json", metavar="FILE", help="all numbers")
    parser.add_argument("--torch-dqc", metavar="PYTHON", help="see benchmarks/peers/torch_dqc.py")
    parser.add_argument("--pyscfad", metavar="PYTHON", help="see benchmarks/peers/pyscfad_step.py")
    parser.add_argument("--time-limit", type=float, default=600, help="of each run in part peers, seconds")
    arguments = parser.parse_args()
    if arguments.repeats < 3:
        parser.error("--repeats must be at least 3: medians are reported")
    print(
        f"PBE/def2-SVP, density fitting, grid 3, {arguments.threads} threads, medians of {arguments.repeats}"
    )
    tables = {"cost": cost, "forces": forces, "memory": memory, "unrolled": unrolled, "peers": peers}
    numbers = {part: tables[part](arguments) for part in PARTS if part in arguments.parts}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=1))


# The tables


def cost(arguments: argparse.Namespace) -> dict:
    print("\nextra time of value_and_grad over the SCF's, and response iterations")
    print(f"{'':12s} {'SCF':>8s} {'iterations':>10s} {'dE/dtheta':>10s} ", end="")
    print(f"{'dipole':>12s} {'density':>12s}   compiling: SCF, energy, dipole, density")
    rows = {}
    for molecule in arguments.molecules:
        rows[molecule] = row = worker("cost", molecule, arguments)
        cells = [f"{row[k]['extra']:.2f} ({row[k]['iterations']:.0f})" for k in LOSSES[1:]]
        compiling = ", ".join(f"{row[k]['compiling']:.0f}" for k in ("scf", *LOSSES))
        print(
            f"{molecule:12s} {row['scf']['time']:6.3f} s {row['scf']['iterations']:10.0f} "
            f"{row['energy']['extra']:10.2f} {cells[0]:>12s} {cells[1]:>12s}   {compiling} s",
            flush=True,
        )
    return rows


def forces(arguments: argparse.Namespace) -> dict:
    print("\nforces from a converged solution, against PySCF's analytic gradient (in brackets)")
    print(f"{'':12s} {'dqc':>8s} {'over grid response':>20s} {'over fixed grid':>20s} ", end="")
    print("max |dF| to grid response, to fixed grid / Ha/bohr   compiling")
    rows = {}
    for molecule in arguments.molecules:
        ours, peer = (worker(name, molecule, arguments) for name in ("forces", "pyscf_forces"))
        rows[molecule] = {"dqc": ours, "pyscf": peer}
        cells = [
            f"{ours['time'] / peer[k]['time']:.2f} ({peer[k]['time']:.3g} s)" for k in ("moving", "fixed")
        ]
        apart = [np.abs(np.add(ours["forces"], peer[k]["gradient"])).max() for k in ("moving", "fixed")]
        print(
            f"{molecule:12s} {ours['time']:6.3f} s {cells[0]:>20s} {cells[1]:>20s} "
            f"{apart[0]:25.1e} {apart[1]:24.1e}   {ours['compiling']:.0f} s",
            flush=True,
        )
    return rows


def memory(arguments: argparse.Namespace) -> dict:
    print("\npeak memory over that of the energy")
    print(f"{'':12s} {'energy':>10s} {'dE/dtheta':>10s} {'dipole':>8s} {'forces':>8s}")
    rows = {}
    for molecule in arguments.molecules:
        row = {
            task: run_ours(molecule, task, arguments)["memory"]
            for task in ("energy", "step", "density", "forces")
        }
        rows[molecule] = row
        ratios = [row[task] / row["energy"] for task in ("step", "density", "forces")]
        print(
            f"{molecule:12s} {row['energy']:7.0f} MB {ratios[0]:10.2f} {ratios[1]:8.2f} {ratios[2]:8.2f}",
            flush=True,
        )
    return rows


def unrolled(arguments: argparse.Namespace) -> dict:
    print(f"\ntemporary memory of the dipole loss's gradient, {arguments.curve}, MB")
    print(f"{'max_iterations':14s} {'implicit':>9s} {'unrolled':>9s}")
    curve = worker("unrolled", arguments.curve, arguments)
    for row in zip(ITERATIONS, curve["implicit"], curve["unrolled"], strict=True):
        print("{:14d} {:9.2f} {:9.2f}".format(*row))
    if arguments.figure:
        draw(curve, arguments.curve, arguments.figure)
    return curve


def peers(arguments: argparse.Namespace) -> dict:
    given = {"torch_dqc": arguments.torch_dqc, "pyscfad_step": arguments.pyscfad}
    given = {script: python for script, python in given.items() if python}
    if not given:
        return {}
    print("\ntime and peak memory of a peer over ours (ours in brackets); |dE| of the energies")
    rows: dict = {}
    for molecule in arguments.molecules:
        for task in ("step", "forces"):
            ours = run_ours(molecule, task, arguments)
            rows[f"{molecule} {task}"] = {"dqc": ours}
            for script, python in given.items():
                peer = run_script(python, script, molecule, task, arguments)
                rows[f"{molecule} {task}"][script] = peer
                print(f"{molecule:12s} {task:7s} {peer['program']:12s} {compared(ours, peer)}", flush=True)
    return rows


def compared(ours: dict, peer: dict) -> str:
    if "failed" in peer:
        return peer["failed"]
    times = [statistics.median(run["seconds"] or [run["first"]]) for run in (ours, peer)]
    return (
        f"time {times[1] / times[0]:6.2f} ({times[0]:.3f} s)   "
        f"memory {peer['memory'] / ours['memory']:5.2f} ({ours['memory']:.0f} MB)   "
        f"first call {peer['first'] / ours['first']:5.2f} ({ours['first']:.1f} s)   "
        f"|dE| {abs(peer['energy'] - ours['energy']):.0e} Ha"
    )


def draw(curve: dict, molecule: str, path: str) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for mode, color in (("unrolled", "#b2182b"), ("implicit", "#2166ac")):
        axis.plot(ITERATIONS, curve[mode], "o-", color=color, label=mode)
    axis.set(xlabel="SCF iterations", ylabel="temporary memory / MB", ylim=(0, None), title=molecule)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


# The processes


def worker(name: str, molecule: str, arguments: argparse.Namespace) -> dict:
    command = [sys.executable, str(Path(__file__).with_name("derivatives.py")), name, molecule]
    command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    environment = os.environ | thread_settings(arguments.threads)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_ours(molecule: str, task: str, arguments: argparse.Namespace) -> dict:
    run_script(sys.executable, "this_library", molecule, task, arguments)  # fills the compilation cache
    ran = run_script(sys.executable, "this_library", molecule, task, arguments)
    if "failed" in ran:
        raise SystemExit(f"{molecule}, {task}: {ran['failed']}")
    return ran


def run_script(python: str, script: str, molecule: str, task: str, arguments: argparse.Namespace) -> dict:
    command = [python, str(SCRIPTS / f"{script}.py"), str(EXAMPLES / f"{molecule}.xyz"), "--task", task]
    command += ["--repeat", str(arguments.repeats), "--threads", str(arguments.threads)]
    command += ["--time-limit", str(arguments.time_limit)]
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)  # a peer is called dqc as well
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
