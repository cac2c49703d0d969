"""Whether threads are worth it: on busy cores, work that a thread has begun is ready later than the caller's own."""

from __future__ import annotations

from statistics import median

WINDOW_NS = 10_000_000  # of the caller's time, over which a way is judged: longer than a scheduler's turn
_EACH = 3  # windows of each way in a comparison
_FIRST, _MOST = 16, 256  # windows until the next comparison; each that changes nothing doubles them
_MARGIN = 0.95  # of the time of the way so far: a change must bring more than windows differ by


class Worth:
    """Says whether to hand work to threads, from what it costs the caller: its own work, and its waiting.

    It hands work over, and compares that with working alone from time to time, in turns. Work that costs the caller
    next to nothing brings no comparison nearer.
    """

    def __init__(self) -> None:
        self.hands_over = True
        self._prefers = True  # to hand over; in a comparison, ``hands_over`` alternates
        self._patience = self._left = _FIRST
        self._costs_ns: dict[bool, list[float]] = {}
        self._spent_ns = self._size = 0

    def note(self, spent_ns: int, size: int) -> None:
        """Count the caller's time for work of that size."""
        self._spent_ns += spent_ns
        self._size += size
        if self._spent_ns >= WINDOW_NS:
            self._judge(self._spent_ns / self._size)
            self._spent_ns = self._size = 0

    def _judge(self, cost_ns: float) -> None:
        if self._left:
            self._left -= 1
            self._costs_ns = {True: [], False: []}
            return
        self._costs_ns[self.hands_over].append(cost_ns)
        self.hands_over = not self.hands_over
        if min(map(len, self._costs_ns.values())) == _EACH:
            other, own = (median(self._costs_ns[way]) for way in (not self._prefers, self._prefers))
            changes = other < _MARGIN * own
            self._prefers = self.hands_over = self._prefers is not changes
            self._patience = self._left = _FIRST if changes else min(_MOST, 2 * self._patience)
