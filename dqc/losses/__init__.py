"""Exact constraints on energies, fields and potentials, as differentiable functions of a functional.

Pointwise conditions are in :mod:`dqc.xc.constraints`, with a list of those that contradict each other.
"""

from __future__ import annotations

from dqc.losses.asymptotics import radial_density as radial_density
from dqc.losses.asymptotics import radial_potential as radial_potential
from dqc.losses.asymptotics import radial_tail as radial_tail
from dqc.losses.asymptotics import tail as tail
from dqc.losses.deviations import Deviations as Deviations
from dqc.losses.fractional import curvature as curvature
from dqc.losses.fractional import flat_plane as flat_plane
from dqc.losses.fractional import fractional_charge as fractional_charge
from dqc.losses.fractional import fractional_charge_at as fractional_charge_at
from dqc.losses.fractional import fractional_spin as fractional_spin
from dqc.losses.fractional import ionization_potential as ionization_potential
from dqc.losses.fractional import janak as janak
from dqc.losses.one_electron import OneElectron as OneElectron
from dqc.losses.one_electron import gaussian as gaussian
from dqc.losses.one_electron import hydrogenic as hydrogenic
from dqc.losses.one_electron import one_electron as one_electron
from dqc.losses.one_electron import orbital_potential as orbital_potential
from dqc.losses.one_electron import orbital_self_interaction as orbital_self_interaction
from dqc.losses.one_electron import self_interaction as self_interaction
