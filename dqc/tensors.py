"""Files of arrays with a header that says what they are, in the safetensors format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dqc.paths import existing, replacing


def write(
    path: str | Path, what: str, version: str, arrays: Mapping[str, Any], header: Mapping[str, str]
) -> None:
    """Write arrays by name, and texts, as a file that holds a ``what``; it is replaced in one step."""
    held = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    with replacing(path) as partial:
        save_file(held, partial, metadata={"format": f"dqc {what}", "version": version, **header})


@contextmanager
def opened(
    path: str | Path, what: str, version: str, advice: str = ""
) -> Iterator[tuple[dict[str, str], Any]]:
    """The header and the arrays (``file.keys()``, ``file.get_tensor(name)``) of a file that holds a ``what``.

    Raises FileNotFoundError with the nearest names, and ValueError, with an ``advice``, for a file that is
    damaged, holds something else, or is of another version.
    """
    try:
        with safe_open(existing(path), framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != f"dqc {what}":
                raise ValueError(f"{path} holds no {what}{advice}")
            if header.get("version") != version:
                found = header.get("version")
                raise ValueError(f"{path} is of version {found}, and version {version} is read{advice}")
            yield header, file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no {what} at all ({error}){advice}") from None
