"""Energy, forces and one training step of PySCFAD, PySCF differentiated by JAX.

    ENV/bin/python benchmarks/peers/pyscfad_step.py examples/water.xyz --task step

Run by a Python of its own, since its JAX is another one:

    python3.11 -m venv ENV
    ENV/bin/pip install pyscfad==0.3.4

Nothing is patched. Its released functionals are libxc's, which have no parameters (those that do need the
unpublished ``autoxc``). So the step is dE/dtheta with E_xc = theta * PBE, theta entering where the
functional is evaluated: ``eval_xc`` of a derived ``NumInt``. ``density_fit()`` makes a class that does not
trace such a parameter; ``ScaledRKS`` calls the same fitted integrals itself.

Forces and step are reverse mode. PySCFAD's faster and leaner options are on: its own integral code, and the
implicit function theorem in place of the iterations (``--unrolled``, its default, turns the latter off).
The grid does not move with the atoms. Convergence is PySCFAD's default.
"""

from __future__ import annotations

import argparse
from typing import Any

import harness


def prepare(arguments: argparse.Namespace) -> harness.Peer:
    import jax
    from pyscfad import config, dft, gto

    scaled_rks = derive()
    config.update("pyscfad_moleintor_opt", True)
    config.update("pyscfad_scf_implicit_diff", not arguments.unrolled)
    atoms = list(zip(*harness.read_xyz(arguments.molecule), strict=True))

    def energy(mol: Any, theta: Any) -> Any:
        if arguments.task == "step":
            mf = scaled_rks(mol, theta)
        else:
            mf = dft.RKS(mol, xc="pbe").density_fit(auxbasis=harness.AUXILIARY)
        value = mf.kernel()
        if not mf.converged:
            raise ValueError("the self-consistent field did not converge")
        return value

    def compute() -> tuple[float, float | list | None]:
        mol = gto.Mole(atom=atoms, unit="bohr", basis=harness.BASIS, verbose=0)
        mol.build(trace_exp=False, trace_ctr_coeff=False)
        if arguments.task == "energy":
            return float(energy(mol, 1.0)), None
        if arguments.task == "step":
            value, gradient = jax.value_and_grad(energy, argnums=1)(mol, 1.0)
            return float(value), float(gradient)
        value, gradient = jax.value_and_grad(energy)(mol, 1.0)
        return float(value), gradient.coords.tolist()

    settings = {
        "density fitting": harness.AUXILIARY,
        "grid": "level 3",
        "differentiation": "unrolled" if arguments.unrolled else "implicit",
    }
    return harness.Peer(compute, settings, ("pyscfad", "pyscfadlib", "pyscf", "jax", "numpy"))


def derive() -> type:
    """A restricted Kohn-Sham class with PBE times ``theta``."""
    from pyscfad import df, dft
    from pyscfad.dft.numint import NumInt

    class ScaledNumInt(NumInt):
        def __init__(self, theta: Any) -> None:
            super().__init__()
            self.theta = theta

        def eval_xc(self, *args: Any, **options: Any) -> tuple:
            energy, potentials, *rest = super().eval_xc(*args, **options)
            scaled = tuple(None if v is None else self.theta * v for v in potentials)
            return self.theta * energy, scaled, *rest

    class ScaledRKS(dft.RKS):
        _dynamic_attr = ("theta", "with_df")

        def __init__(self, mol: Any, theta: Any) -> None:
            with_df = df.DF(mol, auxbasis=harness.AUXILIARY)
            super().__init__(mol, xc="pbe", theta=theta, with_df=with_df, direct_scf=False)

        def get_veff(self, *args: Any, **options: Any) -> Any:
            plain, self._numint = self._numint, ScaledNumInt(self.theta)
            try:
                return super().get_veff(*args, **options)
            finally:
                self._numint = plain  # a traced theta must not outlive the call

        def get_jk(self, mol=None, dm=None, hermi=1, with_j=True, with_k=True, omega=None) -> Any:
            return self.with_df.get_jk(dm, hermi, with_j, with_k)

    return ScaledRKS


if __name__ == "__main__":
    harness.main("PySCFAD", prepare, __doc__)
