"""What a test asks the doctor about the loader of its run."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pytest_loaderperf.defaults import DEFAULT_DIAGNOSIS_SECONDS
from pytest_loaderperf.diagnosis import Diagnosis, Finding, Findings, diagnose
from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.shown import ShownDiagnosis
from pytest_loaderperf.units import Quantity, as_seconds, s


class Diagnosed:
    """The part of a Run that says why its loader is slow, in exact counts; plain numbers to compare with."""

    name: str
    reading: Reading
    options: Options
    _source: object

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

    def known_findings(self) -> list[Finding]:
        """What the doctor has found, if a test has asked it."""
        found = self.__dict__.get("diagnosis")
        return [] if found is None else list(found.findings)
