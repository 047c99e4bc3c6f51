"""Molecular orbitals that are networks, without a basis set: :class:`Neural`, for :func:`dqc.minimise`."""

from dqc.orbitals.neural import Neural as Neural
from dqc.orbitals.solution import NeuralSolution as NeuralSolution
from dqc.orbitals.solution import energy as energy
from dqc.orbitals.solution import forces as forces
