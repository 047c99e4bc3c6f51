"""What an exchange-correlation functional sees of a density: its values on grid points."""

from __future__ import annotations

from jaxtyping import Array, Float

from dqc.types import pytree, static


@pytree
class Features:
    """Spin densities and their derivatives on grid points, in atomic units.

    ``closed_shell=True`` promises that both spin rows of every field are equal, which lets a
    functional evaluate one of them; it never changes a value.
    """

    rho: Float[Array, "2 g"]  # electrons / bohr^3
    grad: Float[Array, "2 x g"] | None  # electrons / bohr^4; None below the GGA rung
    tau: Float[Array, "2 g"] | None  # 1/2 sum f |grad phi|^2, hartree / bohr^3; None below meta-GGA
    exchange_density: Float[Array, "2 g"] | None = None  # exact exchange, hartree / bohr^3
    closed_shell: bool = static(default=False)
