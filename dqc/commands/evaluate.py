"""``dqc evaluate``: errors of a functional on a data set, beside those of the literature."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import dqc.cache
from dqc import data
from dqc.cli import STATUS_FAILED
from dqc.commands.options import check_writable, write_text
from dqc.data.journal import Journal
from dqc.training import figure
from dqc.training.evaluate import Evaluation, evaluate
from dqc.xc.files import functional
from dqc.xc.functional import Functional


def run(arguments: argparse.Namespace) -> int:
    """Compute, print and write what was asked for; returns the exit status."""
    dqc.cache.enable()
    check_writable(arguments.json, arguments.figure)
    reactions = data.read(arguments.data)
    options = {name: getattr(arguments, name) for name in ("basis", "grid", "two_electron", "growth")}
    journal = Journal(Path(arguments.journal)) if arguments.journal else None
    asked = _asked(arguments)
    counts = f"{len(reactions.reactions)} reactions of {len(reactions.molecules)} molecules"
    print(f"{reactions.name}: {counts}, {arguments.basis}, grid {arguments.grid}", flush=True)
    print(f"\n{'kcal/mol':<24}{'MAE':>8}{'RMSE':>8}{'mean':>8}{'largest':>9}  reaction", flush=True)
    results = {}
    for name, xc in asked.items():
        bar = lambda items, name=name: tqdm(items, desc=name, leave=False, disable=None)  # noqa: E731
        results[name] = evaluate(xc, reactions, journal=journal, progress=bar, **options)
        print(_row(name, results[name]), flush=True)
    if arguments.all:
        print(_reactions(results))
    for name, result in results.items():
        if result.failed:
            print(f"\n{name}: not converged, and left out: {', '.join(result.failed)}")
    if arguments.json:
        write_text(Path(arguments.json), json.dumps(_record(results, options), indent=1) + "\n")
    if arguments.figure:
        figure.draw_evaluations(results, arguments.figure)
    return STATUS_FAILED if any(result.failed for result in results.values()) else 0


def _asked(arguments: argparse.Namespace) -> dict[str, Functional | list[Functional]]:
    given = {name: functional(name) for name in arguments.xc}
    labels = {
        name: Path(name).parent.name or name if name.endswith(".safetensors") else name for name in given
    }
    if arguments.ensemble:
        asked: dict[str, Any] = {f"ensemble of {len(given)}": list(given.values())}
    else:
        unique = len(set(labels.values())) == len(labels)
        asked = {labels[name] if unique else name: xc for name, xc in given.items()}
    return asked | {name: functional(name) for name in arguments.beside if name not in asked}


def _row(name: str, result: Evaluation) -> str:
    worst, error = result.worst
    numbers = f"{result.mae:>8.2f}{result.rmse:>8.2f}{result.mean:>8.2f}{error:>9.2f}"
    spread = f"  spread {np.nanmean(result.spread):.2f}" if len(result.each) > 1 else ""
    return f"{name:<24}{numbers}  {worst}{spread}"


def _reactions(results: dict[str, Evaluation]) -> str:
    first = next(iter(results.values()))
    width = max(10, *(len(name) + 2 for name in results))
    lines = ["", f"{'reaction':<24}{'reference':>10}" + "".join(f"{name:>{width}}" for name in results)]
    for row, reaction in enumerate(first.names):
        errors = "".join(f"{result.errors[row]:>{width}.2f}" for result in results.values())
        lines.append(f"{reaction:<24}{first.values[row]:>10.2f}{errors}")
    return "\n".join(lines)


def _record(results: dict[str, Evaluation], options: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(results.values()))
    return {
        "program": f"dqc {dqc.__version__}",
        "units": "kcal/mol",
        "systems": options,
        "reactions": list(first.names),
        "reference": first.values.tolist(),
        "functionals": {
            name: {
                "mae": r.mae,
                "rmse": r.rmse,
                "mean": r.mean,
                "largest": r.worst,
                "failed": r.failed,
                "errors": [x if np.isfinite(x) else None for x in r.errors.tolist()],
                "spread": [x if np.isfinite(x) else None for x in r.spread.tolist()],
            }
            for name, r in results.items()
        },
    }
