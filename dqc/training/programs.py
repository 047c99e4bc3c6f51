"""The compiled programs of a training step, for functionals (axis m) times molecules (axis l) of one shape.

``solve`` finds self-consistent fields; ``observe`` evaluates energies and errors of fields, with their
derivatives by the functional. An energy's is taken at fixed orbitals, whether these are self-consistent
(Hellmann and Feynman) or not; that of an error goes through the response of the field where the field is
self-consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float

from dqc.energy import energies
from dqc.guess import starting_density
from dqc.implicit import differentiable
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System
from dqc.training.systems import AXIS
from dqc.training.terms import Term
from dqc.types import pytree
from dqc.xc.functional import Functional


@pytree
class Observed:
    """Energies and errors of fields, and their derivatives by the leaves of each functional."""

    energy: Float[Array, "*b"]  # hartree
    slope: Functional  # dE/dtheta
    errors: dict[str, Float[Array, "*b"]]  # of each term, in its unit
    error_slope: Functional | None  # d(sum over terms of weight times error)/dtheta; None without terms
    usable: Bool[Array, "*b"]  # whether the field and, where there was one, the response have converged


@partial(jax.jit, static_argnames=("members", "mesh"))
def start(systems: System, members: int, mesh: Mesh | None = None) -> Float[Array, "*b s n n"]:
    """Densities to start from, the same for every functional."""
    nobody = jnp.zeros(members)
    return _everywhere(lambda _, system: starting_density(system), mesh, nobody, (systems,), ())


@partial(jax.jit, static_argnames=("mesh", "options"))
def solve(
    xcs: Functional,
    systems: System,
    densities: Float[Array, "*b s n n"],
    mesh: Mesh | None = None,
    options: tuple[tuple[str, Any], ...] = (),
) -> Solution:
    """Self-consistent fields of every functional and molecule, from given densities."""

    def one(xc: Functional, system: System, P: Float[Array, "s n n"]) -> Solution:
        return scf(system, xc, guess=P, **dict(options))

    return _everywhere(one, mesh, xcs, (systems,), (densities,))


@partial(jax.jit, static_argnames=("terms", "responding", "mesh"))
def observe(
    xcs: Functional,
    systems: System,
    fields: Solution,
    labels: Mapping[str, Any],
    weights: Mapping[str, Float[Array | np.ndarray, "*b"]],
    terms: tuple[tuple[str, Term], ...] = (),
    responding: bool = True,
    mesh: Mesh | None = None,
) -> Observed:
    """Energies and errors of given fields, and their derivatives.

    ``weights`` are those of each term for each member and molecule. ``responding`` says whether the fields
    follow the functional when an error is differentiated.
    """
    observed = partial(_observe, terms, responding)
    return _everywhere(observed, mesh, xcs, (systems, labels), (fields, weights))


def _observe(
    terms: tuple[tuple[str, Term], ...],
    responding: bool,
    xc: Functional,
    system: System,
    labels: Mapping[str, Any],
    field: Solution,
    weights: Mapping[str, Array],
) -> Observed:
    C, f = field.mo_coeff[:, :, : field.occupations.shape[1]], field.occupations
    energy, slope = jax.value_and_grad(lambda xc: energies(system, xc, C, f).total)(xc)
    if not terms:
        return Observed(energy, slope, {}, None, field.converged)

    def error(xc: Functional) -> tuple[Array, dict[str, Array]]:
        following = differentiable(system, xc, field) if responding else field
        errors = {name: term(system, xc, following, labels.get(name)) for name, term in terms}
        return jnp.stack([weights[name] * e for name, e in errors.items()]).sum(), errors

    error_slope, errors = jax.grad(error, has_aux=True)(xc)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(error_slope)]).all()
    return Observed(energy, slope, errors, error_slope, field.converged & finite)


def _everywhere(
    f: Callable[..., Any], mesh: Mesh | None, xcs: Any, shared: tuple[Any, ...], own: tuple[Any, ...]
) -> Any:
    """f(xc, *shared, *own) for each member and molecule, the molecules spread over the devices.

    ``shared`` has the axis of the molecules; ``own``, and the result, have that of the members before it.
    """

    def local(xcs: Any, shared: Any, own: Any) -> Any:
        return each(lambda xc, own: each(lambda s, o: f(xc, *s, *o), shared, own), xcs, own)

    def gathered(xcs: Any, shared: Any, own: Any) -> Any:
        whole = partial(jax.lax.all_gather, axis_name=AXIS, axis=1, tiled=True)
        return jax.tree.map(whole, local(xcs, shared, own))

    if mesh is None:
        return local(xcs, shared, own)
    every, molecules = PartitionSpec(), PartitionSpec(AXIS)
    specs = (every, molecules, PartitionSpec(None, AXIS))
    # No device waits for another before the results are gathered: the loops stop when their own lanes do.
    return jax.shard_map(gathered, mesh=mesh, in_specs=specs, out_specs=every, check_vma=False)(
        xcs, shared, own
    )


def each(f: Callable[..., Any], *args: Any) -> Any:
    """``f`` over the leading axis: together on an accelerator, one after another on a CPU."""
    if jax.tree.leaves(args)[0].shape[0] == 1:
        alone = f(*jax.tree.map(lambda x: jnp.squeeze(x, 0), args))
        return jax.tree.map(lambda x: x[None], alone)
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda row: f(*row), args)
    return jax.vmap(f)(*args)
