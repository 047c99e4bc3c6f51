"""Where compiled programs are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dqc import cache


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DQC_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    default = cache.folder()
    assert default is not None
    assert default.parent == tmp_path / "xdg" / "dqc"
    monkeypatch.setenv("DQC_CACHE", str(tmp_path / "elsewhere"))
    moved = cache.folder()
    assert moved is not None
    assert moved.parent == tmp_path / "elsewhere"


@pytest.mark.parametrize("word", ["off", "OFF", "0", "", "no"])
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("DQC_CACHE", word)
    assert cache.folder() is None
    assert cache.enable() is None


def test_a_second_process_finds_the_first_ones_program(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.environ['DQC_CACHE'] = sys.argv[1]\n"
        "import dqc.cache; folder = dqc.cache.enable(min_compile_seconds=0)\n"
        "import jax, jax.numpy as jnp\n"
        "hits = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))\n"
        "jax.jit(lambda x: jnp.sin(x) + 0.25)(jnp.ones(3))\n"
        "print(hits.count('/jax/compilation_cache/cache_hits'), len(list(folder.iterdir())))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
        )
        for _ in range(2)
    ]
    (first, kept), (second, _) = (run.stdout.split() for run in runs)
    assert int(first) == 0
    assert int(kept) > 0
    assert int(second) > 0
