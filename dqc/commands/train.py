"""``dqc train``: a training described by a TOML file, from its data to a functional and pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import dqc.cache
from dqc.training import config, figure
from dqc.training.anchor import FUNCTIONAL
from dqc.training.result import Trained
from dqc.training.run import train


def run(arguments: argparse.Namespace) -> int:
    """Train, write, and print the errors; returns the exit status."""
    dqc.cache.enable()
    began = time.monotonic()
    chosen = config.read(arguments.config)
    directory = Path(arguments.directory) if arguments.directory else chosen.directory
    print(_title(chosen), flush=True)
    trained = train(
        chosen.members,
        chosen.parts["train"],
        chosen.stages,
        chosen.loss,
        validation=chosen.parts.get("validation"),
        test=chosen.parts.get("test"),
        directory=directory,
        restart=arguments.restart,
        seed=chosen.seed,
        scf=chosen.scf,
        **chosen.system,
    )
    print(table(trained))
    print(f"\nfunctional  {directory / FUNCTIONAL}")
    try:
        figure.draw(trained, directory / "training.png")
        print(f"picture     {directory / 'training.png'}")
    except ModuleNotFoundError as error:
        print(f"no picture: {error}")
    print(f"time        {time.monotonic() - began:.0f} s")
    return 0


def _title(chosen: config.Config) -> str:
    counts = ", ".join(f"{len(part.reactions)} for {name}" for name, part in chosen.parts.items())
    molecules = {name for part in chosen.parts.values() for name in part.molecules}
    stages = ", ".join(f"{stage.epochs} epochs {stage.kind}" for stage in chosen.stages)
    return f"{len(molecules)} molecules; reactions: {counts}\n{stages}"


def table(trained: Trained) -> str:
    """The energy of every reaction with the trained functional, its error and the error before."""
    lines = []
    spread = len(trained.functionals) > 1
    width = max(20, *(len(name) + 2 for errors in trained.errors.values() for name in errors.names))
    for part, errors in trained.errors.items():
        name = {"train": "trained on", "validation": "held out", "test": "held out, test"}[part]
        head = f"{'energy':>10} {'reference':>10} {'error':>8} {'before':>8}"
        lines += ["", f"{name:<{width}} {head}" + (f" {'spread':>8}" if spread else "")]
        before, after = errors.before.mean(0), errors.after.mean(0)
        for row, reaction in enumerate(errors.names):
            energy = errors.values[row] + after[row]
            numbers = f"{energy:>10.2f} {errors.values[row]:>10.2f} {after[row]:>8.2f} {before[row]:>8.2f}"
            uncertainty = f" {errors.after[:, row].std():>8.2f}" if spread else ""
            lines.append(f"  {reaction:<{width - 2}} {numbers}{uncertainty}")
        mean = f"{'':>10} {'kcal/mol':>10} {errors.mae[1]:>8.2f} {errors.mae[0]:>8.2f}"
        lines.append(f"  {'mean absolute error':<{width - 2}} {mean}")
    pairs = [(n, x) for e in trained.errors.values() for n, x in zip(e.names, e.after.T, strict=True)]
    lost = sorted({name for name, errors in pairs if np.isnan(errors).any()})
    if lost:
        lines += ["", f"not converged in the end: {', '.join(lost)}"]
    if trained.failed:
        counted = ", ".join(f"{name} ({count} epochs)" for name, count in sorted(trained.failed.items()))
        lines += ["", f"not converged, and left out: {counted}"]
    return "\n".join(lines)
