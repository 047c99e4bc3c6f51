"""Molecular orbitals that are networks, without a basis set: :class:`Neural`, for :func:`dqc.minimise`."""

from dqc.orbitals.neural import Neural as Neural
