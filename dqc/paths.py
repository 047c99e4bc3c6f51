"""Files: one that must be there, and one written in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dqc.names import nearest


def existing(path: str | Path) -> Path:
    """The path of a file; raises FileNotFoundError, with the nearest names, where there is none."""
    path = Path(path)
    if not path.is_file():
        beside = (entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else ()
        raise FileNotFoundError(f"no file {path}{nearest(path.name, beside)}")
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes its place when the block ends without an error.

    An interruption leaves the old file or the new one.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
