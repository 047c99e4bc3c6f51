"""Functionals as files: weights in the safetensors format, everything else as JSON in its header.

The header holds ``format``, ``version`` and ``units``, the ``functional`` (its parent, features, constraints
and architecture: what :func:`rebuilt` makes it from), and the ``record`` of its training. Whoever has the
safetensors format can read it all without this library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dqc import tensors
from dqc.types import replace
from dqc.xc import names
from dqc.xc.algebra import Scaled, Sum
from dqc.xc.functional import Functional
from dqc.xc.literature import Affine, Literature, Recipe, Term
from dqc.xc.networks import Perceptron
from dqc.xc.neural import Neural, neural

WHAT, VERSION = "functional", "1"
SUFFIX = ".safetensors"


def functional(
    name: str | Path, trainable: tuple[str, ...] = (), like: Functional | None = None
) -> Functional:
    """A functional by its name, as :func:`dqc.xc.names.functional` reads names, or from a file.

    A path ends in ``.safetensors`` or has a folder in it. ``trainable`` names the constants of a literature
    functional that become leaves. ``like`` is a functional with the structure of the one in the file; one
    of a class, or with a network, of your own is read only into that. Raises ``ValueError`` for an unknown
    name and for a file that does not hold a functional, is of another version, or lacks weights or has
    some that are not finite, and ``FileNotFoundError`` for a path where there is none.
    """
    text = str(name)
    if isinstance(name, Path) or text.endswith(SUFFIX) or "/" in text:
        if trainable:
            raise ValueError("trainable= is for functionals of the literature; all weights of a file are.")
        return read(Path(name), like)
    return names.functional(text, trainable)


def write(xc: Functional, path: str | Path, record: dict[str, Any] | None = None) -> None:
    """Write a functional to a file, with a ``record`` of how it was made (anything that JSON can hold).

    Raises ``ValueError`` for weights that are not finite, and for a path without the suffix .safetensors.
    """
    if Path(path).suffix != SUFFIX:
        raise ValueError(f"a functional is kept in a file *{SUFFIX}, not in {path}")
    weights = _weights(xc)
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the functional's weights {name} are not finite: it was not written")
    header = {
        "units": "atomic",
        "functional": json.dumps(described(xc)),
        "record": json.dumps(record or {}),
    }
    tensors.write(path, WHAT, VERSION, weights, header)


def read(path: Path, like: Functional | None = None) -> Functional:
    """The functional of a file; see :func:`functional`."""
    header, weights = _contents(path)
    xc = rebuilt(json.loads(header["functional"]), path) if like is None else like
    wanted = _weights(xc)
    if set(wanted) != set(weights):
        lost, extra = (", ".join(sorted(a)) for a in (set(wanted) - set(weights), set(weights) - set(wanted)))
        raise ValueError(
            f"{path} does not fit the functional: it lacks {lost or 'nothing'}, and it has "
            f"{extra or 'nothing'} in excess"
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise ValueError(f"{path}: {name} has shape {value.shape}, not {wanted[name].shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{path} holds weights that are not finite, in {name}: it cannot be used")
    leaves = [jnp.asarray(weights[name], wanted[name].dtype) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(xc), leaves)


def record(path: str | Path) -> dict[str, Any]:
    """What a file says of how its functional was made."""
    return json.loads(_contents(Path(path))[0]["record"])


def described(xc: Functional) -> dict[str, Any]:
    """What a functional is made of, without its weights, as JSON can hold it."""
    if isinstance(xc, Neural):
        return _neural(xc)
    if isinstance(xc, Literature):
        return {"kind": "literature", "recipe": xc.recipe, "trained": sorted(xc.trained)}
    if isinstance(xc, Scaled):
        fixed = xc.factor is None
        return {
            "kind": "scaled", "constant": xc.constant, "fixed": fixed, "functional": described(xc.functional)
        }  # fmt: skip
    if isinstance(xc, Sum):
        return {"kind": "sum", "parts": [described(part) for part in xc.parts]}
    return {"kind": "own", "class": f"{type(xc).__module__}.{type(xc).__qualname__}"}


def _neural(xc: Neural) -> dict[str, Any]:
    design, modules = xc.design, dict(xc.design.modules)
    network = next(iter(modules.values()))
    built = all(isinstance(module, Perceptron) for module in modules.values())
    return {
        "kind": "neural",
        "parent": design.parent,
        "rung": "local_hybrid" if design.local else design.rung,
        "constraints": sorted(design.constraints),
        "parts": list(xc.parts),
        "network": {name: type(module).__name__ for name, module in modules.items()},
        **({"hidden": list(network.hidden), "precision": network.precision} if built else {}),  # type: ignore
    }


def rebuilt(description: dict[str, Any], path: Path) -> Functional:
    """The functional of :func:`described`, with other weights."""
    kind = description["kind"]
    if kind == "neural" and "hidden" in description:
        options = {key: description[key] for key in ("parent", "rung", "constraints", "precision")}
        xc = neural(**options, hidden=tuple(description["hidden"]))
        return replace(xc, parts=tuple(description["parts"]))
    if kind == "literature":
        terms = tuple(Term(k, _affine(w), _pairs(fixed)) for k, w, fixed in description["recipe"][0])
        recipe = Recipe(terms, _pairs(description["recipe"][1]))
        constants = recipe.constants()
        zeros = {name: jnp.zeros(np.shape(constants[name])) for name in description["trained"]}
        return Literature(zeros, recipe)
    if kind == "scaled":
        factor = None if description["fixed"] else jnp.zeros(())
        return Scaled(rebuilt(description["functional"], path), factor, description["constant"])
    if kind == "sum":
        return Sum(tuple(rebuilt(part, path) for part in description["parts"]))
    made = description.get("class") or f"networks of its own, {description['network']}"
    raise ValueError(
        f"{path} holds a functional with {made}, which only its author's program can build: "
        "give one like it, dqc.functional(path, like=...)"
    )


def _affine(parts: list) -> Affine:
    return Affine(parts[0], _pairs(parts[1]))


def _pairs(parts: list) -> tuple:
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in parts)


def _weights(xc: Functional) -> dict[str, np.ndarray]:
    """The leaves by their paths in the tree, in its order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(xc)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def _contents(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The header and the arrays of a file, once it is known to be a functional's."""
    with tensors.opened(path, WHAT, VERSION, ": write one with dqc.save(xc, path)") as (header, file):
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
