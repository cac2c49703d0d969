"""A diagnosis that shows itself: as a page in a notebook, as text elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from pytest_loaderperf.diagnosis import Diagnosis
from pytest_loaderperf.report.doctor import doctor_lines
from pytest_loaderperf.report.doctor_html import doctor_html

_WIDTH = 100


@dataclass(frozen=True, repr=False)
class ShownDiagnosis(Diagnosis):
    """A Diagnosis whose ``str`` is the report that ``loaderperf doctor`` prints."""

    @classmethod
    def of(cls, diagnosis: Diagnosis) -> Self:
        """The same diagnosis."""
        return cls(**{part.name: getattr(diagnosis, part.name) for part in fields(Diagnosis)})

    def __str__(self) -> str:
        return "\n".join(line.text for line in doctor_lines(self, _WIDTH))

    def __repr__(self) -> str:
        found = [f"{one.rule} at {Path(one.file).name or 'no line'}:{one.line}" for one in self.findings]
        return f"<diagnosis of {self.name}: {', '.join(found) or 'no mistakes found'}>"

    def _repr_html_(self) -> str:
        return doctor_html(self)
