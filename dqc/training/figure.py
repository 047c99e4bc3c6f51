"""Pictures of a training: the way of loss and errors, and the errors of reactions before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dqc import pictures
from dqc.training.evaluate import Evaluation
from dqc.training.objective import mean_absolute
from dqc.training.result import Trained

BEFORE, AFTER, HELD_OUT = "0.65", "C0", "C1"


def progress(trained: Trained, axes: Any | None = None) -> Any:
    """The mean absolute error of every epoch, on the data that was trained on and on what was held out."""
    axes = pictures.pyplot().subplots(figsize=(6, 3.6), layout="constrained")[1] if axes is None else axes
    history = trained.history
    epochs = np.arange(1, len(history) + 1)
    axes.plot(epochs, [mean_absolute(np.array(h["error"])) for h in history], color=AFTER, label="trained on")
    held = [
        (k, mean_absolute(np.array(h["validation"]["error"])))
        for k, h in zip(epochs, history, strict=True)
        if "validation" in h
    ]
    if held:
        axes.plot(*zip(*held, strict=True), color=HELD_OUT, label="held out")
    for k in range(1, len(history)):
        if history[k]["stage"] != history[k - 1]["stage"]:
            axes.axvline(k + 0.5, color="0.8", lw=1)
    starts = [k for k in range(len(history)) if k == 0 or history[k]["stage"] != history[k - 1]["stage"]]
    for k in starts:
        axes.text(
            k + 1, 1.01, history[k]["kind"], transform=axes.get_xaxis_transform(), fontsize=8, color="0.4"
        )
    axes.set(xlabel="epoch", ylabel="mean absolute error, kcal/mol", ylim=(0, None))
    axes.legend(frameon=False)
    return axes


def errors(trained: Trained, axes: Any | None = None) -> Any:
    """The errors of every reaction against its value, before and after; an ensemble's with its spread."""
    axes = pictures.pyplot().subplots(figsize=(6, 3.6), layout="constrained")[1] if axes is None else axes
    axes.axhline(0, color="0.8", lw=1)
    for part, error in trained.errors.items():
        colour = AFTER if part == "train" else HELD_OUT
        marker = {"train": "o", "validation": "s", "test": "D"}[part]
        before, after = error.before.mean(0), error.after.mean(0)
        axes.scatter(error.values, before, marker=marker, s=22, facecolors="none", edgecolors=BEFORE)
        axes.errorbar(
            error.values,
            after,
            yerr=error.after.std(0) if len(error.after) > 1 else None,
            fmt=marker,
            ms=4.5,
            color=colour,
            label=f"{part}: {error.mae[0]:.1f} to {error.mae[1]:.1f}",
        )
    axes.set(xlabel="reference, kcal/mol", ylabel="error, kcal/mol")
    axes.legend(frameon=False, title="mean absolute error", fontsize=9)
    return axes


def draw(trained: Trained, path: str | Path) -> None:
    """Both pictures in one file."""
    figure = pictures.figure(11.0, 4.0)
    left, right = figure.subplots(1, 2)
    progress(trained, left)
    errors(trained, right)
    pictures.save(figure, path)


def draw_evaluations(results: Mapping[str, Evaluation], path: str | Path) -> None:
    """The errors of each functional, one dot a reaction, with their mean absolute error."""
    figure = pictures.figure(7.0, 0.8 + 0.55 * len(results))
    axes = figure.subplots()
    axes.axvline(0, color="0.8", lw=1)
    for row, result in enumerate(results.values()):
        axes.plot(result.errors, np.full(len(result.errors), row), "o", ms=5, alpha=0.5, mew=0, color=AFTER)
        axes.plot([result.mean], [row], "|", ms=18, mew=2, color=HELD_OUT)
    labels = [f"{name}\nMAE {result.mae:.1f}" for name, result in results.items()]
    axes.set_yticks(range(len(results)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="error, kcal/mol (bar: their mean)")
    pictures.save(figure, path)
