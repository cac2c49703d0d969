"""Results for the tests of reports, as a run makes them, without measuring."""

from __future__ import annotations

import math

import numpy as np

from pytest_loaderperf.judge import PairTest, PercentileTest, SkewTest, Verdict
from pytest_loaderperf.measurement import Disturbance
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.report import result_document, run_document
from pytest_loaderperf.report.document import metric_entry
from pytest_loaderperf.runs.batches import batches_entry

ALPHA = 0.0005
FINDING = {
    "rule": "element-by-element",
    "message": "a loop takes elements of an array one by one: 1,024 a time",
    "file": "/home/me/project/data.py",
    "line": 42,
    "function": "__getitem__",
    "count": 1024.0,
    "unit": "sample",
    "fix": "use one operation on the whole array: self.rows[i] / 255",
    "gain": {"value": 12.5, "low": 9.2, "high": 16.0, "how": "predicted"},
    "callee": "float",
}


def verdict(test, claim, *, unit="1", counted="pairs", policy="pass"):
    ruling = test.ruling(ALPHA, test.n)
    return Verdict(
        claim=claim,
        ruling=ruling,
        unit=unit,
        at_least=getattr(test, "at_least", False),
        left=1.0,
        left_unit="samples/s",
        right=1.0 if counted == "pairs" else None,
        counted=counted,
        seconds=3.2,
        alpha=ALPHA,
        policy=policy,
        settles_in_seconds=42.0 if ruling.outcome == "INCONCLUSIVE" else None,
        course=test.course(ALPHA),
    )


def ratio_verdict(ratio, seed=0, pairs=60, noise=0.03, needed=0.97, **changes):
    test = PairTest(needed, at_least=True)
    for value in np.random.default_rng(seed).normal(np.log(ratio), noise, pairs):
        test.add(float(np.exp(value)))
    return verdict(test, f"throughput >= {needed:g} * against.throughput", **changes)


def latency_verdict(seed=0):
    test = PercentileTest(0.05, 0.99, at_least=False)
    for trial in np.random.default_rng(seed).lognormal(-7, 0.3, (30, 40)):
        test.add_all(trial.tolist())
    return verdict(test, "batch_latency.p99 <= 50.0 ms", unit="s", counted="batches")


def trials(seed=0, batches=10_000, of=100, typical_s=0.001, stall_every=997):
    """Trials one after another, with a stall of 40 ms now and then."""
    waits = np.random.default_rng(seed).lognormal(np.log(typical_s * 1e9), 0.25, batches)
    waits[stall_every - 1 :: stall_every] = 4e7
    began, records = 0, []
    for piece in np.array_split(waits, max(1, batches // of)):
        latencies = tuple(int(ns) for ns in piece)
        records.append(SteadyRecord(latencies, sum(latencies), 32 * len(piece), 1 << 20, began_ns=began))
        began += 2 * sum(latencies)  # the other side's turn
    return records


def side(name, kind="DataLoader", **changes):
    records = trials(**changes)
    waits = np.concatenate([record.latencies_ns for record in records]) * 1e-9
    rate = 32 / waits.mean()
    entries = {"throughput": metric_entry(rate, 0.97 * rate, 1.03 * rate, len(records), "samples/s")}
    for q in (50, 95, 99):
        value = float(np.quantile(waits, q / 100))
        entries[f"batch_latency_p{q}"] = metric_entry(value, 0.9 * value, 1.1 * value, len(waits), "s")
    entries["roofline_fraction"] = metric_entry(0.12, 0.1, 0.14, 9, "1")
    return {
        "name": name,
        "kind": kind,
        "loader": f"{kind}(Rows, batch_size=32)",
        "rebuilt": True,
        "workers": 0,
        "prefetch": 0,
        "metrics": entries,
        "batches": batches_entry([(record.began_ns, record) for record in records]),
    }


def run(nodeid, verdicts, *, seed=0, findings=(), notes=("a note",), stages=None, batches=10_000, **changes):
    limit = side("roofline", "Roofline", seed=seed, batches=10)
    limit["batches"] = None
    del limit["metrics"]["roofline_fraction"]
    sides = [
        side("loader", seed=seed, batches=batches),
        side("against", seed=seed + 1, batches=batches, stall_every=99),
    ]
    return run_document(
        nodeid=nodeid,
        sides=[*sides, limit],
        batch_size=32,
        device="cpu",
        stages={"fetch": 0.71, "collate": 0.26, "transfer": 0.03} if stages is None else stages,
        verdicts=verdicts,
        seconds=6.5,
        disturbed=Disturbance(0.2, {"stolen": 0.15, "other_processes": 0.05}, {"stolen_seconds": 1.0}),
        notes=notes,
        inconclusive="pass",
        findings=findings,
        **changes,
    )


def skew_verdict(times, trials=60):
    """A claim on the skew of ranks that take ``times`` as long as each other."""
    test = SkewTest(1.1, at_least=False)
    for noise in np.random.default_rng(0).normal(1, 0.01, (trials, len(times))):
        test.add_times(np.multiply(times, noise).tolist())
    return verdict(test, "skew <= 1.1", counted="trials")


def rank(number, host, times=1.0, *, skew=None):
    """What a rank of a job gets that takes ``times`` as long as others; ``skew``: its metric, if it was measured."""
    rate, p50 = 4_000 / times, 0.008 * times
    found = {
        "throughput": metric_entry(rate, 0.97 * rate, 1.02 * rate, 40, "samples/s"),
        "batch_latency_p50": metric_entry(p50, 0.99 * p50, 1.01 * p50, 400, "s"),
        "batch_latency_p99": metric_entry(2 * p50, 1.9 * p50, math.inf, 400, "s"),
        "first_batch": metric_entry(3 * p50, -math.inf, math.inf, 2, "s"),
    }
    if skew is not None:
        found["skew"] = metric_entry(skew, 0.98 * skew, 1.02 * skew, 60, "1")
    return {"rank": number, "host": host, "metrics": found}


def job(count, hosts=("node-a",), slow=None, *, times=1.3, claims=True, nodeid="test_job.py::test_ranks", **changes):
    """A run of ``count`` ranks, dealt to ``hosts`` in blocks; rank ``slow`` takes ``times`` as long as the others."""
    takes = [times if number == slow else 1 + number % 5 / 100 for number in range(count)]
    middle = float(np.median(takes))
    skews = [one / middle if claims else None for one in takes]
    ranks = [
        rank(number, hosts[number * len(hosts) // count], takes[number], skew=skews[number]) for number in range(count)
    ]
    verdicts = [skew_verdict(takes)] if claims and count > 1 else []
    return run(nodeid, verdicts, ranks=ranks, stages={}, batches=400, **changes)


def result(runs, **changes):
    machine = {"cpu": "EPYC", "cores": 2, "torch": "2.13.0", "gpu": None, "container_limits": {"cpu.max": None}}
    known = {"machine": machine, "commit": "0123456789abcdef", "base_commit": None, "alpha": 0.001, "partial": False}
    return result_document(**(known | {"runs": runs} | changes))


def each_verdict():
    """A result with a FAIL, an INCONCLUSIVE, a PASS, findings, and two kinds of claims."""
    return result(
        [
            run("test_data.py::test_slow", [ratio_verdict(0.85)], seed=1, findings=[FINDING]),
            run("test_data.py::test_close", [ratio_verdict(0.97, pairs=12)], seed=2, stages={}),
            run("test_data.py::test_good", [ratio_verdict(1.1), latency_verdict()], seed=3, stages={}, notes=()),
        ]
    )
