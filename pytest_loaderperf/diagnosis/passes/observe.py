"""One pass over a loader: epochs, with everything that watches them, in a process that does nothing else.

A pass counts (``counts``) or times. Worker processes write what they saw to a folder; this process adds it up.
"""

from __future__ import annotations

import gc
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import util
from pathlib import Path
from typing import Any

import torch

from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Ledger
from pytest_loaderperf.diagnosis.passes.changes import Change, Changed
from pytest_loaderperf.diagnosis.passes.events import Events
from pytest_loaderperf.diagnosis.passes.facts import (
    copy_ns,
    descriptors,
    loader_facts,
    open_files,
    own_nbytes,
    shared_areas,
)
from pytest_loaderperf.diagnosis.passes.keeping import kept_in_memory, moved
from pytest_loaderperf.diagnosis.passes.pieces import events_of, in_made_samples, sites_of, stages_of
from pytest_loaderperf.diagnosis.passes.recorder import Recorder
from pytest_loaderperf.diagnosis.passes.rewriting import Instrument
from pytest_loaderperf.diagnosis.passes.settings import check_applied, remade
from pytest_loaderperf.diagnosis.passes.spans import EPOCH, OF_QUEUE, Spans
from pytest_loaderperf.diagnosis.passes.torch_parts import TorchParts, end_workers
from pytest_loaderperf.diagnosis.passes.values import digest
from pytest_loaderperf.diagnosis.timeline import Timeline, queue_seen
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.counting import Declared, counter
from pytest_loaderperf.measurement.factory import call_factory, is_factory

_WRITES_EVERY_NS = 200_000_000  # at most; a worker that is killed loses what it saw since
EPOCHS = 3  # growth from one epoch to the next shows in three
_COMPARED = 4  # batches
_FEWEST_EPOCHS, _MOST_EPOCHS = 2, 64  # of a pass that is compared with another one
_ENOUGH_SECONDS = 0.3  # of such a pass: short epochs are repeated for so long, because one tells little
_LONGER = 3  # times its seconds, that such a pass may take beyond them for its epochs
_MARGIN = 1.3  # times the longest epoch so far: what the next one may take
_SETTLES_SECONDS = 1.0  # for threads that end shortly after an epoch


