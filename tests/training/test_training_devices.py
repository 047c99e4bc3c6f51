"""Molecules spread over devices, of one process and of two, give what one device gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import bent, flat, hydrogen, trained

from dqc.data import Labels
from dqc.training import Loss, Stage

# Of three molecules of one shape the last goes to a second round, beside its repetition.
LABELS = {"H2": Labels(ionisation=0.5), "H2 near": Labels(ionisation=0.6)}
STAGES = (Stage("post-scf", 2, 0.02), Stage("in-scf", 2, 0.02, batch=2))


def results(labels: bool, directory: Path | None = None) -> dict[str, np.ndarray]:
    data, loss = (hydrogen(labels=LABELS), Loss(ionisation=0.3)) if labels else (hydrogen(), Loss())
    found = trained([bent(0), bent(1)], data, STAGES, loss, directory=directory)
    return {
        "parameters": np.stack([flat(xc) for xc in found.functionals]),
        "fisher": flat(found.fisher),  # squares of the derivatives of energies
        "errors": found.errors["train"].after,
        "losses": np.array([record["loss"] for record in found.history]),
    }


SCRIPT = """
import sys
import jax
port, number, out = sys.argv[1:]
if int(port):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(number))
import dqc.cache
dqc.cache.enable()
import numpy as np
from pathlib import Path
from test_training_devices import results
assert jax.device_count() == 2
np.savez(f"{out}/{number}.npz", **results(bool(int(port)), Path(out, "training")))
"""


def start(out: Path, port: int, number: int, flags: str) -> Any:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", SCRIPT, str(port), str(number), str(out)]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_devices_change_round_off_alone(tmp_path: Path, processes: int) -> None:
    port = 0
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={2 // processes}"
    started = [start(tmp_path, port, number, flags) for number in range(processes)]
    try:
        for process in started:
            assert process.wait(timeout=900) == 0, process.stderr.read()
    finally:
        for process in started:
            process.kill()
    expected = results(processes > 1)  # one process without them: half of what is to be compiled
    for number in range(processes):
        found = np.load(tmp_path / f"{number}.npz")
        np.testing.assert_allclose(found["parameters"], expected["parameters"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["errors"], expected["errors"], rtol=0, atol=1e-7)
        np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-9)
        np.testing.assert_allclose(found["fisher"], expected["fisher"], rtol=1e-6, atol=1e-9)
    written = sorted(path.name for path in (tmp_path / "training").iterdir())
    assert written == [
        "checkpoint.safetensors", "fisher.safetensors", "functional-1.safetensors", "functional.safetensors",
        "history.jsonl",
    ]  # fmt: skip
    assert len((tmp_path / "training" / "history.jsonl").read_text().splitlines()) == 4  # of one process
