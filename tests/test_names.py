"""Nearest names: near ones, best first, in their own spelling, and none where none is near."""

from __future__ import annotations

from dqc.names import nearest


def test_near_names_are_offered_in_their_own_spelling() -> None:
    assert nearest("PBEE", ["b3lyp", "pbe0", "pbe"]) == " (nearest: pbe, pbe0)"
    assert nearest("def2svp", ["def2-SVP", "STO-3G"]) == " (nearest: def2-SVP)"


def test_far_names_are_not() -> None:
    assert nearest("xyz", ["benzene", "water"]) == ""
    assert nearest("water", []) == ""


def test_count() -> None:
    assert nearest("pbe", ["pbe", "pbe0", "rpbe"], count=1) == " (nearest: pbe)"
