"""The report page: result documents as one HTML file that needs no network. Its charts are drawn by Observable Plot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.page.charts import Charts, scale_width
from pytest_loaderperf.report.page.compare import compared
from pytest_loaderperf.report.page.view import claim_view, file_view, headline, is_open, run_view
from pytest_loaderperf.report.reading import difference_words, differing, fact_text, fingerprint, mistakes, without_base

Document = dict[str, Any]
_HERE = Path(__file__).parent
_ENDS = re.compile(r"::|[/_]")  # after which a name may continue on the next line
_FIRST = ("fail", "open", "pass")  # tones of verdicts, in the order of their rows
_LIBRARY = ("d3.LICENSE", "d3.min.js", "plot.LICENSE", "plot.umd.min.js")


def page(documents: Sequence[Document]) -> str:
    """The page of one or several results, as HTML. A document's ``file`` is its name, where there are several."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["parts"] = lambda name: Markup(_ENDS.sub(r"\g<0><wbr>", str(escape(name))))  # noqa: S704 escaped
    view = _view([_shown(document) for document in documents])
    data = json.dumps(view.pop("data"), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    assets = {
        "data": _in_script(data),
        "style": _text("style.css"),
        "script": _text("charts.js"),
        "library": "\n".join(map(_library_part, _LIBRARY)),
    }
    return environment.get_template("page.html").render(
        view | {name: Markup(text) for name, text in assets.items()},  # noqa: S704 ours, or escaped above
        version=version("pytest-loaderperf"),
    )


def _view(documents: Sequence[Document]) -> Document:
    charts, several = Charts(), len(documents) > 1
    differ = differing([document["machine"] for document in documents])
    files = [file_view(document, set(differ)) for document in documents]
    entries = [
        (f"run-{place}-{number}", file["name"], run)
        for place, (document, file) in enumerate(zip(documents, files, strict=True))
        for number, run in enumerate(document["runs"])
    ]
    most = scale_width([claim for _, _, run in entries for claim in run["claims"]])
    claims_of = {
        ident: [
            claim_view(charts, claim, run, f"{ident}-claim-{number}", most)
            for number, claim in enumerate(run["claims"])
        ]
        for ident, _, run in entries
    }
    runs = []
    for ident, file, run in entries:
        shown = run_view(charts, run, claims_of[ident], ident)
        shown["open"] = is_open(shown, len(entries))
        if several:
            shown["facts"].insert(0, file)
            for claim in shown["claims"]:
                claim["test"] = f"{run['nodeid']} in {file}"
        runs.append(shown)
    claims = sorted((claim for run in runs for claim in run["claims"]), key=lambda claim: _FIRST.index(claim["tone"]))
    told, tone = headline(claims, len(runs))
    sections = [("Verdicts", "verdicts"), ("Tests", "tests"), ("Machine", "machine")]
    if several:
        sections.insert(1, ("Side by side", "side-by-side"))
    return {
        "files": files,
        "claims": claims,
        "runs": runs,
        "compared": compared(documents) if several else [],
        "headline": told,
        "tone": tone,
        "summary": _summary(documents),
        "warnings": _warnings(documents, differ),
        "sections": sections,
        "data": charts.data,
    }


def _summary(documents: Sequence[Document]) -> str:
    runs = [run for document in documents for run in document["runs"]]
    parts = [f"{sum(run['seconds'] for run in runs):.1f} s spent measuring"]
    if found := len(mistakes(runs)):
        parts.append(f"the doctor found {found} mistake{'s' * (found != 1)}")
    alphas = {document["alpha"] for document in documents}
    if len(alphas) == 1 and max(alphas) > 0 and any(run["claims"] for run in runs):
        parts.append(f"at most one of {1 / max(alphas):,.0f} such runs fails by chance")
    return "; ".join(parts)


def _warnings(documents: Sequence[Document], differ: Sequence[str]) -> list[str]:
    warnings = []
    if differ:
        told = []
        for name in differ:
            values = dict.fromkeys(fact_text(document["machine"].get(name)) for document in documents)
            told.append(f"{name.replace('_', ' ')} ({' / '.join(values)})")
        what = difference_words([fingerprint(document["machine"]) for document in documents])
        warnings.append(
            f"{what[0].upper()}{what[1:]}: {', '.join(told)}. Compare the ratios that were measured in pairs, not "
            "times and rates."
        )
    for document in documents:
        if document["partial"]:
            which = f"{document['file']}: the" if "file" in document else "The"
            warnings.append(f"{which} run did not reach its end. This is what had been measured by then.")
    warnings += [
        f"{test['nodeid']} has no base to compare with, so nothing protects it: {test['reason']}"
        for test in without_base(documents, new=False)
    ]
    if new := len(without_base(documents, new=True)):
        warnings.append(f"{new} new test{'s' * (new != 1)}, which the base does not have: nothing to compare with yet.")
    return warnings


def _shown(entry: Any) -> Any:
    """A document whose texts, at any depth, are printable: marks that reverse the writing would mislead here, too."""
    if isinstance(entry, Mapping):
        return {_shown(key): _shown(value) for key, value in entry.items()}
    if isinstance(entry, list):
        return entry if entry and isinstance(entry[0], float) else [_shown(value) for value in entry]
    return printable(entry, MOST_OF_PATH) if isinstance(entry, str) else entry


def _library_part(name: str) -> str:
    text = (_HERE / "vendor" / name).read_text("utf-8")
    return f"/*\n{text}*/" if name.endswith("LICENSE") else text


def _text(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _in_script(text: str) -> str:
    """JSON that cannot end the script element it is in, whatever its strings contain."""
    return text.replace("<", "\\u003c")
