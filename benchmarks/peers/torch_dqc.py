"""Energy, forces and one training step of DQC, the differentiable quantum chemistry library in PyTorch.

    ENV/bin/python benchmarks/peers/torch_dqc.py examples/water.xyz --task step

Run by a Python 3.11 of DQC's own; the last wheels of DQC are for Python 3.9, but hold only Python code and C
libraries loaded by ctypes, so they are put into place as they are:

    python3.11 -m venv ENV
    ENV/bin/pip install torch==2.13.0 xitorch==0.5.1 basis-set-exchange==0.12 h5py
    ENV/bin/pip install --no-deps --only-binary=:all: --python-version 3.9 \
        --target "$(ENV/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
        dqc==0.1.0 dqclibs==0.1.1 pylibxc2==6.0.0

Nothing is patched. The step is dE/dtheta with E_xc = theta * PBE, written as DQC's documentation does, a
functional times a tensor. Forces and step are DQC's own reverse mode, through the adjoint equation of the
self-consistent field; the grid moves with the atoms. Everything else, convergence included, is DQC's default.
"""

from __future__ import annotations

import argparse
import warnings

import harness


def prepare(arguments: argparse.Namespace) -> harness.Peer:
    import torch
    from xitorch._utils.exceptions import ConvergenceWarning

    import dqc
    from dqc.api.getxc import get_xc

    warnings.simplefilter("error", ConvergenceWarning)
    symbols, places = harness.read_xyz(arguments.molecule)

    def compute() -> tuple[float, float | list | None]:
        positions = torch.tensor(places, dtype=torch.double, requires_grad=arguments.task == "forces")
        mol = dqc.Mol((symbols, positions), basis=harness.BASIS, grid=3)
        mol.densityfit(method="coulomb", auxbasis=harness.AUXILIARY)
        xc = get_xc("gga_x_pbe") + get_xc("gga_c_pbe")
        theta = torch.tensor(1.0, dtype=torch.double, requires_grad=True)
        if arguments.task == "step":
            xc = xc * theta
        energy = dqc.KS(mol, xc).run().energy()
        gradient = None
        if arguments.task != "energy":
            wanted = theta if arguments.task == "step" else positions
            gradient = torch.autograd.grad(energy, wanted)[0].tolist()
        return energy.item(), gradient

    settings = {
        "density fitting": harness.AUXILIARY,
        "grid": "level 3, PySCF's numbers of points",
        "differentiation": "adjoint equation",
    }
    return harness.Peer(compute, settings, ("dqc", "torch", "xitorch", "pylibxc2", "numpy"))


if __name__ == "__main__":
    harness.main("PyTorch DQC", prepare, __doc__)
