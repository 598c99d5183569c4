"""Numbers as people read them."""

import math

__all__ = ["amount", "difference", "percent", "score"]


def score(value: float | None, digits: int = 4) -> str:
    """Return a score of 0..1; a dash where it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share of 0..1 as a percentage without its sign; what is there is never said to be nothing."""
    least = 10.0**-digits
    if 0 < 100 * share < least:
        return f"<{least:.{digits}f}"
    if 100 - least < 100 * share < 100:
        return f"{100 - least:.{digits}f}"
    return f"{100 * share:.{digits}f}"


def amount(number: int) -> str:
    """Return a whole number with three digits and a letter for its thousands: 999, 12.3k, 4.56M."""
    if number < 1000:
        return str(number)
    value = float(number)
    for letter in "kMGT":
        value /= 1000
        if value < 999.5 or letter == "T":
            break
    digits = max(0, 2 - int(math.log10(value) + 1e-3)) if value < 999.5 else 0
    return f"{value:.{digits}f}{letter}"


def difference(value: float, digits: int = 4) -> str:
    """Return a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\u2212")