class Pass:
    """One pass, in this process: ``run`` returns its part of the ledger.

    ``step_seconds``: what the consumer takes for each batch. ``traced``: keeps what every thread does when.
    """

    def __init__(
        self,
        source: object,
        folder: Path,
        *,
        counts: bool,
        count: Callable[[Any], int] | None = None,
        threads: int | None = None,
        change: Change | None = None,
        compared: bool = False,
        keeps: bool = False,
        moves: bool = False,
        step_seconds: float = 0.0,
        traced: bool = False,
    ) -> None:
        self._source, self._folder, self._counts, self._count, self._threads = source, folder, counts, count, threads
        self._change, self._compared, self._step_seconds = change, compared, step_seconds
        self._keeps, self._moves = keeps, moves
        self._changed: Changed | None = None
        self._weighs = not (counts or compared)  # to ask for a process's memory takes milliseconds
        self._recorder, self._events = Recorder(), Events()
        self._spans = Spans(None if traced else () if counts or compared else OF_QUEUE)
        recorder = self._recorder
        self._instrument = Instrument(recorder.register, recorder)
        self._parts = TorchParts(self._worker_batch, self._forked, recorder.paused_ns, recorder.in_stage, self._spans)
        self._wrote_ns = self._forked_nbytes = 0
        self._opened_before: frozenset[tuple[str, int]] = frozenset()
        self._digests: list[str | None] = []

    def run(self, seconds: float, epochs: int) -> Ledger:
        """Iterate for at most ``seconds`` or ``epochs`` epochs, at least one batch. Raises what the loader raises."""
        gc.unfreeze()  # functions that are frozen would not be found
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        self._opened_before = open_files()
        self._parts.install(stages=not self._compared)
        self._events.watch_collections(self._spans.collected)
        if self._spans.all:
            self._spans.watch_threads()
        if self._counts:
            self._instrument()
            gc.freeze()  # what was there before is not the loader's
            self._events.install()
        if self._change is not None:
            self._changed = Changed(self._change)
            Instrument(self._change.register, self._changed, self._change.rewriter, only=self._change.file)()
            self._parts.settings = self._change.settings
            torch.set_num_threads(self._change.settings.get("threads", torch.get_num_threads()))
        loader = call_factory(self._source, "loader") if is_factory(self._source) else self._source
        check_applied(self._parts.settings, applied=self._parts.applied)
        loader = remade(loader, self._parts.settings)
        if self._counts:
            self._instrument()
        seen, batch = self._iterate(loader, seconds, epochs)
        if not seen:
            raise LoaderError(
                "expected at least one batch to observe, got an empty epoch. Give a dataset with samples."
            )
        ledger = self._ledger(loader, seen, batch)
        changed = self._changed
        if changed and self._change and not (self._change.settings or changed.used or ledger.stages.by_worker):
            raise LoaderError(f"expected line {self._change.line} to be reached, got no call of it to change.")
        if not self._counts and not self._compared and not self._keeps:
            ledger = replace(ledger, copy_ns=copy_ns(batch))
        del loader
        return ledger

    def _iterate(self, loader: Any, seconds: float, epochs: int) -> tuple[list[EpochSeen], Any]:
        """Whole epochs, so that counts are exact, but for a first one that takes longer than ``seconds``."""
        least = _FEWEST_EPOCHS if self._change is not None or self._compared else 1
        deadline = time.perf_counter() + seconds
        latest = deadline if least == 1 else deadline + _LONGER * seconds
        seen: list[EpochSeen] = []
        self._recorder.starting = self._events.starting = False
        first: Any = None
        longest = 0.0
        enough = time.perf_counter() + (_ENOUGH_SECONDS if self._compared else 0.0)
        while (
            len(seen) < epochs or (len(seen) < _MOST_EPOCHS and time.perf_counter() < enough)
        ) and time.perf_counter() + _MARGIN * longest < (deadline if len(seen) >= least else latest):
            began = time.perf_counter()
            epoch, batch = self._epoch(loader, math.inf if seen else latest, keeps=first is None)
            self._spans.add(EPOCH, round(began * 1e9), time.perf_counter_ns(), -1, what=f"epoch {len(seen) + 1}")
            longest = max(longest, time.perf_counter() - began)
            first = batch if first is None else first
            if epoch.batches == 0:
                break
            seen.append(epoch)
            if not epoch.whole:
                break
        self._recorder.starting = self._events.starting = True
        return seen, first

    def _epoch(self, loader: Any, deadline: float, *, keeps: bool) -> tuple[EpochSeen, Any]:
        paused_ns = self._recorder.paused_ns if self._changed is None else self._changed.paused_ns

        def clock() -> int:
            return time.perf_counter_ns() - paused_ns()

        samples = batches = waits = first_ns = last_ns = steps = step = 0
        spans, kept = self._spans, None
        began = clock()
        iterator: Iterator[Any] = iter(loader)
        spans.add("start", began, clock(), -1)
        whole = False
        while True:
            spans.batch = batches
            asked = clock()
            try:
                batch = next(iterator) if not self._moves else moved(next(iterator))
            except StopIteration:
                whole = True
                break
            came = clock()
            spans.add("next", asked, came)
            steps += step
            if batches == 0:
                first_ns, kept = came - began, batch if keeps else None
            else:
                last_ns = came - asked
                waits += last_ns
            samples += self._samples(loader, batch)
            if self._counts and len(self._digests) < _COMPARED:
                self._digests.append(digest(batch))
            step = self._consume()
            batches += 1
            if time.perf_counter() > deadline:
                break
        last = clock() if not whole else asked
        del iterator
        batch = None
        ended = clock()
        exit_ns = ended - last
        spans.add("end", last, ended, -1)
        if self._counts:
            gc.collect()
            self._instrument()
        self._settle()
        self._events.epoch_ended()
        self._recorder.epoch_ended()
        if self._changed is not None:
            self._changed.epoch_ended()
        left = descriptors(), steps, shared_areas(), last_ns
        return EpochSeen(batches, samples, first_ns, waits, exit_ns, whole, *left), kept

    def _consume(self) -> int:
        """Take as long as a training step on an accelerator, which leaves the CPU to the loader."""
        if not self._step_seconds:
            return 0
        began = time.perf_counter_ns()
        time.sleep(self._step_seconds)
        ended = time.perf_counter_ns()
        self._spans.add("consumer", began, ended)
        return ended - began

    def _settle(self) -> None:
        """Give threads that are about to end the time to do so."""
        before, until = threading.active_count(), time.perf_counter() + _SETTLES_SECONDS
        while self._counts and threading.active_count() > 1 and time.perf_counter() < until:
            time.sleep(0.02)
            now = threading.active_count()
            if now == before and time.perf_counter() > until - _SETTLES_SECONDS / 2:
                break
            before = now

    def _samples(self, loader: Any, batch: Any) -> int:
        try:
            if self._count is None:
                self._count = counter(batch, Declared.by(loader))
            return int(self._count(batch))
        except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
            return 1

    # In workers

    def _forked(self) -> None:
        self._recorder.forget()
        self._events.forget()
        self._recorder.is_worker = self._events.is_worker = True
        self._forked_nbytes = own_nbytes() if self._weighs else 0
        util.Finalize(None, self._write, kwargs={"final": True}, exitpriority=100)

    def _worker_batch(self) -> None:
        now = time.perf_counter_ns()
        if now - self._wrote_ns > _WRITES_EVERY_NS:
            self._write()
            self._wrote_ns = time.perf_counter_ns()

    def _write(self, *, final: bool = False) -> None:
        info = torch.utils.data.get_worker_info()
        file = self._folder / f"{os.getpid()}.json"
        with suppress(OSError):
            self._spans.write(file.with_suffix(".spans"), final=final)
            piece = {**self._piece(), "worker": info.id if info is not None else -1}
            part = file.with_suffix(".part")
            part.write_text(json.dumps(piece))
            part.rename(file)

    def _piece(self) -> dict[str, Any]:
        parts = self._parts
        return {
            "sites": self._recorder.sites() if self._counts else [],
            "events": self._events.found(),
            "gc_ns": self._events.gc_ns,
            "ns": parts.ns,
            "batches": parts.batches,
            "samples": parts.samples,
            "durations_ns": parts.durations_ns,
            "sent_tensors": parts.sent_tensors,
            "sent_nbytes": parts.sent_nbytes,
            "first_sample": parts.first_sample,
            "threads": torch.get_num_threads(),
            "grown_nbytes": own_nbytes() - self._forked_nbytes if self._weighs and self._recorder.is_worker else 0,
            "process": os.getpid(),
            "tracks": self._spans.names(),
            "full_ns": self._spans.full_ns,
        }

    def _ledger(self, loader: Any, seen: list[EpochSeen], batch: Any) -> Ledger:
        end_workers(self._parts.loaders)
        pieces = [json.loads(file.read_text()) for file in sorted(self._folder.glob("*.json"))]
        main = self._piece()
        everything = [main, *pieces]
        facts = loader_facts(loader, self._parts, batch, self._opened_before)
        if self._keeps:
            facts = replace(facts, cuda=torch.cuda.is_available(), **kept_in_memory(loader))
        seen = in_made_samples(seen, everything)
        made = [sum(piece[name] for piece in everything) for name in ("samples", "batches")]
        timeline = self._spans.timeline(self._folder, pieces)
        batches = seen[-1].batches
        return Ledger(
            loader=facts,
            samples=max(sum(epoch.samples for epoch in seen), made[0]),
            batches=max(sum(epoch.batches for epoch in seen), made[1]),
            epochs=len(seen),
            whole_epochs=sum(epoch.whole for epoch in seen),
            cores=usable_cores(),
            constant=len(self._digests) > 1 and len(set(self._digests)) == 1,
            gc_ns=sum(piece["gc_ns"] for piece in everything),
            sites=sites_of(everything),
            events=events_of(everything),
            stages=stages_of(main, pieces),
            counted_ns={
                **stages_of(main, pieces).ns,
                "all": sum(epoch.first_ns + epoch.waits_ns for epoch in seen),
            },
            timed=tuple(seen),
            counted=tuple(seen),
            queue=queue_seen(timeline, facts.num_workers * (facts.prefetch_factor or 0)),
            timeline=timeline if self._spans.all else Timeline(),
            unseen=()
            if seen[-1].whole
            else (f"the end of an epoch: the time was enough for {batches} batch{'es' * (batches != 1)}",),
        )
