"""What a test asks the doctor about the loader of its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pytest_loaderperf.defaults import DEFAULT_DIAGNOSIS_SECONDS
from pytest_loaderperf.diagnosis import (
    Comparison,
    Diagnosis,
    Finding,
    Findings,
    Ledger,
    compared,
    diagnose,
    findings_of,
)
from pytest_loaderperf.diagnosis.passes.running import observe
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.measurement import Reading, Rounds
from pytest_loaderperf.runs.ranked import Ranked
from pytest_loaderperf.runs.shown import ShownDiagnosis
from pytest_loaderperf.runs.sides import BASE
from pytest_loaderperf.units import Quantity, as_seconds, s

_EPOCHS = 1  # of each pass over the loader of a failed claim
_PATIENCE_SECONDS = 10.0  # beyond a pass's own time; the base's process is given up after 30


@dataclass(frozen=True)
class Why:
    """What the doctor says of the loader of a failed claim: its mistakes, or what it does that its base does not.

    ``comparison``: None without a base. ``unseen``: why the doctor could not observe the loader, or its base, or "".
    """

    findings: tuple[Finding, ...] = ()
    comparison: Comparison | None = None
    unseen: str = ""


def ledger_of(source: object, seconds: float, count: Callable[[Any], int] | None) -> Ledger:
    """What the doctor sees in two passes of ``seconds`` at most. Raises LoaderError if the loader fails in them."""
    return observe(source, seconds, epochs=_EPOCHS, count=count, threads=1, patience_seconds=_PATIENCE_SECONDS)


class Diagnosed(Ranked):
    """The part of a Run that says why its loader is slow, in exact counts; plain numbers to compare with."""

    reading: Reading
    _source: object
    _whys: dict[bool, Why]

    @property
    def rounds(self) -> Rounds:
        """The measurement."""
        raise NotImplementedError

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """Why the loader is slow: it is observed for some seconds, once, in child processes. Counts are exact.

        Raises LoaderError if the loader fails there.
        """
        return self._diagnosed()

    def diagnose(
        self, seconds: Quantity | float = DEFAULT_DIAGNOSIS_SECONDS * s, *, advises: bool = True
    ) -> ShownDiagnosis:
        """``diagnosis`` as ``loaderperf doctor`` gives it: gains are measured where the doctor can make the change.

        ``advises``: it also tries settings. ``seconds``: for all of it. The result is ``diagnosis`` from now on, also
        for ``findings``. A notebook shows it as a page; ``print`` shows it as text. Raises LoaderError if the loader
        fails there.
        """
        given = as_seconds(seconds, "seconds", f"{DEFAULT_DIAGNOSIS_SECONDS:g} * s", bare=True)
        parts = 3 + advises  # timing, counting, what fixes bring, and settings to try
        found = self._diagnosed(seconds=given / parts, tries=True, advises=advises)
        self.__dict__["diagnosis"] = found
        return found

    def _diagnosed(self, **how: Any) -> ShownDiagnosis:
        return self.shared("the diagnosis", lambda: self._diagnosed_here(**how))

    def _diagnosed_here(self, **how: Any) -> ShownDiagnosis:
        found = diagnose(
            self._source,
            name=self.name,
            silent=self.options.silent,
            threads=1,  # those of this process do not exist in a forked one
            count=self.reading.count,
            progress=self.options.progress,
            **how,
        )
        return ShownDiagnosis.of(found)

    @property
    def findings(self) -> list[Finding]:
        """The mistakes that the doctor names, each with rule, file, line and fix; ``assert not run.findings``."""
        return Findings(self.diagnosis.findings)

    @property
    def copies_per_batch(self) -> float:
        """Calls in the user's code that copy an array, for each batch."""
        return self.diagnosis.copies_per_batch

    @property
    def executors_made(self) -> int:
        """Executors and pools that the user's code makes in an epoch."""
        return self.diagnosis.executors_made

    @property
    def files_opened(self) -> int:
        """Files that the user's code opens in an epoch, in all processes."""
        return self.diagnosis.files_opened

    @property
    def syncs_per_batch(self) -> float:
        """Calls in the user's code that wait for the GPU, for each batch."""
        return self.diagnosis.syncs_per_batch

    @property
    def leaks(self) -> int:
        """Threads, processes, descriptors and objects that each epoch leaves."""
        return self.diagnosis.leaks

    def why(self, seconds: float, *, with_base: bool) -> Why:
        """Why the loader failed a claim, observed once, in passes of ``seconds`` at most; never raises.

        ``with_base``: what it does that the loader of the base, which is a side of the run, does not.
        """
        if with_base not in self._whys:
            self.options.progress("asking the doctor why")
            try:
                self._whys[with_base] = self._observed(seconds, with_base=with_base)
            except (LoaderPerfError, OSError) as error:  # the claim has failed all the same
                self._whys[with_base] = Why(unseen=str(error))
        return self._whys[with_base]

    def _observed(self, seconds: float, *, with_base: bool) -> Why:
        head = ledger_of(self._source, seconds, self.reading.count)
        found = tuple(findings_of(head, silent=self.options.silent))
        if not with_base:
            return Why(found)
        side: Any = self.rounds.sides[BASE]  # the only one that has a ledger
        try:
            base = Ledger.from_json(side.ledger(seconds))
        except LoaderPerfError as error:
            return Why(found, unseen=f"the base could not be observed: {error}")
        return Why(found, compared(head, base, found, findings_of(base, silent=self.options.silent)))

    def known_findings(self) -> list[Finding]:
        """What the doctor has found, if a test has asked it or a claim has failed."""
        asked = self.__dict__.get("diagnosis") or next(iter(self._whys.values()), None)
        return [] if asked is None else list(asked.findings)

    def known_comparison(self) -> Comparison | None:
        """What changed from the base, if a claim on it has failed."""
        return self._whys[True].comparison if True in self._whys else None
