"""Numbers as a reader wants them: four digits, narrow spaces between thousands, powers of ten where zeros pile up."""

from __future__ import annotations

import math
import numbers
from typing import Any

MISSING = "–"
_THIN, _MINUS = "\u202f", "\u2212"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any, digits: int = 4) -> str:
    """``value`` as text: 0.9871, 12 345, 3.8×10⁵, ∞; "not measured" for NaN; anything but a number as it is.

    Whole numbers keep all their digits up to 10¹⁵, others are rounded to ``digits`` significant ones.
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        value = int(value)
    elif isinstance(value, numbers.Real):
        value = float(value)
    else:
        return str(value)
    if math.isnan(value):
        return "not measured"
    sign, size = (_MINUS if value < 0 else ""), abs(value)
    if math.isinf(size):
        return sign + "∞"
    if isinstance(value, int) and size < 10**15:
        return sign + _grouped(str(size))
    if size != 0 and not 1e-4 <= size < 1e6:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        return f"{sign}{_trimmed(mantissa)}×10{str(int(exponent)).translate(_RAISED)}"
    if size >= 10 ** (digits - 1):
        return sign + _grouped(f"{size:.0f}")
    places = digits - 1 - math.floor(math.log10(size)) if size else 0
    return sign + _trimmed(f"{size:.{places}f}")


def duration(seconds: float) -> str:
    """Seconds as 0.42 s, 12.3 s, 4 min 05 s or 2 h 10 min."""
    if not math.isfinite(seconds) or seconds < 59.95:
        return f"{number(float(seconds), 3)}{_THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_THIN}min {rest:02d}{_THIN}s"
    return f"{minutes // 60}{_THIN}h {minutes % 60:02d}{_THIN}min"


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _grouped(digits: str) -> str:
    return f"{int(digits):,}".replace(",", _THIN) if len(digits) > 4 else digits
