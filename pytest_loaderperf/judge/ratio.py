"""The claim about a ratio of throughputs, from rounds of the loaders and from their work for a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from pytest_loaderperf.judge.claim import Outcome, Ruling
from pytest_loaderperf.judge.course import Course
from pytest_loaderperf.judge.pairs import PairTest

# The sums must make the slices' outcome twice as likely as noise would. Otherwise unusual slices would settle a claim
# as soon as the sums happened to agree. With a larger factor, small effects would take as long as by the sums alone.
AGREE_ALPHA = 0.5
# Hand-over is part of the claim but not of the work. So for a PASS by the work, the sums alone must show that the ratio
# is above this part of the needed one. A loader below it passes by chance in fewer claims than HIDDEN_ALPHA, because
# the sums must also favour PASS of the whole claim.
HIDDEN, HIDDEN_ALPHA = 0.9, 0.01
FAVOUR = 2.0  # the sums must make PASS this many times as likely as FAIL
# With fewer sums, or seconds of them, it is unknown whether the sums contradict the work.
FEWEST_SUMS, FEWEST_SUMS_SECONDS = 5, 1.0
SUMS, SLICES, WORK = "sums", "slices", "work"


@dataclass(slots=True)
class RatioTest:
    """The claim that the median ratio of a round is at least (or, with ``at_least=False``, at most) ``needed``.

    The claim is about the ratio of a round's sums, which settles it as soon as there is enough evidence. Two other
    kinds of evidence may be faster; each kind has an equal share of alpha. "Evident" means enough evidence at that
    share.

    - ``add`` takes the median ratio of a round's slices, which a machine that changes its speed from slice to slice
      disturbs far less. Evident slices settle a claim if the sums have some evidence for the same.
    - ``add_refilled`` takes, in their place, a ratio of the CPU time that a sample takes in turns of refills, if
      ``refilled``; and the ratio by the clock there. Evident CPU time settles FAIL if neither that nor the sums
      contradict it and both together make it the more likely outcome, and PASS if the sums have some evidence for
      PASS, and the clock of refills has none against it.
    - ``add_work`` takes a ratio of the work that is done for a batch, measured apart from the rounds and at its own
      pace. It does not include handing batches over. Evident work settles FAIL if the sums do not contradict it. It
      settles PASS if the sums alone are evidence that the ratio is beyond ``HIDDEN`` of ``needed``, and support PASS
      more than FAIL so far. With ``expects_work`` it has its share of alpha before there is any, which is needed if
      the claim is looked at before. ``work_margin``: the part of the needed ratio by which the work of equal loaders
      in two processes may differ permanently; a FAIL must be beyond that.
    """

    needed: float
    at_least: bool
    refilled: bool = False
    expects_work: bool = False
    work_margin: float = 0.0
    sums: PairTest = field(init=False)
    work: PairTest = field(init=False)
    _far_work: PairTest | None = None  # the work compared with less than needed, if there is a margin
    _sums_seconds: float = 0.0
    _slices: PairTest | None = None  # once there are slices; with refills from the beginning
    _by_clock: PairTest | None = None  # refills by the clock, if any
    _with_hidden: PairTest | None = None  # the sums compared with HIDDEN of ``needed``, once there is work

    def __post_init__(self) -> None:
        self.sums, self.work = (PairTest(self.needed, self.at_least) for _ in range(2))
        if self.refilled:
            self._slices, self._by_clock = (PairTest(self.needed, self.at_least) for _ in range(2))
        if self.work_margin:
            part = 1 - self.work_margin
            self._far_work = PairTest(self.needed * part if self.at_least else self.needed / part, self.at_least)

    @property
    def n(self) -> int:
        return self.sums.n

    @property
    def enough_sums(self) -> bool:
        """Whether there are enough to know if they contradict the work."""
        return self.n >= FEWEST_SUMS or self._sums_seconds >= FEWEST_SUMS_SECONDS

    @property
    def obvious(self) -> bool:
        """Whether a few long pairs of some evidence differ by more than noise is assumed to cause."""
        return any(test.obvious for test in self._tests().values())

    def work_outcome(self, alpha: float) -> Outcome:
        """The outcome of the work alone, at ``alpha``: FAIL only beyond the margin."""
        outcome = self.work.outcome(alpha)
        if outcome is Outcome.FAIL and self._far_work is not None:
            return Outcome.FAIL if self._far_work.outcome(alpha) is Outcome.FAIL else Outcome.INCONCLUSIVE
        return outcome

    def add(self, of_sums: float, of_slices: float | None = None, seconds: float = 0.0) -> None:
        """Add one round; ``of_slices`` is None if it was measured in one piece; the longer side took ``seconds``."""
        if of_slices is not None and self._slices is None:
            self._slices = self.sums.against(self.needed)  # rounds in one piece count as one slice
        self.sums.add(of_sums, seconds)
        self._sums_seconds += seconds
        if self._slices is not None and self._by_clock is None:
            self._slices.add(of_sums if of_slices is None else of_slices, seconds)
        if self._with_hidden is not None:
            self._with_hidden.add(of_sums, seconds)

    def add_refilled(self, of_clock: float, of_cpu: float) -> None:
        """Add one round of refills."""
        assert self._slices is not None
        assert self._by_clock is not None
        self._by_clock.add(of_clock)
        self._slices.add(of_cpu)

    def add_work(self, ratio: float, seconds: float = 0.0) -> None:
        """Add one ratio of the work for a batch; larger if the loader is faster, as for throughputs."""
        self.work.add(ratio, seconds)
        if self._far_work is not None:
            self._far_work.add(ratio, seconds)
        if self._with_hidden is None:
            self._with_hidden = self.sums.against(self.needed * HIDDEN if self.at_least else self.needed / HIDDEN)

    def outcome(self, alpha: float) -> Outcome:
        return self._settled(self._share(alpha))[0]

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        """As ``Test.ruling``, with the figures of the deciding evidence; ``n_affordable`` counts rounds."""
        outcome, by = self._settled(self._share(alpha))
        test = self._tests()[by]
        affordable = round(n_affordable * test.n / self.n) if self.n else n_affordable
        return replace(test.ruling(self._share(alpha), affordable), outcome=outcome, by=by)

    def course(self, alpha: float) -> Course:
        """That of the deciding evidence, or of the strongest if the claim is undecided."""
        share = self._share(alpha)
        return self._tests()[self._settled(share)[1]].course(share)

    def _tests(self) -> dict[str, PairTest]:
        others = {} if self._slices is None else {SLICES: self._slices}
        return others | ({WORK: self.work} if self.expects_work or self.work.n else {}) | {SUMS: self.sums}

    def _share(self, alpha: float) -> float:
        return alpha / len(self._tests())

    def _settled(self, share: float) -> tuple[Outcome, str]:
        """The outcome, and the evidence that decides it; if undecided, the strongest evidence."""
        tests = self._tests()
        outcomes = {
            name: self.work_outcome(share) if name == WORK else test.outcome(share) for name, test in tests.items()
        }
        for name, outcome in outcomes.items():
            if outcome is not Outcome.INCONCLUSIVE and self._agreed(name, outcome, share):
                return outcome, name
        # Evident, but the sums do not agree yet.
        leaning = (self._by_clock if self._by_clock and self._by_clock.n else self.sums).leaning
        same = [
            name
            for name, test in tests.items()
            if test.n and outcomes[name] is Outcome.INCONCLUSIVE and test.leaning is leaning
        ]
        return Outcome.INCONCLUSIVE, (same or [SUMS])[0]

    def _agreed(self, name: str, outcome: Outcome, share: float) -> bool:
        """Whether the sums allow this evidence to settle the claim."""
        if name == SUMS:
            return True
        agreed = self.sums.outcome(AGREE_ALPHA)
        if name == SLICES and self._by_clock is not None:
            by_clock = self._by_clock.outcome(AGREE_ALPHA)
            if outcome is Outcome.FAIL:
                favour = sum(_favour(test) for test in (self.sums, self._by_clock))
                return favour < 0 and Outcome.PASS not in (by_clock, agreed)
            return agreed is Outcome.PASS and by_clock is not Outcome.FAIL
        if name == SLICES:
            return agreed is outcome
        if outcome is Outcome.FAIL:
            return self.enough_sums and agreed is not Outcome.PASS
        return self._whole_loader_passes(max(share, HIDDEN_ALPHA))

    def _whole_loader_passes(self, alpha: float) -> bool:
        assert self._with_hidden is not None
        return (
            self._with_hidden.outcome(alpha) is Outcome.PASS
            and _favour(self.sums) >= math.log(FAVOUR)
            and self.sums.leaning is Outcome.PASS
        )


def _favour(test: PairTest) -> float:
    """The natural log of how many times as likely as FAIL the test makes PASS."""
    return test.log_evidence(Outcome.PASS) - test.log_evidence(Outcome.FAIL)
