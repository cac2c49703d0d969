"""Figures as text, and text in columns."""

from __future__ import annotations

import math

from pytest_loaderperf.units import BYTE, BYTES_PER_SECOND, ONE, SAMPLES_PER_SECOND, SECOND

NOTHING = "-"
UNBOUNDED = "unbounded"
_HUNDRED, _TEN, _TENTH = 99.95, 9.995, 0.1  # where rounding changes the number of decimals
_ENDLESS = 1e16  # from where digits say nothing
_LEAST_SHARE = 0.0005  # smaller ones would be shown as none
_LITTLE, LARGE_GAIN = 1.05, 50  # times: gains below and beyond these are not known better
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent if possible.

    >>> three_digits(4.7123), three_digits(47.123), three_digits(12345.6)
    ('4.71', '47.1', '12,346')
    """
    size = abs(value)
    if size >= _ENDLESS:
        return f"{value:.3g}"
    if size >= _HUNDRED:
        return f"{value:,.0f}"
    if size >= _TEN:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= _TENTH else f"{value:.3g}"


def time_text(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> time_text(0.00471), time_text(47.1e-6), time_text(0)
    ('4.71 ms', '47.1 us', '0 s')
    """
    for unit, name in _TIMES:
        if abs(seconds) >= unit * 0.9995:
            return f"{three_digits(seconds / unit)} {name}"
    return f"{seconds:g} s"


def budget_text(seconds: float) -> str:
    """A sufficient budget in seconds: two digits, rounded up.

    >>> budget_text(1768.2), budget_text(33.2), budget_text(0.14)
    ('1800 s', '34 s', '0.2 s')
    """
    step = 10 ** max(-1, math.floor(math.log10(seconds)) - 1)
    return f"{math.ceil(seconds / step) * step:g} s"


def size_text(nbytes: float) -> str:
    """A number of bytes in the binary unit that suits it.

    >>> size_text(31440000), size_text(17)
    ('30.0 MiB', '17 B')
    """
    for unit, name in _SIZES:
        if abs(nbytes) >= unit * 0.9995:
            return f"{nbytes:.0f} B" if unit == 1 else f"{three_digits(nbytes / unit)} {name}"
    return "0 B"


def fit(text: str, width: int) -> str:
    """``text``, cut if it is longer.

    >>> fit("a long name", 8), fit_end("a long name", 8)
    ('a lon...', '... name')
    """
    return text if len(text) <= width else f"{text[: width - 3]}..."


def fit_end(text: str, width: int) -> str:
    """The end of ``text`` if it is longer: the end of a name says more than its beginning."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


def share_text(share: float) -> str:
    """A share in percent; small ones have one more digit.

    >>> share_text(0.123), share_text(0.0123), share_text(0.00012), share_text(0)
    ('12%', '1.2%', '<0.1%', '0%')
    """
    if share >= _TENTH or not share:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= _LEAST_SHARE else f"<{_LEAST_SHARE * 2:.1%}"


def gain_text(low: float, value: float, high: float, how: str) -> str:
    """How many times faster, with two digits and without an exponent.

    >>> gain_text(2.41, 2.6, 2.83, "measured"), gain_text(31.0, 50.0, 1234.0, "measured")
    ('2.6x (2.4 to 2.8), measured', '50x (31 to 1,200), measured')
    >>> gain_text(61, 72, 90, "predicted"), gain_text(1.0, 1.02, 1.1, "measured")
    ('over 50x, predicted', 'under 1.05x, measured')
    """
    if value < _LITTLE:
        return f"under {_LITTLE}x, {how}"
    if value > LARGE_GAIN:
        return f"over {LARGE_GAIN}x, {how}"
    least, times, most = (f"{float(f'{one:.2g}'):,g}" for one in (low, value, high))
    return f"{times}x ({least} to {most}), {how}"


def short_count(value: float) -> str:
    """A count in at most six characters.

    >>> short_count(212369), short_count(6213000), short_count(950)
    ('212k', '6.21M', '950')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * 0.9995:
            return f"{three_digits(value / unit)}{name}"
    return three_digits(value)


def figure(value: float | None, unit: str) -> str:  # noqa: PLR0911 one return a unit
    """A figure with its unit; ``-`` if there is none.

    >>> figure(0.903, "1"), figure(412000.0, "samples/s"), figure(None, "s")
    ('0.903', '412,000 samples/s', '-')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return UNBOUNDED
    if unit == SECOND:
        return time_text(value)
    if unit == BYTE:
        return size_text(value)
    if unit == BYTES_PER_SECOND:
        return f"{size_text(value)}/s"
    if unit == SAMPLES_PER_SECOND:
        return f"{three_digits(value)} {unit}"
    assert unit == ONE
    return three_digits(value) if abs(value) >= _TEN else f"{value:.3g}"
