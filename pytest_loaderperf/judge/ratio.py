"""The claim on a ratio of throughputs, from rounds in which both sides took turns in slices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pytest_loaderperf.judge.claim import Outcome, Ruling, SignTest

# The sums must make what the slices say twice as likely as a coin would, or slices that are not like the rest settle a
# claim as soon as the sums happen to lean their way. Stricter, small effects would take as long as by the sums alone.
AGREE_ALPHA = 0.5


@dataclass(slots=True)
class RatioTest:
    """The claim that the median ratio of a round is at least (or, with ``at_least=False``, at most) ``needed``.

    Of each round it is given two ratios: that of the sums, which is what is claimed, and the median of the slices',
    which a machine that changes its speed from slice to slice disturbs far less. Each is tested with half of alpha. The
    slices settle a claim where there is some evidence in the sums for the same; where there is none, as for a loader
    with a slow batch now and then, the sums must settle it. Where no round was sliced, the sums have all of alpha.
    """

    needed: float
    at_least: bool
    sums: SignTest = field(init=False)
    _slices: SignTest = field(init=False)
    _sliced: bool = False

    def __post_init__(self) -> None:
        self.sums = SignTest(self.needed, self.at_least)
        self._slices = SignTest(self.needed, self.at_least)

    @property
    def n(self) -> int:
        return self.sums.n

    def add(self, of_sums: float, of_slices: float | None = None) -> None:
        """Add one round; ``of_slices`` is None where it was measured in one piece."""
        self.sums.add(of_sums)
        self._slices.add(of_sums if of_slices is None else of_slices)
        self._sliced = self._sliced or of_slices is not None

    def outcome(self, alpha: float) -> Outcome:
        return self._settled(alpha)[0]

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        outcome, test, share = self._settled(alpha)
        return replace(test.ruling(share, n_affordable), outcome=outcome)

    def _settled(self, alpha: float) -> tuple[Outcome, SignTest, float]:
        """The outcome, by which test, and that one's share of alpha."""
        if not self._sliced:
            return self.sums.outcome(alpha), self.sums, alpha
        by_sums, by_slices = self.sums.outcome(alpha / 2), self._slices.outcome(alpha / 2)
        test = self._slices if self.sums.leaning is self._slices.leaning else self.sums
        if by_sums is Outcome.INCONCLUSIVE and by_slices is self.sums.outcome(AGREE_ALPHA):
            return by_slices, test, alpha / 2
        return by_sums, test, alpha / 2
