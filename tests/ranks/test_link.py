"""What ranks tell each other, and how the failure of one reaches all. The ranks are threads, or forked processes."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import threading
import time

import pytest

from pytest_loaderperf.ranks import LostRankError, RankError, joining, link, listening, peer
from pytest_loaderperf.ranks.link import Link


def failing_while(rank, doing):
    """What one rank does while the others wait for it at ``doing``."""

    def work(link):
        if link.world.rank == rank:
            return None
        return link.gather(None, doing) if link.world.rank == 0 else link.told(doing)

    return work


def as_rank(job, rank, work):
    """For a forked process: ``work(link)`` as that rank."""
    return lambda: work(Link(job.world(rank), 60.0))


def test_rank_0_tells_in_order_and_gathers_by_rank(job_of):
    def lead(link):
        for number in range(3):
            link.tell({"do": number})
        return [link.gather("a", "first"), link.gather("A", "second")]

    def follow(link):
        told = [link.told("waiting") for _ in range(3)]
        assert link.gather("abc"[link.world.rank], "first") == []
        link.gather("ABC"[link.world.rank], "second")
        return told

    told = [{"do": 0}, {"do": 1}, {"do": 2}]
    assert job_of(3).run(lead, follow, follow) == [[["a", "b", "c"], ["A", "B", "C"]], told, told]


def test_nobody_leaves_a_barrier_before_all_have_come(job_of):
    came, seen = [], []

    def work(link):
        time.sleep(0.1 * link.world.rank)
        came.append(link.world.rank)
        link.barrier("starting")
        seen.append(len(came))

    job_of(3).all(work)
    assert seen == [3, 3, 3]


def test_large_answers_arrive_whole(job_of):
    answer = os.urandom(5_000_000)
    given, _ = job_of(2).all(lambda link: link.gather(answer, "observe"))
    assert given == [answer, answer]


def test_the_failure_of_a_rank_reaches_all_with_its_traceback_and_they_go_on_in_the_next_part(job_of):
    def read_sample():
        raise ValueError("sample 7 is broken")

    def work(link):
        link.begin("test_one")
        try:
            if link.world.rank == 1:
                read_sample()
            failing_while(1, "observe")(link)
        except ValueError as error:
            link.fail(error, "observe steady")
            text = ""
        except RankError as error:
            text = str(error)
            with pytest.raises(RankError, match="sample 7"):  # as does every wait in this part
                failing_while(1, "observe")(link)
        link.begin("test_two")
        return text, link.gather(link.world.rank, "observe")

    (first, gathered), (nothing, _), (third, _) = job_of(3).all(work)
    assert nothing == ""
    assert first == third
    assert first.startswith("rank 1 on host b failed at 'observe steady': ValueError: sample 7 is broken\n")
    assert 'in read_sample\n    raise ValueError("sample 7 is broken")' in first
    assert gathered == [0, 1, 2]


def test_a_rank_that_is_alive_but_late_is_named_with_where_it_is(job_of):
    job, others_gave_up = job_of(3), threading.Event()
    job.all(lambda link: link.begin("test_one"))
    job.links[0]._patience_s = 0.5

    def wait(link):
        try:
            failing_while(1, "observe")(link)
        finally:
            others_gave_up.set()

    first, _, third = job.run(wait, lambda link: others_gave_up.wait(20), wait)
    assert not isinstance(first, LostRankError)
    assert str(third) == str(first)
    assert str(first).startswith(
        f"rank 1 on host b (process {os.getpid()}) is alive, but rank 0 on host a waited for it at 'observe' for "
        "0.5 s: it is at 'test_one'. Fix what it waits for, or set loaderperf_timeout (seconds) higher if it needs "
        "longer.\n"
        "Its main thread stands at (innermost last):\n  File"
    )


def test_a_rank_that_goes_on_to_the_next_test_ends_the_wait_of_the_others(job_of):
    def work(link):
        link.begin("test_one")
        text = ""
        if link.world.rank != 2:
            with pytest.raises(RankError) as error:
                failing_while(2, "observe")(link)
            text = str(error.value)
        link.begin("test_two")
        return text, link.gather(link.world.rank, "observe")

    (text, gathered), (same, _), _ = job_of(3).all(work)
    assert text == same
    assert text == (
        f"rank 2 on host c (process {os.getpid()}) is at 'test_two' while rank 0 on host a waits for it at 'observe'. "
        "Expected all ranks to make the same claims in the same order: look for what a test does on some ranks only."
    )
    assert gathered == [0, 1, 2]


def test_ranks_that_begin_different_tests_are_named(job_of):
    errors = job_of(2).all(lambda link: link.begin(f"test_{link.world.rank}"))
    assert str(errors[0]) == str(errors[1])
    assert f"what comes next: expected test_0, got test_1 on rank 1 on host b (process {os.getpid()})" in str(errors[0])


def test_what_differs_between_ranks_is_named_on_all_of_them(job_of):
    errors = job_of(3).all(lambda link: link.agree({"tests": ["a", "b"][: 2 - link.world.rank // 2]}))
    assert {type(error) for error in errors} == {RankError}
    assert len({str(error) for error in errors}) == 1
    assert f"tests: expected 2, got 1: without b on rank 2 on host c (process {os.getpid()})" in str(errors[0])


def test_another_version_is_named_when_the_ranks_join(job_of, forked, monkeypatch):
    job, versions = job_of(2), link._versions()

    def old(link):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(link, "_versions", lambda: versions | {"torch": "2.6.0"})
        pid = forked(as_rank(job, 1, old))
    with pytest.raises(RankError) as error:
        job.join(0)
    assert f"torch: expected {versions['torch']}, got 2.6.0 on rank 1 on host b (process {pid})" in str(error.value)


def test_a_rank_that_does_not_join_is_named_to_those_who_have(job_of):
    job = job_of(3)
    job.join = lambda rank: Link(job.world(rank), 1.0)
    errors = job.run(lambda link: None, lambda link: None)
    assert str(errors[0]) == (
        "rank 2 of 3 did not join: expected all within 1 s, got rank 0 on host a, 1 on host b. "
        "Look at the output of the missing, and start pytest with the same arguments on all ranks."
    )
    assert str(errors[1]) == str(errors[0])


def test_ranks_say_whom_they_wait_for_when_others_take_long_to_join(job_of, monkeypatch, capfd):
    monkeypatch.setattr(joining, "_QUIET_SECONDS", 0.2)
    job = job_of(3)
    job.join = lambda rank: Link(job.world(rank), 1.0)

    def said():  # torch's store may complain there as well
        return [line for line in capfd.readouterr().err.splitlines() if line.startswith("loaderperf: ")]

    job.run(lambda link: None)  # alone; its store ends with it
    assert [line[: line.index(", for up to ")] for line in said()] == [
        "loaderperf: rank 0 on host a: waiting for ranks 1, 2 of 3 to join"
    ]
    with pytest.raises(RankError):
        joining.join(job_of(2).world(1), 1.0)
    (line,) = said()
    assert line.startswith("loaderperf: rank 1 on host b: waiting for the job's store at 127.0.0.1:")


def test_a_rank_whose_job_is_not_there_says_so(job_of):
    with pytest.raises(
        RankError, match=r"rank 1 on host b: expected the job's store at 127\.0\.0\.1:\d+ to be reached"
    ):
        joining.join(job_of(2).world(1), 0.5)


def test_connections_of_others_do_not_disturb_joining(job_of, monkeypatch):
    job, welcomed = job_of(2), joining._welcomed

    def after_others(world, told):
        for said in (b"GET / HTTP/1.0\r\n\r\n", b'{"token": "wrong", "rank": 1}\n', b"[]\n", b""):
            with socket.create_connection(("127.0.0.1", told["port"])) as other:
                other.sendall(said)
        return welcomed(world, told)

    monkeypatch.setattr(joining, "_welcomed", after_others)
    assert job.all(lambda link: link.gather(link.world.rank, "observe"))[0] == [0, 1]


def test_a_second_link_in_the_same_job_works(job_of):
    job = job_of(2)
    for _ in range(2):
        assert job.all(lambda link: link.gather(link.world.rank, "observe"))[0] == [0, 1]
        job.close()
        job.links.clear()


def test_a_rank_that_leaves_early_is_named(job_of):
    job = job_of(3)
    job.all(lambda link: None)

    def work(link):
        try:
            return failing_while(1, "observe")(link)
        finally:
            link.close()

    errors = job.all(work)
    text = (
        f"rank 1 on host b (process {os.getpid()}) has left the run while rank 0 on host a waits for it at 'observe'."
    )
    assert [type(error) for error in errors] == [LostRankError, type(None), LostRankError]
    assert str(errors[0]) == str(errors[2]) == text + " Look at its output."


def test_ranks_leave_together(job_of):
    job, left = job_of(2), []
    job.all(lambda link: None)

    def work(link):
        if link.world.rank == 0:
            time.sleep(0.3)
            left.append("rank 0 is still at work")
        link.close()
        left.append(link.world.rank)

    job.all(work)
    assert left[0] == "rank 0 is still at work"


def test_a_closed_link_says_so_and_may_be_closed_again(job_of):
    job = job_of(2)
    job.all(lambda link: link.close())
    with pytest.raises(RankError, match="rank 0 on host a: the link to the other ranks is closed"):
        job.links[0].tell("x")


def test_a_killed_rank_is_named_at_once_also_while_its_workers_live(job_of, forked):
    job = job_of(3)

    def with_worker(link):
        if os.fork() == 0:
            time.sleep(8)  # longer than the test waits: a worker that does not notice
            os._exit(0)
        link.gather(None, "observe")
        os.kill(os.getpid(), signal.SIGKILL)

    forked(as_rank(job, 2, with_worker))

    def work(link):
        link.gather(None, "observe")
        begin_s = time.monotonic()
        with pytest.raises(LostRankError) as error:
            failing_while(2, "observe more")(link)
        assert time.monotonic() - begin_s < 5
        return str(error.value)

    first, second = job.run(work, work)
    assert first.startswith("rank 2 on host c (process ")
    assert ") ended. Its stage was 'observe', and rank 0 on host a was at '" in first
    assert second == first


def test_where_rank_0_was_killed_the_others_know_that_it_cannot_say_so(job_of, forked):
    job = job_of(2)
    forked(as_rank(job, 0, lambda link: os.kill(os.getpid(), signal.SIGKILL)))
    link = job.join(1)
    with pytest.raises(LostRankError) as error:
        link.told("what comes next")
    assert link.without_lead == str(error.value)
    assert link.without_lead.startswith("rank 0 on host a (process ")


def test_rank_0_itself_says_what_happened_unless_it_is_gone(job_of, forked):
    job = job_of(3)
    forked(as_rank(job, 2, lambda link: os.kill(os.getpid(), signal.SIGKILL)))

    def work(link):
        with pytest.raises(LostRankError):
            failing_while(2, "observe")(link)
        return link.without_lead

    assert job.run(work, work) == ["", ""]


def test_a_stopped_rank_is_named(job_of, forked, monkeypatch):
    for module in (listening, peer):
        monkeypatch.setattr(module, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(listening, "_PING_SECONDS", 0.2)
    job = job_of(2)

    def stop(link):
        link.gather(None, "observe")
        os.kill(os.getpid(), signal.SIGSTOP)

    forked(as_rank(job, 1, stop))

    def work(link):
        link.gather(None, "observe")
        time.sleep(1.5)  # it is found while this rank does something else
        link.gather(None, "observe more")

    (error,) = job.run(work)
    assert isinstance(error, LostRankError)
    assert re.search(
        r"gave no sign of life for \d s\. Its stage was 'observe', and rank 0 on host a was at", str(error)
    )
    assert "Its process is stopped, for example by a debugger or by SIGSTOP." in str(error)


def test_a_rank_whose_native_code_stops_its_threads_is_waited_for(job_of, forked, monkeypatch):
    for module in (listening, peer):
        monkeypatch.setattr(module, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(listening, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(listening, "_BUSY_SECONDS", 6.0)
    job = job_of(2)

    def keep_the_interpreter(link):
        ctypes.PyDLL(None).usleep(900_000)  # as a library that does not release its lock
        link.gather("done", "observe")
        ctypes.PyDLL(None).usleep(20_000_000)

    forked(as_rank(job, 1, keep_the_interpreter))
    link = job.join(0)
    assert link.gather("", "observe") == ["", "done"]
    with pytest.raises(LostRankError, match="Native code in it does not let its other threads run"):
        link.gather("", "observe more")


def test_a_slow_rank_that_is_alive_is_waited_for(job_of, monkeypatch):
    for module in (listening, peer):
        monkeypatch.setattr(module, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(listening, "_PING_SECONDS", 0.1)

    def work(link):
        time.sleep(1.2 * link.world.rank)
        return link.gather(link.world.rank, "observe")

    assert job_of(2).all(work)[0] == [0, 1]
