"""JUnit XML in the dialect that Jenkins calls xunit2: a suite for each result, a test case for each claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import UNBOUNDED, figure
from pytest_loaderperf.report.ranks import slowest_text
from pytest_loaderperf.report.reading import VERSIONS, Document, distinct, fingerprint
from pytest_loaderperf.report.words import observations
from pytest_loaderperf.units import ONE

_SUITE = "loaderperf"


class _Case(NamedTuple):
    classname: str
    name: str
    seconds: float
    outcome: str = ""  # the element it contains: failure, skipped, or none for a pass
    message: str = ""
    text: str = ""


def junit_xml(documents: Sequence[Document]) -> str:
    """One suite for each result. A claim that fails its test is a failure, another undecided one is skipped.

    A run without claims is a passed test case, and a result that is not complete a failed one.
    """
    suites = ET.Element("testsuites")
    totals = [_add_suite(suites, document) for document in documents]
    suites.set("name", _SUITE)
    for key in ("tests", "failures", "errors"):
        suites.set(key, str(sum(total[key] for total in totals)))
    suites.set("time", f"{sum(total['time'] for total in totals):.3f}")
    ET.indent(suites, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _add_suite(suites: ET.Element, document: Document) -> dict[str, float]:
    cases = [*_cases(document)]
    outcomes = [case.outcome for case in cases]
    totals = {
        "tests": len(cases),
        "failures": outcomes.count("failure"),
        "errors": 0,
        "skipped": outcomes.count("skipped"),
        "time": sum(case.seconds for case in cases),
    }
    counts = {key: str(value) for key, value in totals.items()} | {"time": f"{totals['time']:.3f}"}
    suite = ET.SubElement(suites, "testsuite", {"name": _SUITE, **counts})
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(document):
        ET.SubElement(properties, "property", name=name, value=printable(value))
    names = distinct([f"{case.classname}\0{case.name}" for case in cases])  # claims of one test may have the same words
    for case, name in zip(cases, names, strict=True):
        attributes = {"classname": case.classname, "name": name.partition("\0")[2], "time": f"{case.seconds:.3f}"}
        element = ET.SubElement(suite, "testcase", attributes)
        if case.outcome:
            within = ET.SubElement(element, case.outcome, message=case.message, type=f"{_SUITE}.{case.outcome}")
            within.text = case.text
    return totals


def _facts(document: Document) -> Iterator[tuple[str, object]]:
    machine = document["machine"]
    yield "machine", fingerprint(machine)
    known = {"commit": document.get("commit"), "base_commit": document.get("base_commit"), "gpu": machine.get("gpu")}
    known |= {name: machine.get(name) for name in ("cpu", *VERSIONS)}
    yield from ((name, value) for name, value in known.items() if value is not None)


def _cases(document: Document) -> Iterator[_Case]:
    for run in document["runs"]:
        name = _classname(run["nodeid"])
        claims = run["claims"]
        yield from (_claim_case(name, claim, run) for claim in claims)
        if not claims:
            yield _Case(name, "measured, no claim", run["seconds"])
    if document.get("partial"):
        text = "A test did not run to its end, or a file could not be collected: claims may be missing."
        yield _Case(_SUITE, "the run is complete", 0.0, "failure", "the result is partial", text)


def _classname(nodeid: str) -> str:
    """As pytest's own: the file's path with dots, then the test, so that Jenkins shows folders as packages."""
    named, bracket, parameters = printable(nodeid, MOST_OF_PATH).partition("[")
    file, separator, test = named.partition("::")
    named = f"{file.removesuffix('.py').replace('/', '.')}.{test.replace('::', '.')}" if separator else file
    return f"{named}{bracket}{parameters}"


def _claim_case(name: str, claim: Document, run: Document) -> _Case:
    text, seconds = printable(claim["claim"]), claim["seconds"]
    if claim["verdict"] == "PASS" and not claim["failed"]:
        return _Case(name, text, seconds)
    outcome = "failure" if claim["failed"] else "skipped"
    return _Case(name, text, seconds, outcome, f"{claim['verdict']}: {text}", explanation(claim, run))


def explanation(claim: Document, run: Document) -> str:
    """What a claim needed, what was measured, on which evidence, and which stage takes longest."""
    unit = claim["unit"]
    times = " x" if unit == ONE and claim["counted"] == "pairs" else ""
    interval = " to ".join(UNBOUNDED if end is None else figure(end, unit) for end in (claim["low"], claim["high"]))
    lines = [
        f"needed    {figure(claim['needed'], unit)}{times}",
        f"measured  {figure(claim['estimate'], unit)}{times}, 95 % interval {interval}",
        f"evidence  {observations(claim['pairs'], claim['counted'])}, {claim['seconds']:.1f} s",
    ]
    if rank := slowest_text(run, [claim], printable):
        lines.append(f"ranks     {rank}")
    if claim["mde"] is not None:
        lines.append(f"power     would have caught {claim['mde']:.1%}")
    if stages := sorted(run["stages"].items(), key=lambda stage: -stage[1]):
        shares = ", ".join(f"{printable(stage)} {share:.0%}" for stage, share in stages)
        lines.append(f"stages    {shares} of a batch")
    for finding in run["findings"]:
        where = f"{printable(finding['file'], MOST_OF_PATH)}:{finding['line']}"
        lines.append(f"finding   {where}: {printable(finding['message'])}")
    lines += [f"note      {printable(note)}" for note in run["notes"]]
    return "\n".join(lines)
