"""Immutable pytrees, and the glossary of array axes.

Every container of arrays in the library is made by :func:`pytree`; every shape in a signature is
written with the axis names below, and with no others.

========  ==========================================================================
axis      meaning
========  ==========================================================================
``s``     spin: 1 (restricted, each orbital holds 2 electrons) or 2 (unrestricted)
``2``     in ``xc``: always two spins, alpha and beta
``n``     atomic orbitals (AO); ``m`` is a subset of them
``i``     orbital slots that may carry electrons (``n_slot``)
``k``     molecular orbitals
``P``     auxiliary functions of the density fitting
``pq``    packed pairs of AOs, lower triangle by rows: ``p (p + 1) / 2 + q``
``g``     grid points
``b c``   grid points again, as ``b`` chunks of ``c`` neighbouring points
``w u``   grid points once more, as ``w`` spheres of ``u`` points around each atom
``y``     spherical harmonics l, m up to some l; ``l`` the angular momenta alone
``z``     elements, each once
``d``     an AO and its first derivatives: value, x, y, z
``a``     atoms
``h``     shells (in ``Basis``, of one angular momentum)
``8``     columns of libcint's tables of shells
``e``     entries of libcint's list of exponents and coefficients
``f``     features that a network reads
``r``     primitive Gaussians of a shell
``t``     iterations of the self-consistent field
``x``     the three Cartesian components
``v``     vibrations, that is normal modes; or waves of a Fourier transform
``q``     calculations compared with one statement: occupations, thresholds, reactions
``j o``   functionals that are trained together, and molecules of one chunk
========  ==========================================================================
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

# Energies and overlaps need more than 24 bits: the first module that imports JAX turns this on.
jax.config.update("jax_enable_x64", True)
# A program that calls the host (libcint, libxc) waits for copies of the arguments, made by a pool of threads.
# If the program runs in that pool itself, this may take for ever on one core. It does not where dispatch is
# synchronous and what the program reads is ready, as :func:`on_device` makes it.
jax.config.update("jax_cpu_enable_async_dispatch", False)

T = TypeVar("T")


def traced(tree: Any) -> bool:
    """Whether any leaf has no value yet, since a transformation of JAX is tracing it."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def on_device(tree: Any) -> Any:
    """The same arrays on the default device, where programs may read them at once."""
    return jax.block_until_ready(jax.device_put(tree))


def static(**kwargs: Any) -> Any:
    """A field that is part of the pytree's structure (hashable, a compile-time constant)."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def pytree(cls: type[T]) -> type[T]:
    """Make a class an immutable dataclass whose fields are the children of a JAX pytree.

    Nothing is checked when JAX rebuilds an instance (its leaves may be tracers or anything else);
    the functions that build one check their input.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    meta = [f.name for f in fields if f.metadata.get("static")]
    data = [f.name for f in fields if not f.metadata.get("static")]
    jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=meta)
    cls.__no_type_check__ = True  # type: ignore[attr-defined]  # JAX calls __init__ when it rebuilds one
    return cls


replace = dataclasses.replace
