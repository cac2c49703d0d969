"""What a loader does that it did not do at the base: two hand-made ledgers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_loaderperf.diagnosis import Finding, Ledger, compared
from pytest_loaderperf.diagnosis.ledger import LoaderFacts, Site, Stages

SAMPLES, BATCHES = 100, 10


def site(callee="numpy.sort", count=SAMPLES, us=50.0, line=12, **changes):
    ns = round(us * 1000 * SAMPLES)
    plain = {"file": "/repo/data.py", "function": "Rows.__getitem__", "kind": "call", "own_ns": ns, "total_ns": ns}
    return Site(**(plain | {"line": line, "callee": callee, "count": count} | changes))


def ledger(*sites, samples=SAMPLES, loader=None, stages=None, work_us=100.0):
    work = {"all": round(work_us * 1000 * samples)}
    return Ledger(
        loader=loader or LoaderFacts(kind="DataLoader", batch_size=10),
        samples=samples,
        batches=samples // 10,
        epochs=1,
        counted_ns=work,
        sites=sites,
        stages=stages or Stages(),
    )


def calls(head, base):
    return compared(head, base, [], []).differences


READ = site("numpy.load", line=11, us=20)


def test_a_call_that_the_base_does_not_make():
    (found,) = calls(ledger(READ, site()), ledger(READ))
    assert (found.file, found.line, found.function, found.callee) == (
        "/repo/data.py",
        12,
        "Rows.__getitem__",
        "numpy.sort",
    )
    assert (found.count, found.base_count, found.unit) == (1, 0, "sample")
    assert (found.seconds, found.base_seconds) == (pytest.approx(50e-6), 0)


def test_rates_are_compared_where_one_ledger_has_more_samples():
    base = ledger(site(count=4 * SAMPLES, us=200), samples=4 * SAMPLES)
    assert calls(ledger(site()), base) == ()
    (found,) = calls(ledger(site(count=3 * SAMPLES, us=150)), base)
    assert (found.count, found.base_count) == (3, 1)


@pytest.mark.parametrize(
    "count, unit, counts",
    [(SAMPLES // 2, "sample", (0.5, 0)), (SAMPLES // 2 - 1, "batch", (4.9, 0)), (2, "epoch", (2, 0))],
)
def test_counts_are_for_the_unit_of_which_there_is_one_or_more(count, unit, counts):
    (found,) = calls(ledger(site(count=count)), ledger())
    assert (found.unit, found.count, found.base_count) == (unit, *map(pytest.approx, counts))


def test_more_calls_come_before_longer_ones_and_then_the_largest():
    head = ledger(site("slow", us=90), site("twice", count=2 * SAMPLES, us=20), site("new", us=30))
    base = ledger(site("slow", us=30), site("twice", us=10))
    assert [one.callee for one in calls(head, base)] == ["new", "twice", "slow"]


@pytest.mark.parametrize(
    "us, count, found",
    [
        (80, SAMPLES, 1),  # each takes 1.6 times as long
        (70, SAMPLES, 0),  # 1.4 times: the machine's noise
        (52, SAMPLES + 11, 0),  # more often, but it explains 2 % of the time
        (56, SAMPLES + 9, 0),  # 1.09 times as often
        (56, SAMPLES + 12, 1),
    ],
)
def test_what_noise_does_not_explain(us, count, found):
    assert len(calls(ledger(site(us=us, count=count)), ledger(site()))) == found


def test_one_interrupted_call_does_not_make_a_line_slow():
    interrupted = site(us=100, longest_ns=50 * 1000 * SAMPLES)
    assert calls(ledger(interrupted), ledger(site())) == ()
    assert len(calls(ledger(replace(interrupted, count=10)), ledger(site(count=10)))) == 1  # too few to leave one out


def test_calls_while_the_loader_is_made_do_not_count():
    assert calls(ledger(site(count=0, in_start=5)), ledger()) == ()


def test_a_line_that_moved_is_the_same_line_and_a_renamed_function_the_same_function():
    renamed = site(line=40, function="Rows.read")
    assert calls(ledger(site(line=99)), ledger(site())) == ()
    assert calls(ledger(renamed), ledger(site())) == ()
    assert len(calls(ledger(site(), renamed), ledger(site()))) == 1  # a second one


def test_without_samples_there_is_nothing_to_compare():
    assert calls(ledger(site()), ledger(samples=0)) == ()


def test_workers_are_compared_by_what_they_work():
    loader = LoaderFacts(kind="DataLoader", torch_like=True, num_workers=2)
    waits = {"all": 10_000_000_000, "fetch": 1_000_000 * SAMPLES, "collate": 0, "send": 0}
    head = replace(ledger(site(us=40), loader=loader), counted_ns=waits)
    assert len(calls(head, ledger(loader=loader))) == 1
    assert calls(replace(head, loader=LoaderFacts()), ledger()) == ()  # 0.04 % of what it waits


def test_a_function_that_takes_longer_is_named_where_it_begins():
    (found,) = calls(ledger(site(us=80, user="/repo/parts.py:62")), ledger(site(user="/repo/parts.py:60")))
    assert (found.file, found.line) == ("/repo/parts.py", 62)
    (found,) = calls(ledger(site(us=80, count=2 * SAMPLES, user="/repo/parts.py:62")), ledger(site()))
    assert (found.file, found.line) == ("/repo/data.py", 12)  # what is new is the call


def test_with_other_settings_times_of_the_same_calls_say_nothing():
    small = LoaderFacts(kind="DataLoader", batch_size=2)
    assert calls(ledger(site(us=80), loader=small), ledger(site())) == ()
    assert len(calls(ledger(site(us=80, count=2 * SAMPLES), loader=small), ledger(site()))) == 1


def test_samples_that_are_larger():
    head, base = (ledger(loader=LoaderFacts(sample_nbytes=n)) for n in (60_000, 1_000))
    assert compared(head, base, [], []).settings == (("the size of a sample", "60,000 bytes", "1,000 bytes"),)
    assert compared(base, head, [], []).settings == ()
    assert compared(head, ledger(loader=LoaderFacts()), [], []).settings == ()  # unknown


def test_settings_that_differ():
    head = ledger(loader=LoaderFacts(kind="DataLoader", batch_size=4, num_workers=0))
    base = ledger(loader=LoaderFacts(kind="DataLoader", batch_size=4, num_workers=2, prefetch_factor=2))
    assert compared(head, base, [], []).settings == (("num_workers", "0", "2"), ("prefetch_factor", "None", "2"))
    assert compared(base, base, [], []).settings == ()


@pytest.mark.parametrize("mine, other, told", [(True, False, True), (True, None, False), (None, False, False)])
def test_an_order_is_compared_where_it_is_known(mine, other, told):
    head, base = (ledger(loader=LoaderFacts(shuffle=one)) for one in (mine, other))
    assert compared(head, base, [], []).settings == ((("shuffle", "True", "False"),) if told else ())


def test_stages_that_take_longer():
    def stages(**ns):
        return ledger(stages=Stages(ns={name: value * BATCHES for name, value in ns.items()}, batches=BATCHES))

    head, base = stages(fetch=9_000, collate=3_000, index=20), stages(fetch=5_000, collate=1_000, index=10)
    assert compared(head, base, [], []).stages == (("fetch", 9e-6, 5e-6), ("collate", 3e-6, 1e-6))
    assert compared(base, base, [], []).stages == ()
    assert compared(head, ledger(), [], []).stages == ()  # the other has none


def test_findings_that_only_the_head_has():
    def finding(line, rule="file-reopened"):
        return Finding(rule, "a file", "/repo/data.py", line, "Rows.__getitem__", 1, "sample", "open it once")

    both = compared(ledger(), ledger(), [finding(12), finding(30, "sleeping")], [finding(9)])
    assert [one.rule for one in both.findings] == ["sleeping"]


def test_plain_values():
    both = compared(ledger(site(), loader=LoaderFacts(num_workers=1)), ledger(loader=LoaderFacts()), [], [])
    written = both.to_json()
    assert written["settings"] == {"num_workers": {"head": "1", "base": "0"}}
    assert (written["calls"][0]["callee"], written["stages"]) == ("numpy.sort", {})
