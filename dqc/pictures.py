"""Pictures by Matplotlib, which an extra installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dqc.paths import replacing

_MISSING = "pictures need matplotlib, the extra 'notebooks': pip install dqc-jax[notebooks]"


def pyplot() -> Any:
    """Matplotlib's pyplot, for notebooks; raises ModuleNotFoundError with the extra that installs it."""
    try:
        import matplotlib.pyplot
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_MISSING) from None
    return matplotlib.pyplot


def figure(width: float, height: float) -> Any:
    """A figure for a file, in inches, on no screen; raises likewise."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_MISSING) from None
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Any, path: str | Path) -> None:
    """Write a figure to a file, in one step."""
    with replacing(path) as partial:
        made.savefig(partial, dpi=150, format=Path(path).suffix.removeprefix(".") or "png")
