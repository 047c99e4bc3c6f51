"""What the scripts here share: arguments, limits, clock, memory. Needs nothing beyond the standard library.

A script calls ``main(program, prepare)``. The process it starts as waits for a second one, which obeys the
limits and does the work, so that a crash in compiled code is reported like any other failure. One line of
JSON is printed:

    program, task, molecule, threads
    energy       hartree
    gradient     step: dE/dtheta; forces: dE/dR, hartree/bohr, one row per atom; energy: null;
                 density (this library alone): of a loss on the density, by theta
    first        seconds of the first call, compilation included
    seconds      of each later call, with the molecule, integrals and grid built anew each time; fewer than
                 asked for, or none, where the time limit is near
    memory       the peak beyond what the process held after its imports, MB
    settings     density fitting, grid, how the self-consistent field is differentiated
    versions     of the packages
    failed       instead of all from ``energy`` on: a sentence
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BOHR = 0.529177210544  # ångström, CODATA 2022
BASIS, AUXILIARY = "def2-svp", "def2-universal-jfit"
TASKS = "step", "forces", "energy"
OUT_OF_MEMORY = "bad_alloc", "can't allocate memory", "RESOURCE_EXHAUSTED", "Out of memory", "MemoryError"


class Peer(NamedTuple):
    """``compute()`` returns the energy and, where the task has one, the gradient, as Python numbers."""

    compute: Callable[[], tuple[float, float | list | None]]
    settings: dict
    packages: tuple[str, ...]


def main(
    program: str, prepare: Callable[..., Peer], description: str, tasks: tuple[str, ...] = TASKS
) -> None:
    """``prepare(arguments)`` imports the peer and returns what is to be timed."""
    arguments = parse(description, tasks)
    case = {"program": program, "task": arguments.task, "molecule": arguments.molecule.stem}
    case["threads"] = arguments.threads
    if not arguments.worker:
        print(json.dumps(case | supervise(arguments)))
        return
    hold_to_cores(arguments.threads)
    limit = int(arguments.memory_limit * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        result = measure(prepare(arguments), arguments)
    except Exception as error:
        result = {"failed": sentence(f"{type(error).__name__}: {error}", arguments)}
    print(json.dumps(result))


def parse(description: str, tasks: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("molecule", type=Path, help="an xyz file: neutral, closed shell")
    parser.add_argument("--task", choices=tasks, required=True)
    parser.add_argument("--repeat", type=int, default=3, help="calls after the first")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory-limit", type=float, default=12, help="address space, GB")
    parser.add_argument("--time-limit", type=float, default=150, help="whole process, seconds")
    parser.add_argument("--unrolled", action="store_true", help="pyscfad: differentiate the iterations")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def supervise(arguments: argparse.Namespace) -> dict:
    """The result of the same command in a process of its own, or why there is none."""
    command = [sys.executable, *sys.argv, "--worker"]
    try:
        done = subprocess.run(
            command,
            env=os.environ | thread_settings(arguments.threads),
            capture_output=True,
            text=True,
            timeout=arguments.time_limit,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"The run took longer than {arguments.time_limit:g} s."}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    cause = f"exit code {done.returncode}"
    if done.returncode < 0:
        cause = signal.Signals(-done.returncode).name
    return {"failed": sentence(f"the process ended with {cause}: {done.stderr[-2000:]}", arguments)}


def sentence(text: str, arguments: argparse.Namespace) -> str:
    if any(sign in text for sign in OUT_OF_MEMORY):
        return f"The run needed more than {arguments.memory_limit:g} GB of memory."
    return f"The run stopped, {' '.join(text.split())[:300]}"


def measure(peer: Peer, arguments: argparse.Namespace) -> dict:
    baseline, seconds = resident(), []
    born = time.perf_counter()
    energy = gradient = None
    for _ in range(arguments.repeat + 1):
        if seconds and time.perf_counter() - born + 1.3 * seconds[-1] > 0.9 * arguments.time_limit:
            break  # fewer calls are better than none
        gc.collect()
        start = time.perf_counter()
        energy, gradient = peer.compute()
        seconds.append(time.perf_counter() - start)
    return {
        "energy": energy,
        "gradient": gradient,
        "first": seconds[0],
        "seconds": seconds[1:],
        "memory": peak() - baseline,
        "settings": {"functional": "PBE", "basis": BASIS, **peer.settings},
        "versions": {name: importlib.metadata.version(name) for name in peer.packages},
    }


def read_xyz(path: Path) -> tuple[list[str], list[list[float]]]:
    """Symbols, and positions in bohr."""
    count, comment, *lines = path.read_text().splitlines()
    fields = dict(word.split("=", 1) for word in comment.split() if "=" in word)
    if any(int(fields.get(name, 0)) for name in ("charge", "spin")):
        raise ValueError(
            f"{path} is charged or has an open shell; the comparison is of neutral closed shells"
        )
    rows = [line.split() for line in lines[: int(count)]]
    return [row[0] for row in rows], [[float(x) / BOHR for x in row[1:4]] for row in rows]


def thread_settings(threads: int) -> dict[str, str]:
    """The environment that the numerical libraries read."""
    return {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}


def hold_to_cores(number: int) -> None:
    """XLA asks only this: on how many cores the process may run."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def resident() -> float:
    """The process's memory now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak() -> float:
    """The most it has held so far, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
