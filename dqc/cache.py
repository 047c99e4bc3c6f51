"""The persistent compilation cache: a compiled program is kept on disk and reused by later processes."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

_OFF = {"", "0", "off", "no", "false"}


def folder() -> Path | None:
    """Where compiled programs are kept, or None where ``DQC_CACHE`` says ``off``.

    ``DQC_CACHE`` names another folder; without it, ``$XDG_CACHE_HOME/dqc`` or ``~/.cache/dqc``.
    """
    chosen = os.environ.get("DQC_CACHE")
    if chosen is not None and chosen.strip().lower() in _OFF:
        return None
    if chosen is not None:
        root = Path(chosen).expanduser()
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dqc"
    return root / f"xla-{_processor()}"


def enable(min_compile_seconds: float = 0.1) -> Path | None:
    """Switch the cache on for this process (call before the first compilation); returns its folder."""
    path = folder()
    if path is None:
        return None
    import jax

    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_compile_seconds)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def _processor() -> str:
    """A name for this kind of processor: a program compiled for one may use instructions another lacks."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
