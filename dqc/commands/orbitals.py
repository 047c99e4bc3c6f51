"""``dqc orbitals``: a network becomes the orbitals of a molecule; checkpoints, and a picture of how."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import dqc.cache
from dqc import checkpoint, pictures
from dqc.cli import STATUS_FAILED
from dqc.commands.options import check_writable, write_text
from dqc.molecule import Molecule
from dqc.orbitals.neural import Neural
from dqc.orbitals.solution import NeuralSolution
from dqc.orbitals.training import State, descend, finish, prepare
from dqc.solution import History
from dqc.types import replace
from dqc.variational import TOLERANCE
from dqc.xc.files import functional

OTHERWISE = "give the same options, another --checkpoint, or start anew without --resume"


def run(arguments: argparse.Namespace) -> int:
    """Minimise, print, and write; returns the exit status."""
    dqc.cache.enable()
    stem = Path(arguments.molecule).stem
    kept = Path(arguments.checkpoint or f"{stem}_orbitals.safetensors")
    figure = Path(arguments.figure or f"{stem}_orbitals.png")
    check_writable(str(kept), str(figure), arguments.json)
    molecule = Molecule.from_xyz(arguments.molecule, arguments.charge, arguments.spin)
    network = Neural(tuple(arguments.shells), tuple(arguments.hidden))
    header = _header(molecule, network, arguments)
    at = checkpoint.progress_of(kept, header, OTHERWISE) if arguments.resume else {}
    print(
        f"{molecule.formula}, {arguments.xc}, neural orbitals, charge {molecule.charge}, spin {molecule.spin}"
    )
    problem, state = prepare(
        molecule, functional(arguments.xc), network, arguments.grid, arguments.seed,
        unrestricted=arguments.unrestricted,
    )  # fmt: skip
    if at:
        blank = jnp.zeros(at["step"] + 1)  # as long as the history has become
        state = checkpoint.read(kept, replace(state, history=History(blank, blank)))
    began = time.perf_counter()
    done = int(state.step)
    states = descend(problem, state, arguments.steps, arguments.tolerance or TOLERANCE)
    for state in _shown(states, arguments.steps, done):
        checkpoint.write(kept, state, header, {"step": int(state.step)})
    solution = finish(problem, state)
    seconds = time.perf_counter() - began
    print(_table(solution, seconds))
    if arguments.json:
        write_text(Path(arguments.json), json.dumps(_record(header, solution, seconds), indent=2) + "\n")
    try:
        _draw(figure, f"{molecule.formula}, {arguments.xc}", solution)
        drawn = f"the picture in {figure}"
    except ModuleNotFoundError as error:
        drawn = f"no picture: {error}"
    print(f"{solution.message} The network is in {kept}, {drawn}.")
    return 0 if bool(solution.converged) else STATUS_FAILED


def _shown(states: Iterable[State], steps: int, done: int) -> Iterator[State]:
    """The states, behind a progress bar."""
    with tqdm(total=steps, initial=done, unit="step") as bar:
        for state in states:
            yield state
            bar.set_postfix_str(f"{float(state.energy):.7f} Ha, gradient {state.history.residual[-1]:.0e}")
            bar.update(int(state.step) - bar.n)


def _header(molecule: Molecule, network: Neural, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    return {
        "symbols": list(molecule.symbols),
        "coords_bohr": molecule.coords.tolist(),
        "charge": molecule.charge,
        "spin": molecule.spin,
        "unrestricted": arguments.unrestricted,
        "xc": arguments.xc,
        "grid": arguments.grid,
        "seed": arguments.seed,
        "network": json.loads(json.dumps(network._asdict())),
    }


def _record(header: dict[str, Any], solution: NeuralSolution, seconds: float) -> dict[str, Any]:
    terms = dataclasses.asdict(solution.energies)
    return header | {
        "program": f"dqc {dqc.__version__}",
        "units": "hartree",
        "converged": bool(solution.converged),
        "steps": int(solution.iterations),
        "energy": float(solution.energy),
        "energy_error": float(solution.energy_error),
        "energies": {name: float(value) for name, value in terms.items()},
        "mo_energy": np.asarray(solution.mo_energy).tolist(),
        "history": np.asarray(solution.history.energy).tolist(),
        "seconds": seconds,
    }


def _table(solution: NeuralSolution, seconds: float) -> str:
    terms = dataclasses.asdict(solution.energies)
    rows = [(name.replace("_", " "), f"{float(value):.8f} Ha") for name, value in terms.items()]
    rows.append(("total energy", f"{float(solution.energy):.8f} Ha"))
    rows.append(("energy error", f"{float(solution.energy_error):.1e} Ha (quadrature, Poisson solver)"))
    levels = [
        np.asarray(e)[np.asarray(f) > 0]
        for e, f in zip(solution.mo_energy, solution.occupations, strict=True)
    ]
    for e, name in zip(
        levels, ("levels",) if len(levels) == 1 else ("levels, alpha", "levels, beta"), strict=True
    ):
        rows.append((name, " ".join(f"{x:.5f}" for x in np.sort(e)) + " Ha"))
    rows.append(("time", f"{seconds:.0f} s"))
    return "\n".join(f"{name:<20} {value}" for name, value in rows)


def _draw(path: Path, title: str, solution: NeuralSolution) -> None:
    """The energy above its last value and the gradient, step by step."""
    energy, residual = np.asarray(solution.history.energy), np.asarray(solution.history.residual)
    figure = pictures.figure(6.0, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(energy, "o-", label="on the grids of the minimisation")
    spread = 1e3 * float(solution.energy_error)
    top.axhline(float(solution.energy), color="k", lw=0.8, label=f"on a finer grid, +- {spread:.1g} mHa")
    top.set(title=title, ylabel="energy / Ha")
    top.legend()
    bottom.semilogy(residual, "o-")
    bottom.set(xlabel="step", ylabel="norm of the gradient")
    pictures.save(figure, path)
