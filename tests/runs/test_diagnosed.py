"""run.diagnose(): the doctor in a notebook or a script."""

from __future__ import annotations

import pytest
import torch

from pytest_loaderperf import measure, s
from pytest_loaderperf.diagnosis import Advice, Diagnosis, Finding, Gain, Ledger
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.runs import diagnosed
from pytest_loaderperf.runs.shown import ShownDiagnosis

pytestmark = pytest.mark.usefixtures("few_lines")
FINDING = Finding(
    "repeated-work", "said", "/home/me/data.py", 41, "f", 1.0, "a sample", "do it once", Gain(2.6, 2.4, 2.8)
)
ADVICE = (Advice("DataLoader(dataset, ...)", Gain(1.2, 1.1, 1.5, "measured")),)


def rows():
    return torch.utils.data.DataLoader(torch.rand(64, 4), batch_size=8)


@pytest.fixture
def run(monkeypatch):
    """A run whose doctor only notes how it is asked, in ``run.asked``."""
    asked = []

    def diagnose(source, **how):
        asked.append(how)
        return Diagnosis(how["name"], Ledger(), [FINDING], ADVICE if how.get("advises") else ())

    monkeypatch.setattr(diagnosed, "diagnose", diagnose)
    with measure(rows) as run:
        run.asked = asked
        yield run


def test_it_measures_what_fixes_bring_and_tries_settings(run):
    assert run.diagnose(seconds=20 * s).advice == ADVICE
    (how,) = run.asked
    assert (how["seconds"], how["tries"], how["advises"]) == (5.0, True, True)


def test_without_settings_there_is_more_time_for_the_rest(run):
    assert run.diagnose(30, advises=False).advice == ()
    assert (run.asked[0]["seconds"], run.asked[0]["advises"]) == (10.0, False)


def test_it_is_the_diagnosis_of_the_run_from_then_on(run):
    assert run.diagnosis.advice == ()
    assert run.diagnose() is run.diagnosis
    assert run.findings == [FINDING]
    assert len(run.asked) == 2


def test_a_time_that_is_none_is_an_error(run):
    with pytest.raises(ClaimError, match=r"seconds: expected a positive time, got 0. Write 30 \* s."):
        run.diagnose(seconds=0)


def test_it_shows_itself_as_a_page_and_as_text(run):
    shown = run.diagnose()
    assert shown._repr_html_().startswith('<div class="loaderperf-doctor">')
    assert "  1  repeated-work   /home/me/data.py:41" in str(shown)
    assert repr(shown) == f"<diagnosis of {run.name}: repeated-work at data.py:41>"
    assert repr(ShownDiagnosis("a", Ledger(), [])) == "<diagnosis of a: no mistakes found>"


def test_the_doctor_observes_the_loader_of_a_run():
    with measure(rows) as run:
        shown = run.diagnose(6, advises=False)
    assert [one.rule for one in shown.findings] == ["sample-by-sample"]
    assert shown.samples_per_second > 0
