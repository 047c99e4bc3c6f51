"""The command line. This module parses; the work is in ``dqc.commands``, imported when it is needed."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dqc

STATUS_FAILED = 1  # the computation ended without its answer
STATUS_BAD_INPUT = 2  # as argparse's own
STATUS_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; bad input is one sentence on standard error."""
    arguments = parser().parse_args(argv)
    if not arguments.debug:
        warnings.filterwarnings("ignore", module="pyscf")  # its advice beside our sentence confuses
    try:
        status: int = importlib.import_module(f"dqc.commands.{arguments.command}").run(arguments)
        return status
    except (ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        if arguments.debug:
            raise
        print(f"dqc: {_sentence(error)}", file=sys.stderr)
        return STATUS_BAD_INPUT
    except KeyboardInterrupt:
        print("dqc: interrupted", file=sys.stderr)
        return STATUS_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="dqc", description=" ".join((dqc.__doc__ or "").split("\n\n")[:1]))
    top.add_argument("--version", action="version", version=f"dqc {dqc.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, (groups, summary, description) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=" ".join([description, _STATUS]))
        for options in (*groups, _every):
            options(command)
    return top


_STATUS = """Ends with status 0 when it converged, 1 when it did not, 2 on bad input. Compiled programs are
kept in ~/.cache/dqc; the environment variable DQC_CACHE names another folder, or is "off"."""


def _energy(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--forces",
        action="store_true",
        help="also the forces on the nuclei; --conv is then 1e-6 if not given",
    )
    add("--json", metavar="FILE", help="also write the results to this file")
    add("--save", metavar="FILE", help="also write the System (all integrals) to this file")


def _optimize(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--fmax",
        type=_positive,
        default=0.02,
        metavar="F",
        help="done when the force on every atom is below F eV/angstrom (default: %(default)s)",
    )
    add("--steps", type=int, default=100, metavar="N", help="give up after N steps (default: %(default)s)")
    add("--output", metavar="FILE.xyz", help="the last geometry (default: <name>_optimized.xyz, here)")
    add("--trajectory", metavar="FILE.xyz", help="also write every geometry, with energy and forces")


def _frequencies(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", metavar="FILE", help="also write frequencies, modes and the Hessian")


def _check(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("xc", metavar="XC", help="functional by its libxc-style name, or a file")
    add("--json", metavar="FILE", help="also write everything to this file")
    add(
        "--figure", metavar="FILE.png", help="also draw it (needs matplotlib: pip install dqc-jax[notebooks])"
    )


def _train(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("config", metavar="CONFIG.toml", help="functional, data, systems, loss and stages: see the README")
    add("--directory", metavar="DIR", help="checkpoints and results (default: the configuration's)")
    add("--restart", action="store_true", help="begin anew where DIR holds a checkpoint")


def _evaluate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("xc", nargs="+", metavar="XC", help="functionals by their libxc-style names, or files")
    add("data", metavar="DATA", help="a data set: xcref-1 JSON, or extended xyz")
    add(
        "--beside",
        nargs="*",
        default=("pbe", "r2scan", "pbe0", "b3lyp"),
        metavar="XC",
        help="functionals to compare with (default: pbe r2scan pbe0 b3lyp)",
    )
    add("--ensemble", action="store_true", help="the functionals are members of one ensemble")
    add("--basis", default="def2-tzvp", help="basis set by name (default: %(default)s)")
    add("--grid", type=int, default=3, help="grid level, 0 to 9 (default: %(default)s)")
    add("--two-electron", choices=("df", "exact"), default="df", help="as in dqc energy")
    add(
        "--growth",
        type=_positive,
        default=1.6,
        help="molecules up to this factor apart in size share a program (default: %(default)s)",
    )
    add("--all", action="store_true", help="also print the error of every reaction")
    add("--journal", metavar="FILE.jsonl", help="keep every energy there, and go on from there")
    add("--json", metavar="FILE", help="also write the errors to this file")
    add("--figure", metavar="FILE.png", help="also draw them (needs matplotlib)")


def _reference(command: argparse.ArgumentParser) -> None:
    add, switch = command.add_argument, argparse.BooleanOptionalAction
    names: dict[str, Any] = {"nargs": "*", "metavar": "NAME"}
    add("geometries", nargs="+", metavar="FILE", help="xyz files, and data sets (.json) to be labelled")
    add("--out", required=True, metavar="SET.json", help="the data set; results go to SET.jsonl meanwhile")
    add("--basis", nargs="+", default=["cc-pvtz", "cc-pvqz"], help="one basis set, or two to extrapolate")
    add("--method", choices=("ccsd(t)", "ccsd", "fci"), default="ccsd(t)", help="default: %(default)s")
    add("--focal-point", action="store_true", help="only MP2 in the larger basis set")
    add("--unrestricted", action="store_true", help="unrestricted Hartree-Fock for closed shells too")
    add("--frozen-core", action=switch, default=True, help="leave the noble-gas cores uncorrelated")
    add("--atomization", action=switch, default=True, help="atoms, and atomization energies as reactions")
    add("--density", **names, help="also density matrices, of all molecules if none is named")
    add("--ionisation", **names, help="also vertical ionisation energies, of all if none is named")
    add("--resume", action=switch, default=True, help="go on from SET.jsonl if it is there")
    add("--about", action="append", metavar="KEY=TEXT", help="an entry of the file's head (may be repeated)")


def _orbitals(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--xc", default="pbe", help="functional by its libxc-style name, or a file (default: %(default)s)")
    add(
        "--unrestricted",
        action="store_true",
        default=None,
        help="one set of orbitals a spin, also for spin 0",
    )
    add(
        "--steps",
        type=int,
        default=60,
        metavar="N",
        help="give up after N steps in all (default: %(default)s)",
    )
    add(
        "--conv",
        dest="tolerance",
        type=_positive,
        metavar="TOL",
        help="fall of the energy that ends it, hartree",
    )
    add("--grid", type=int, default=2, help="grid level, 1 to 4; the last energy is on a finer one")
    add(
        "--shells",
        type=int,
        nargs="+",
        default=[7, 5, 3, 1],
        metavar="N",
        help="functions on an atom, for each l",
    )
    add("--hidden", type=int, nargs="+", default=[24, 24], metavar="N", help="widths of the network's layers")
    add("--seed", type=int, default=0, help="of the network's first parameters (default: %(default)s)")
    add(
        "--checkpoint",
        metavar="FILE",
        help="written after every step (default: <name>_orbitals.safetensors, here)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint")
    add(
        "--figure", metavar="FILE.png", help="picture of the convergence (default: <name>_orbitals.png, here)"
    )
    add("--json", metavar="FILE", help="also write the results to this file")


def _molecule(command: argparse.ArgumentParser) -> None:
    """What is computed."""
    add = command.add_argument
    add(
        "molecule",
        metavar="FILE.xyz",
        help="geometry in angstrom; its comment line may hold charge= and spin=",
    )
    add("--charge", type=int, help="total charge (default: the file's, or 0)")
    add("--spin", type=int, help="unpaired electrons, 2S (default: the file's, or the lowest possible)")


def _method(command: argparse.ArgumentParser) -> None:
    """Options of ``build``."""
    add = command.add_argument
    add("--xc", default="pbe", help="functional by its libxc-style name, or a file (default: %(default)s)")
    add("--basis", default="def2-svp", help="basis set by name (default: %(default)s)")
    add("--grid", type=int, default=3, help="grid level, 0 to 9 (default: %(default)s)")
    add(
        "--two-electron",
        choices=("df", "exact"),
        default="df",
        help="density fitting, or all four-index integrals",
    )
    add("--auxbasis", help="fitting basis by name (default: the one that belongs to the basis)")
    add("--ao", choices=("auto", "stored", "recomputed"), default="auto", help="orbital values on the grid")


def _field(command: argparse.ArgumentParser) -> None:
    """Options of ``scf``."""
    add = command.add_argument
    add(
        "--unrestricted",
        action="store_true",
        default=None,
        help="one set of orbitals a spin, also for spin 0",
    )
    add("--guess", choices=("sap", "sad", "core"), help="starting density (default: sap)")
    add("--smearing", type=_positive, metavar="HARTREE", help="Fermi smearing k_B T")
    add("--level-shift", type=_positive, metavar="HARTREE", help="raise the empty orbitals while iterating")
    add("--damping", type=_positive, metavar="SHARE", help="share of the old Fock matrix, below 1")
    add("--max-iterations", type=int, metavar="N", help="give up a field after N iterations")
    add("--conv", dest="tolerance", type=_positive, metavar="TOL", help="residual of a converged field")


def _every(command: argparse.ArgumentParser) -> None:
    """What all commands take."""
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")


_Options = Callable[[argparse.ArgumentParser], None]
_COMMANDS: dict[str, tuple[tuple[_Options, ...], str, str]] = {
    "energy": (
        (_molecule, _method, _field, _energy),
        "the Kohn-Sham energy of a molecule",
        "Run a self-consistent field on the molecule of an xyz file and print its energy, term by term.",
    ),
    "optimize": (
        (_molecule, _method, _field, _optimize),
        "the nearest minimum of the energy",
        """Move the nuclei to a minimum of the energy by BFGS, through ASE (pip install dqc-jax[ase]). The
        geometry is written after every step, so that nothing is lost when it is stopped.""",
    ),
    "frequencies": (
        (_molecule, _method, _field, _frequencies),
        "harmonic frequencies and infrared intensities",
        """Harmonic frequencies and infrared intensities by differences of analytic forces, at the geometry
        given, which dqc optimize should have found with the same method.""",
    ),
    "train": (
        (_train,),
        "train a functional on a data set",
        """Train a neural functional, in the self-consistent field or on fixed densities, as a TOML file says.
        A training that was stopped goes on from its last checkpoint when the command is given again.""",
    ),
    "evaluate": (
        (_evaluate,),
        "errors of functionals on a data set",
        """Mean absolute, root-mean-square, mean and largest errors of self-consistent reaction energies, of
        functionals given and of some from the literature beside them.""",
    ),
    "orbitals": (
        (_molecule, _orbitals),
        "the Kohn-Sham energy without a basis set, by neural orbitals",
        """A network that is the molecular orbitals is trained by the variational principle, without a basis
        set. Each step is kept in a checkpoint; --resume goes on from there.""",
    ),
    "check": (
        (_check,),
        "which exact conditions a functional satisfies",
        """Test a functional, trained or from the literature, against exact conditions: pointwise ones over
        the box of r_s, s, zeta and alpha; self-interaction, fractional charges and spins in hydrogen.""",
    ),
    "reference": (
        (_reference,),
        "labels of molecules by coupled cluster, for training",
        """Energies, atomization energies, dipole moments, and where asked for ionisation energies and density
        matrices of molecules, by PySCF's CCSD(T), CCSD or full CI. It may be interrupted at any time: the
        same command goes on with the molecule it was at. Molecules that fail are named and left out.""",
    ),
}


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} should be a positive number")
    return value


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
