"""Kohn-Sham energies side by side with PySCF: time, memory, iterations, and the difference of the energies.

    python benchmarks/energy.py                  # the table of the README
    python benchmarks/energy.py --growth         # how time and memory grow with the molecule
    python benchmarks/energy.py --cases water/def2-svp --repeats 5

Both programs use PBE, density fitting with the same auxiliary basis, grid level 3 and the same number of
threads, and each runs in processes of its own. PySCF stops at conv_tol=1e-9 (its default; a gradient norm
of 3.2e-5), dqc at a gradient norm of 1e-5. "cold" is a whole process from the shell, dqc's with a filled
compilation cache; "first" the first call inside a process, compilation (from the cache) included; "warm"
the median of the later ones, with the molecule, integrals and grid built anew each time; "loop" the SCF
alone. Memory is the peak beyond what the process held after its imports.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers.harness import peak, resident

EXAMPLES = Path(__file__).parent.parent / "examples"
CASES = "water/def2-svp ethanol/def2-svp benzene/def2-svp aspirin/def2-svp benzene/def2-tzvp".split()
GROWTH = "water ethanol benzene naphthalene anthracene aspirin".split()
PYSCF_COLD = """
import sys
from pyscf import dft, gto
m = gto.M(atom=sys.argv[1], basis=sys.argv[2], verbose=4, output="/dev/null")
mf = dft.RKS(m, xc="pbe").density_fit()
print(mf.kernel(), mf.dip_moment(verbose=0))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="*", default=CASES, metavar="MOLECULE/BASIS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        program, case, ao, repeats = arguments.worker
        print(json.dumps(WORKERS[program](*case.split("/"), ao, int(repeats), arguments.threads)))
    elif arguments.growth:
        growth(arguments)
    else:
        table(arguments)


def table(arguments: argparse.Namespace) -> None:
    print("time and peak memory of dqc over PySCF's (PySCF's own in brackets), PBE, density fitting, grid 3")
    print(
        f"{'case':20s} {'cold':>14s} {'first':>14s} {'warm':>14s} {'loop':>14s} {'memory':>16s} "
        f"{'recomputed':>11s} {'iterations':>11s} {'dE / Ha':>9s}"
    )
    for case in arguments.cases:
        ours, stored, peer = (
            measure(program, case, ao, arguments)
            for program, ao in (("dqc", "recomputed"), ("dqc", "stored"), ("pyscf", "recomputed"))
        )
        times = [cell(stored, peer, key, "s") for key in ("cold", "first", "warm", "loop")]
        memory = cell(stored, peer, "memory", "MB")
        lean = f"{ours['memory'] / peer['memory']:.2f} ({ours['warm'] / peer['warm']:.2f})"
        counts = f"{stored['iterations']}/{peer['iterations']}"
        difference = stored["energy"] - peer["energy"]
        print(
            f"{case:20s} {' '.join(f'{t:>14s}' for t in times)} {memory:>16s} {lean:>11s} "
            f"{counts:>11s} {difference:9.1e}",
            flush=True,
        )
    print("recomputed: the memory ratio (and the warm time's) with AO values recomputed, as PySCF does")


def cell(ours: dict, peer: dict, key: str, unit: str) -> str:
    return f"{ours[key] / peer[key]:.2f} ({peer[key]:.3g} {unit})"


def growth(arguments: argparse.Namespace) -> None:
    names = f"{'molecule':12s} {'AOs':>5s} {'warm / s':>9s} {'loop / s':>9s}"
    print(f"{names} {'memory / MB':>12s} {'recomputed':>11s}")
    rows = []
    for molecule in GROWTH:
        stored, lean = (
            measure("dqc", f"{molecule}/def2-svp", ao, arguments) for ao in ("stored", "recomputed")
        )
        row = (stored["orbitals"], stored["warm"], stored["loop"], stored["memory"], lean["memory"])
        rows.append(row)
        print("{:12s} {:5d} {:9.2f} {:9.2f} {:12.0f} {:11.0f}".format(molecule, *row), flush=True)
    slopes = [slope([(math.log(r[0]), math.log(r[k])) for r in rows]) for k in range(1, 5)]
    print("{:18s} {:9.2f} {:9.2f} {:12.2f} {:11.2f}".format("exponent in AOs", *slopes))


def slope(points: list[tuple[float, float]]) -> float:
    x, y = zip(*points, strict=True)
    return statistics.linear_regression(x, y).slope


def measure(program: str, case: str, ao: str, arguments: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--worker", program, case, ao, str(arguments.repeats)]
    command += ["--threads", str(arguments.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    if program == "dqc":  # the first run fills the compilation cache
        subprocess.run(command, env=environment, check=True, capture_output=True)
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    result = json.loads(output.splitlines()[-1])
    molecule, basis = case.split("/")
    path = EXAMPLES / f"{molecule}.xyz"
    if program == "pyscf":
        cold = [sys.executable, "-c", PYSCF_COLD, str(path), basis]
    else:
        cold = [sys.executable, "-m", "dqc", "energy", str(path), "--xc", "pbe", "--basis", basis, "--ao", ao]
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        with tempfile.TemporaryFile() as sink:
            subprocess.run(cold, env=environment, check=True, stdout=sink, stderr=sink)
        seconds.append(time.perf_counter() - start)
    return result | {"cold": statistics.median(seconds)}


def run_dqc(molecule: str, basis: str, ao: str, repeats: int, threads: int) -> dict:
    import jax

    import dqc
    import dqc.cache
    from dqc.integrals import libcint  # noqa: F401
    from dqc.scf import scf
    from dqc.system import build

    dqc.cache.enable()
    xc = dqc.functional("pbe")
    baseline, times, loops = resident(), [], []
    system = solution = None
    for _ in range(repeats + 1):
        system = solution = None
        start = time.perf_counter()
        mol = dqc.Molecule.from_xyz(EXAMPLES / f"{molecule}.xyz")
        system = jax.block_until_ready(build(mol, basis=basis, xc=xc, ao=ao))
        middle = time.perf_counter()
        solution = jax.block_until_ready(scf(system, xc))
        times.append(time.perf_counter() - start)
        loops.append(time.perf_counter() - middle)
    assert system is not None
    assert solution is not None
    assert bool(solution.converged)
    orbitals = system.overlap.shape[0]
    return report(times, loops, baseline, float(solution.energy), int(solution.iterations), orbitals)


def run_pyscf(molecule: str, basis: str, ao: str, repeats: int, threads: int) -> dict:
    from pyscf import dft, gto, lib
    from pyscf.df import df  # noqa: F401

    lib.num_threads(threads)
    baseline, times, loops = resident(), [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        mol = gto.M(atom=str(EXAMPLES / f"{molecule}.xyz"), basis=basis, verbose=0)
        mf = dft.RKS(mol, xc="pbe").density_fit()
        mf.grids.build(with_non0tab=True)
        mf.with_df.build()
        middle = time.perf_counter()
        mf.kernel()
        times.append(time.perf_counter() - start)
        loops.append(time.perf_counter() - middle)
    assert mf.converged
    return report(times, loops, baseline, mf.e_tot, mf.cycles, mol.nao)


WORKERS = {"dqc": run_dqc, "pyscf": run_pyscf}


def report(times: list, loops: list, baseline: float, energy: float, iterations: int, orbitals: int) -> dict:
    return {
        "first": times[0],
        "warm": statistics.median(times[1:]),
        "loop": statistics.median(loops[1:]),
        "memory": peak() - baseline,
        "energy": energy,
        "iterations": iterations,
        "orbitals": orbitals,
    }


if __name__ == "__main__":
    main()
