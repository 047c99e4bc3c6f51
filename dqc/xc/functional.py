"""The interface of a functional: a pytree that maps density features to an energy density."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from dqc.xc.features import Features

Rung = Literal["none", "lda", "gga", "mgga"]


class Needs(NamedTuple):
    """What a functional asks of a ``System``; hashable, so it can key a compilation.

    ``rung`` names the density features it reads; ``omegas`` the range-separation parameters of its
    exact exchange (0.0 is the full Coulomb operator, w > 0 the long-range erf(w r)/r), empty without
    exact exchange; ``exchange_density`` whether it reads the exact-exchange energy density.
    """

    rung: Rung = "lda"
    omegas: tuple[float, ...] = ()
    exchange_density: bool = False

    @property
    def operators(self) -> tuple[float, ...]:
        """The omegas of the repulsions that a ``System`` holds for it, in their order: 0 and the others."""
        return (0.0, *sorted(omega for omega in self.omegas if omega))


@runtime_checkable
class Functional(Protocol):
    """A pytree whose leaves are its parameters and whose call is the semilocal energy density.

    E_xc = sum_g w_g e(g) + sum_k a_k E_x^HF(omega_k), with ``a_k`` from :meth:`exchange`.
    """

    @property
    def needs(self) -> Needs: ...

    def exchange(self) -> dict[float, Float[Array, ""]]: ...

    def __call__(self, features: Features) -> Float[Array, " g"]: ...
