"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size_of(count: int) -> str:
    """Return a number of bytes for people."""
    unit = next((u for u in ("T", "G", "M", "K") if count >= _UNITS[u]), "")
    return f"{count / _UNITS[unit]:.1f} {unit}B" if unit else f"{count} B"


def parse_bytes(text: str) -> int:
    """Return the number of bytes that "500M" or "2G" means; ValueError for no size."""
    number = text.upper().removesuffix("B").strip()
    unit = number[-1:] if number[-1:] in _UNITS else ""
    try:
        return int(float(number.removesuffix(unit)) * _UNITS[unit])
    except ValueError:
        raise ValueError(f"{text!r} is no size; use a number of bytes, or 500M, 2G") from None
