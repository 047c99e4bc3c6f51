"""The nearest known names to one that is not known, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """``" (nearest: a, b)"``, or nothing where no known name is near; case does not count."""
    originals = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), originals, n=count, cutoff=0.6)
    return f" (nearest: {', '.join(originals[match] for match in found)})" if found else ""
