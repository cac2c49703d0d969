"""The rules of the loader doctor, on ledgers at their thresholds and on those just beside, where they are silent."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt

import pytest

from pytest_loaderperf.diagnosis.findings import _LEAST_LEFT, _SPREAD, Finding, Gain, nearest_causes, predicted
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Event, Ledger, LoaderFacts, Site, Stages, Value
from pytest_loaderperf.diagnosis.rules import RULES, findings_of
from pytest_loaderperf.diagnosis.rules.reading import often

MS = 1_000_000
KIB, MIB = 1 << 10, 1 << 20
RULE_OF = {rule.id: rule for rule in RULES}
EPOCH = EpochSeen(batches=3, samples=96, first_ns=10 * MS, waits_ns=90 * MS, exit_ns=0, whole=True)
COUNTED = {"all": 300 * MS, "fetch": 200 * MS, "collate": 60 * MS, "send": 40 * MS}
LOADER = LoaderFacts(torch_like=True, batch_size=32, dataset="Rows", batch_nbytes=KIB, file="train.py", line=7)
LOADER = replace(LOADER, dataset_file="data.py", dataset_line=3)
PLAIN = Ledger(LOADER, samples=288, batches=9, epochs=3, whole_epochs=3, counted_ns=COUNTED, timed=(EPOCH,) * 3)


def ledger(*sites, loader=None, stages=None, **changes):
    """Of a plain loader: 3 epochs of 100 ms, 96 samples in batches of 32. A site of 15 ms takes 5 % of the time."""
    parts = {"loader": replace(LOADER, **(loader or {})), "stages": Stages(batches=9, **(stages or {}))}
    return replace(PLAIN, sites=sites, **parts, **changes)


def site(callee, per_sample=1, **changes):
    made = Site("data.py", 12, "Rows.__getitem__", "call", callee, count=int(288 * per_sample), total_ns=15 * MS)
    return replace(made, **changes)


def event(kind, count=288, **changes):
    return replace(Event(kind, "data.py", 14, "Rows.__getitem__", count=count), **changes)


A_BATCH = 1 / 32  # of a batch, for each sample
IMAGE, FLOATS, NARROW = Value(dtype="uint8"), Value("", "float64", 256), Value("", "float32", 256)
SHORT, WHOLE = replace(NARROW, items=255), Value("ndarray", nbytes=256 * KIB)
ONE, SIXTEEN, NUMBERS = Value(items=1), Value("Tensor", items=16, dims=1), Value("list", items=16, numbers=True)
TABLE = replace(WHOLE, type="DataFrame")
ROWS_OF = {"same_operand": 4, "looked_at": 9, "total_ns": 6 * MS, "largest": replace(TABLE, items=256)}
LIST, HALF = Value("list", items=256), Value("ndarray", nbytes=128 * KIB)
LOOP = site("iter", kind="loop", function="Rows.__iter__")
INFO = site("torch.utils.data.get_worker_info", function="Rows.__iter__", line=11)
NOT_ITER = replace(LOOP, file="f.py"), replace(LOOP, function="f"), replace(LOOP, line=2)
EQUAL, ALIKE = {"compared": 4, "equal": 4}, {"alike": 5, "looked_at": 5, "result": Value(nbytes=64)}
READ = {"same_operand": 4, "scans": 5, "looked_at": 9, "total_ns": 6 * MS}
KEPT = {"checked": 1, "kept": 1, "aliases": 4, "looked_at": 8, "total_ns": 3 * MS}
COPIED = KEPT | {"argument": Value("ndarray", "float32"), "result": Value("Tensor", "float32", nbytes=KIB)}
TURNED, COPY = {"argument": Value("Tensor", "float32", contiguous=False)}, {"argument": WHOLE, "result": WHOLE}
ZARR = site("zarr.Array.__getitem__", kind="item", known=4, result=Value(nbytes=4 * KIB))
CALLED = site("data.mel_bank", user="data.py:20", own_ns=2 * MS, **ALIKE)
MADE = site("data.mel_bank", user="data.py:20", known=8, keyed=10, looked_at=10)
PARTS_OF_IT = [
    site("Sub", line=21 + n, function="mel_bank", kind="operator", **ALIKE | {"total_ns": 7 * MS}) for n in (0, 1)
]
IN_CHUNKS = Value("Dataset", nbytes=MIB + 1, chunk_nbytes=4 * KIB)
CHUNKED = replace(ZARR, argument=IN_CHUNKS, result=Value("ndarray", nbytes=KIB), total_ns=60 * MS, known=0)
SORTED, PARSED = site("sorted", largest=LIST, **EQUAL), site("json.loads", 1, total_ns=30 * MS, **EQUAL)
POOL, OPENED = site("futures.ThreadPoolExecutor", line=13), (event("open", 9, distinct=1),)
NOT_POOLS = replace(POOL, function="f"), replace(POOL, count=0), replace(POOL, callee="f")
DIVIDED = site("Div", kind="operator", argument=IMAGE, result=FLOATS, dtypes=("uint8",))
NARROWED = site("numpy.ndarray.astype", line=13, largest=FLOATS, result=NARROW)
WIDENED = site("numpy.float64", in_workers=144, largest=NARROW, result=Value("", "float64", 0, 64 * KIB))
JOINED = replace(WIDENED, count=9, in_workers=9, result=Value("", "float64", 0, 2 * MIB), largest=ONE, argument=NARROW)
GET = site("queue.Queue.get", longest_ns=40 * MS)
NOT_WAITS = replace(GET, longest_ns=39 * MS), replace(GET, user="data.py:20"), replace(GET, callee="f")
DRAWN = site("numpy.random.Generator.normal", random_states=("a", "b", "a"), in_workers=3, made_at="augment.py:5")
STATE = replace(DRAWN, callee="numpy.random.mtrand.RandomState.rand", made_at="")
SEEDED = site("numpy.random.seed", line=9, in_workers=2, processes=2)
TWO, STREAM = {"num_workers": 2}, {"num_workers": 2, "iterable": True}
SHARED = {"batch_size": 8, "shared_samples": True, "sample_nbytes": 64 * KIB}
ROWS = site("torch.Tensor.__getitem__", 0.5, aliases=1)
NOT_ROWS = replace(ROWS, count=143), replace(ROWS, aliases=0), replace(ROWS, user="data.py:20")
HIDDEN = {"hidden_getitems": "Rows", "dataset": "Subset"}
WRAPPERS = [site(f"torch.utils.data.{name}", 0, in_start=1) for name in ("ConcatDataset", "Subset")]
NOT_ASKED = site("data.Rows.__getitem__", count=143), ROWS, site("data.Subset"), site("data.Other", in_start=1)
LOCKED, COLLATE = {"total_ns": 75 * MS, "in_helper_thread": 1}, {"collate_file": "data.py", "collate_line": 30}
FETCHED = {"ns": {"fetch": 28_800_000}}
EVEN = {"by_worker": {"0": 144, "1": 144}, "first_samples": {"0": "a", "1": "a"}}
SLOW = {"ns": {"fetch": 200 * MS}, "slow_batches": 3, "slow_share": 0.3}
LONG = (replace(EPOCH, first_ns=40 * MS, waits_ns=40 * MS),) * 3
LONGER = (replace(EPOCH, first_ns=80 * MS, waits_ns=110 * MS, exit_ns=5 * MS),) * 3
LATE = (replace(EPOCH, waits_ns=800 * MS, exit_ns=100 * MS),) * 3
OBJECTS = {"objects": 100_000, "objects_name": "files", "objects_file": "data.py", "objects_line": 5}
UNPLACED = {"objects_file": "", "objects_line": 0}
ON_CPU, ON_GPU = (Value("Tensor", "float32", nbytes=64 * KIB, device=device) for device in ("cpu", "cuda"))
AREAS = tuple(replace(EPOCH, shared=4 + n) for n in range(3))
MORE = [tuple(replace(EPOCH, descriptors=n * step) for n in range(3)) for step in (1, 2)]

SPEAKS = {  # a rule, or a case of it, and a ledger where it speaks
    "executor-per-item": ledger(POOL, events=(event("thread", 1152),)),
    "executor-per-item: elsewhere": ledger(*NOT_POOLS, events=(event("thread", 9),)),
    "process-per-item": ledger(events=(event("process"),)),
    "file-reopened": ledger(events=OPENED),
    "file-reopened: call": ledger(site("numpy.load", line=14, path_calls=9, paths=1), events=OPENED),
    "file-reopened: unheard": ledger(site("pandas.read_csv", path_calls=288, paths=63)),
    "read-amplification": ledger(ZARR, loader={"sample_nbytes": KIB}),
    "read-amplification: archive": ledger(replace(ZARR, callee="numpy.NpzFile.__getitem__")),
    "read-amplification: chunk": ledger(CHUNKED, loader={"shuffle": True}),
    "read-amplification: files": ledger(site("zarr.Array.get", line=14), events=OPENED),
    "read-amplification: once": ledger(replace(ZARR, line=14), events=OPENED, loader={"sample_nbytes": KIB}),
    "repeated-work": ledger(site("json.loads", count=1500, known=35, keyed=40, **EQUAL)),
    "repeated-work: alike": ledger(site("made", kind="comprehension", keyed=9, **ALIKE)),
    "repeated-work: spread": ledger(CALLED, *PARTS_OF_IT),
    "repeated-work: unknown": ledger(CALLED, replace(PARTS_OF_IT[0], total_ns=14 * MS, alike=0)),
    "repeated-work: object": ledger(MADE, *(replace(one, own_ns=5 * MS) for one in PARTS_OF_IT)),
    "repeated-work: own": ledger(site("data.parse", user="data.py:20", aliases=1, own_ns=7.5 * MS, **EQUAL)),
    "scan-per-item": ledger(site("list.index", largest=LIST, **READ), loader={"dataset_items": 512}),
    "scan-per-item: loop": ledger(site("iter", kind="loop", total_ns=0, same_operand=1, largest=LIST)),
    "scan-per-item: in": ledger(site("In", kind="operator", same_operand=1, largest=LIST)),
    "scan-per-item: grown": ledger(site("NotIn", same_operand=1, largest=LIST), loader={"dataset_items": 900}),
    "scan-per-item: rows": ledger(site("pandas.DataFrame.__getitem__", kind="item", dtypes=("bool",), **ROWS_OF)),
    "scan-per-item: equal": ledger(site("Eq", kind="operator", largest=Value("Tensor", items=256), **READ)),
    "scan-per-item: order": ledger(site("torch.randperm", result=Value(items=256))),
    "scan-per-item: made": ledger(SORTED, PARSED, loader={"dataset_items": 128}),
    "arrow-to-python": ledger(site("pyarrow.lib.Array.to_pylist", A_BATCH, result=Value("list", items=16))),
    "arrow-to-python: rows": ledger(site("pyarrow.lib.Table.to_pydict", result=Value("dict", items=2, nested=16))),
    "arrow-to-python: scalars": ledger(site("pyarrow.lib.Int64Scalar.as_py", 4)),
    "arrow-to-python: short": ledger(site("pyarrow.lib.ListScalar.as_py", 4, result=Value("list", items=1))),
    "element-by-element": ledger(site("torch.Tensor.item", 4, argument=ONE)),
    "element-by-element: float": ledger(site("builtins.float", 4, argument=replace(ONE, type="Tensor"))),
    "element-by-element: loop": ledger(site("iter", kind="loop", argument=SIXTEEN)),
    "element-by-element: tolist": ledger(site("torch.Tensor.tolist", argument=SIXTEEN, result=NUMBERS)),
    "element-by-element: subscript": ledger(site("numpy.ndarray.__getitem__", 16, kind="item", result=ONE)),
    "list-to-array": ledger(site("torch.tensor", argument=NUMBERS, result=Value(items=2))),
    "list-to-array: arrays": ledger(site("torch.tensor", argument=Value("list", "", 3, 1), result=Value(items=2))),
    "needless-copy": ledger(site("torch.tensor", **COPIED)),
    "needless-copy: batch": ledger(site("torch.tensor", A_BATCH, **COPIED | {"total_ns": 15 * MS})),
    "needless-copy: layout": ledger(site("torch.Tensor.contiguous", **COPIED | TURNED)),
    "needless-copy: asdict": ledger(site("dataclasses.asdict", growing=3, **KEPT)),
    "needless-copy: deepcopy": ledger(site("copy.deepcopy", growing=3, **KEPT)),
    "float64-round-trip": ledger(DIVIDED, NARROWED),
    "float64-round-trip: two": ledger(replace(DIVIDED, largest=FLOATS), NARROWED),  # of two operators in one line
    "growing-concatenation": ledger(site("torch.cat", grows=5, looked_at=9)),
    "growing-concatenation: lists": ledger(site("Add", kind="operator", grows=5, looked_at=9, result=LIST)),
    "dataset-copied-per-epoch": ledger(site("numpy.take", count=6, argument=HALF, result=WHOLE)),
    "dataset-copied-per-epoch: table": ledger(site("pandas.DataFrame.sample", count=3, argument=HALF, result=TABLE)),
    "dataset-copied-per-epoch: two": ledger(site("list.__getitem__", count=12, kind="item", **COPY), loader=TWO),
    "snapshot-per-batch": ledger(site("pickle.dumps", A_BATCH, result=Value(nbytes=64 * KIB))),
    "snapshot-per-batch: grows": ledger(site("copy.deepcopy", growing=4, looked_at=8)),
    "sample-by-sample": ledger(ROWS, loader=SHARED, stages=FETCHED),
    "sample-by-sample: loops": ledger(ROWS, loader=SHARED | {"has_getitems": True}, stages=FETCHED),
    "sample-by-sample: nowhere": ledger(*NOT_ROWS, loader=SHARED, stages=FETCHED),
    "hidden-getitems": ledger(site("data.Rows.__getitem__", 0.5), loader=HIDDEN),
    "hidden-getitems: wrapper": ledger(site("torch.utils.data.Subset", 0, in_start=1), loader=HIDDEN),
    "hidden-getitems: inner": ledger(*WRAPPERS, loader=HIDDEN | {"hiding": "ConcatDataset"}),
    "hidden-getitems: nowhere": ledger(*NOT_ASKED, loader=HIDDEN),
    "workers-restarted": ledger(loader=TWO, timed=LONG[:2], stages=EVEN),
    "workers-restarted: long": ledger(loader=TWO, timed=LONGER, stages=EVEN),
    "pickled-dataset": ledger(loader=TWO | {"start_method": "spawn", "pickled_nbytes": 8 * MIB}),
    "shallow-prefetch": ledger(loader=TWO | {"prefetch_factor": 2}, stages=SLOW),
    "too-many-threads": ledger(
        site("f"), site("cv2.setNumThreads", 0), loader=TWO, cores=3, stages={"threads": {"0": 1, "1": 2}}
    ),
    "too-many-threads: set": ledger(site("cv2.setNumThreads", 0, in_start=1), stages={"threads": {"0": 2}}),
    "objects-in-workers": ledger(loader=TWO | OBJECTS, stages={"grown_nbytes": 4 * MIB}),
    "objects-in-workers: nowhere": ledger(loader=TWO | OBJECTS | UNPLACED, stages={"grown_nbytes": 9 * MIB}),
    "lock-contention": ledger(site("lock", **LOCKED), counted=PLAIN.timed),
    "lock-contention: acquire": ledger(site("_thread.lock.acquire", **LOCKED), counted=PLAIN.timed),
    "many-small-tensors": ledger(stages={"sent_tensors": 64, "sent_nbytes": 64 * KIB}),
    "many-small-tensors: collate": ledger(loader=COLLATE, stages={"sent_tensors": 64, "sent_nbytes": 2 * MIB}),
    "large-hand-over": ledger(WIDENED, loader=TWO, stages={"sent_nbytes": 4 * MIB}),
    "large-hand-over: batch": ledger(JOINED, stages={"sent_nbytes": 4 * MIB}),
    "sync-per-batch": ledger(site("torch.Tensor.item", A_BATCH, argument=ON_GPU)),
    "sync-per-batch: int": ledger(site("builtins.int", argument=ON_GPU)),
    "sync-per-batch: to": ledger(site("torch.Tensor.to", A_BATCH, argument=ON_GPU, result=ON_CPU)),
    "sync-per-batch: wait": ledger(site("torch.cuda.synchronize", A_BATCH)),
    "pageable-copy": ledger(site("torch.Tensor.to", A_BATCH, argument=ON_CPU, result=ON_GPU)),
    "pageable-copy: samples": ledger(site("torch.Tensor.cuda", argument=ON_CPU, result=replace(ON_GPU, nbytes=64))),
    "sleeping": ledger(site("time.sleep", A_BATCH)),
    "slow-exit": ledger(GET, replace(GET, line=13, in_helper_thread=1, longest_ns=50 * MS), timed=LATE),
    "slow-exit: nowhere": ledger(*NOT_WAITS, timed=LATE),
    "thread-leak": ledger(events=(event("thread", 0, alive=(1, 2, 3)),)),
    "process-leak": ledger(events=(event("process", 0, alive=(2, 4)),)),
    "descriptor-leak": ledger(events=(event("open", 2),), timed=MORE[0]),
    "descriptor-leak: call": ledger(site("builtins.open", path_calls=3), timed=MORE[1]),
    "shared-memory-leak": ledger(site("multiprocessing.shared_memory.SharedMemory", count=3), timed=AREAS),
    "memory-kept": ledger(site("list.append", count=5, holds=5, processes=2), whole_epochs=2),
    "memory-kept: store": ledger(site("dict.__setitem__", kind="store", count=20, holds=9, processes=2)),
    "same-random-numbers": ledger(DRAWN),
    "same-random-numbers: seed": ledger(STATE, SEEDED),
    "same-random-numbers: no seed": ledger(STATE, replace(SEEDED, processes=1)),
    "idle-workers": ledger(replace(INFO, callee="open"), LOOP, loader=STREAM, stages={"by_worker": {"0": 196, "1": 4}}),
    "idle-workers: nowhere": ledger(loader=STREAM, stages={"by_worker": {"0": 200}}),
    "duplicated-data": ledger(INFO, replace(INFO, callee="open", line=13), *NOT_ITER, loader=STREAM, stages=EVEN),
    "gc-pauses": ledger(site("gc.collect", A_BATCH), gc_ns=9 * MS),
}

SAYS = [  # where, how often, and words of the message
    ("executor-per-item", "data.py:13: 1 ThreadPoolExecutors a sample", "a ThreadPoolExecutor is made for every sa"),
    ("executor-per-item: elsewhere", "data.py:14: 1 threads a batch", "1 thread is started and ended for every"),
    ("process-per-item", "data.py:14: 1 processes a sample", "1 process is started and ended for every sample"),
    ("file-reopened", "data.py:14: 1 opens a batch", "open() opens the same file again: once a batch"),
    ("file-reopened: call", "data.py:14: 1 opens a batch", "numpy.load() opens the same file again"),
    ("file-reopened: unheard", "data.py:12: 1 opens a sample", "pandas.read_csv() opens the same 63 files again"),
    ("read-amplification", "data.py:12: 1 reads a sample", "zarr.Array[...] reads a piece of 4,096 bytes, once a"),
    (
        "read-amplification: chunk",
        "data.py:12: 1 reads a sample",
        "reads 1,024 bytes of a chunk of 4,096, once a sample",
    ),
    ("read-amplification: files", "data.py:14: 1 reads a batch", "zarr.Array.get() reads the same"),
    ("read-amplification: once", "data.py:14: 1 reads a batch", "again and again: 1 a batch, 9 in all"),
    ("repeated-work", "data.py:12: 5.21 times a sample", "json.loads() gives the same result 5.2 times a sample"),
    ("repeated-work: alike", "data.py:12: 1 times a sample", "this expression gives the same result"),
    ("scan-per-item", "data.py:12: 1 scans a sample", "list.index() goes through 256 elements, once a sample"),
    (
        "repeated-work: spread",
        "data.py:12: 1 times a sample",
        "data.mel_bank() gives the same result once a sample, in 5%",
    ),
    ("scan-per-item: loop", "data.py:12: 1 scans a sample", "a loop goes through 256 elements"),
    ("scan-per-item: in", "data.py:12: 1 scans a sample", "a comparison goes through 256 elements"),
    ("arrow-to-python", "data.py:12: 1 calls a batch", "Array.to_pylist() makes Python objects of Arrow data, once"),
    ("element-by-element", "data.py:12: 4 elements a sample", "torch.Tensor.item() takes single elements of an array"),
    ("element-by-element: loop", "data.py:12: 1 arrays a sample", "a loop takes elements of an array one by one: 16 a"),
    ("element-by-element: tolist", "data.py:12: 1 arrays a sample", "torch.Tensor.tolist() takes elements of an array"),
    ("element-by-element: subscript", "data.py:12: 16 elements a sample", "numpy.ndarray[...] takes single elements"),
    ("list-to-array", "data.py:12: 1 lists a sample", "torch.tensor() reads a Python list of 16 numbers, once"),
    ("list-to-array: arrays", "data.py:12: 1 lists a sample", "a Python list of 3 arrays, element by element"),
    ("needless-copy", "data.py:12: 1 copies a sample", "torch.tensor() copies what nothing modifies afterwards: once"),
    ("needless-copy: batch", "data.py:12: 1 copies a batch", "once a batch, 1,024 bytes each"),
    (
        "float64-round-trip",
        "data.py:12: 1 arrays a sample",
        "the operator / makes float64 of uint8, and line 13 makes float32 of it",
    ),
    ("float64-round-trip: two", "data.py:12: 1 arrays a sample", "the operator / makes float64 of uint8, and line 13"),
    ("growing-concatenation", "data.py:12: 1 joins a sample", "torch.cat() in a loop copies all that it joined before"),
    ("dataset-copied-per-epoch", "data.py:12: 2 copies an epoch", "numpy.take() copies the whole dataset, 262,144 byt"),
    ("snapshot-per-batch", "data.py:12: 1 snapshots a batch", "pickle.dumps() copies 65,536 bytes of state, once"),
    (
        "snapshot-per-batch: grows",
        "data.py:12: 1 snapshots a sample",
        "copy.deepcopy() copies a state that grows, once",
    ),
    ("sample-by-sample", "data.py:12: 8 fetches a batch", "Rows gives rows of one array one at a time: 8 fetches"),
    ("sample-by-sample: nowhere", "train.py:7: 8 fetches a batch", "Rows gives rows of one array"),
    ("hidden-getitems", "data.py:12: 32 calls a batch", "Subset asks Rows for one sample at a time, and hides its"),
    ("hidden-getitems: wrapper", "data.py:12: 32 calls a batch", "32 calls a batch instead of one"),
    ("hidden-getitems: inner", "data.py:12: 32 calls a batch", "ConcatDataset asks Rows for one sample at a time"),
    ("hidden-getitems: nowhere", "data.py:3: 32 calls a batch", "Subset asks Rows"),
    ("workers-restarted", "train.py:7: 2 processes an epoch", "2 workers start and end in every epoch: 25% of its"),
    ("pickled-dataset", "train.py:7: 16,777,216 bytes a start", "spawn pickles 8,388,608 bytes of Rows for each of 2"),
    ("shallow-prefetch", "train.py:7: 2 batches ahead a worker", "prefetch_factor=2: workers are idle 63% of the time"),
    ("too-many-threads", "train.py:7: 4 threads", "each of 2 workers uses 2 threads for an operation: 4 on 3 cores"),
    ("too-many-threads: set", "data.py:12: 2 threads", "2 on 1 cores"),
    (
        "objects-in-workers",
        "data.py:5: 100,000 objects",
        "Rows holds 100,000 Python objects in files: each worker copies",
    ),
    ("objects-in-workers: nowhere", "data.py:3: 100,000 objects", "of those that it looks at, 9 MiB so far"),
    ("lock-contention", "data.py:12: 0.25 seconds a second", "threads wait for this lock for 0.2 s of every second"),
    ("many-small-tensors", "train.py:7: 64 tensors a batch", "crosses processes as 64 tensors of 1,024 bytes"),
    ("many-small-tensors: collate", "data.py:30: 64 tensors a batch", "64 tensors of 32,768 bytes"),
    ("large-hand-over", "data.py:12: 4,194,304 bytes a batch", "numpy.float64() makes samples 2 times as large before"),
    ("sync-per-batch", "data.py:12: 1 waits a batch", "torch.Tensor.item() waits until the GPU has done all"),
    ("sync-per-batch: int", "data.py:12: 1 waits a sample", "int() waits until the GPU has done all that it was given"),
    (
        "pageable-copy",
        "data.py:12: 1 copies a batch",
        "copies memory that is not pinned to the GPU, 65,536 bytes a batch",
    ),
    ("pageable-copy: samples", "data.py:12: 1 copies a sample", "to the GPU, each sample alone"),
    ("sleeping", "data.py:12: 1 sleeps a batch", "waits for 5% of the time: 9 sleeps of 1.7 ms in 9 batches"),
    ("slow-exit", "data.py:12: 0.1 seconds an epoch", "0.10 s after its last batch, 11% of its time; its thread waits"),
    ("slow-exit: nowhere", "train.py:7: 0.1 seconds an epoch", "11% of its time"),
    ("thread-leak", "data.py:14: 1 threads an epoch", "1 thread of this line still runs after each epoch, 3 after"),
    ("process-leak", "data.py:14: 2 processes an epoch", "2 processes of this line still run after each epoch, 4"),
    ("descriptor-leak", "data.py:14: 1 descriptors an epoch", "1 file more is open after each epoch"),
    ("descriptor-leak: call", "data.py:12: 2 descriptors an epoch", "2 files more are open after each epoch"),
    ("shared-memory-leak", "data.py:12: 1 areas an epoch", "SharedMemory() leaves 1 area of shared memory after each"),
    ("memory-kept", "data.py:12: 1.67 objects an epoch", "list.append() keeps 2 objects more in every epoch, 5 so far"),
    ("memory-kept: store", "data.py:12: 6.67 objects an epoch", "this assignment keeps 7 objects more in every epoch"),
    (
        "same-random-numbers",
        "augment.py:5: 2 worker processes",
        "Generator.normal() starts from the same state in 2 worker processes",
    ),
    ("same-random-numbers: seed", "data.py:9: 2 worker processes", "RandomState.rand() starts from the same state"),
    ("same-random-numbers: no seed", "data.py:12: 2 worker processes", "RandomState.rand() starts from the same state"),
    ("idle-workers", "data.py:12: 1 workers", "1 of 2 workers get no data: 1 makes all 200 samples"),
    ("idle-workers: nowhere", "data.py:3: 1 workers", "1 of 2 workers get no data"),
    ("duplicated-data", "data.py:13: 2 times a sample", "each of 2 workers gives the same 48 samples: every sample"),
    ("gc-pauses", "data.py:12: 1 collections a batch", "gc.collect() runs once a batch, in 3% of the time"),
]


def beside(name, *together, **changes):
    """Changes of a case's ledger that silence it, each alone: a list has several. Those of a dict go together."""
    each = [(key, v) for key, values in changes.items() for v in (values if isinstance(values, list) else [values])]
    return [(name, change) for change in (*together, *({key: value} for key, value in each))]


SILENT = [
    *beside("executor-per-item: elsewhere", event_count=4, event_kind="process"),
    *beside("process-per-item", event_count=4, event_kind="thread"),
    *beside("file-reopened", event_count=4, event_distinct=[0, 2], event_kind="thread", loader_num_workers=2),
    *beside("file-reopened", ledger_epochs=6, ledger_batches=19),
    *beside("file-reopened: call", path_calls=0, kind="item"),
    *beside("file-reopened: unheard", paths=64, kind="item", user="x"),
    *beside("read-amplification", count=4, known=3, keyed=81, callee="numpy.ndarray", user="x", result_nbytes=4095),
    *beside("read-amplification: chunk", argument_chunk_nbytes=4095, argument_nbytes=MIB, total_ns=59.9 * MS),
    *beside("read-amplification: chunk", kind="call", callee="numpy.ndarray", user="x", loader_shuffle=[False, None]),
    *beside("read-amplification: files", line=13, path_calls=9, user="x", event_distinct=2, ledger_batches=19),
    *beside("repeated-work", {"equal": 3, "compared": 3}, {"kind": "item", "aliases": 1}, equal=3, compared=5),
    *beside("repeated-work", total_ns=14.99 * MS, count=1501, known=34, path_calls=1, user="x", callee="range"),
    *beside("repeated-work: alike", {"alike": 4, "looked_at": 4}, alike=4, looked_at=6, kind="loop", result_nbytes=63),
    *beside("repeated-work: alike", kind="with", total_ns=14.99 * MS, ledger_constant=True),
    *beside("repeated-work: spread", {"alike": 4, "looked_at": 5}, user="other.py:20"),
    *beside("repeated-work: unknown", other_alike=1, other_path_calls=1),
    *beside("repeated-work: object", known=7, user="", alike=1, compared=1, other_own_ns=2 * MS),
    *beside("repeated-work: own", own_ns=7.49 * MS, kind="store"),
    *beside("scan-per-item", same_operand=3, scans=4, total_ns=5.99 * MS, callee="list.append", count=143),
    *beside("scan-per-item", largest_items=255, loader_dataset_items=514),
    *beside("scan-per-item: loop", same_operand=0, kind="call", largest_items=255, largest_type="Tensor"),
    *beside("scan-per-item: in", largest_type="set"),
    *beside("scan-per-item: grown", largest_type=["ndarray", "set"], largest_items=255),
    *beside("scan-per-item: rows", callee="numpy.ndarray.__getitem__", dtypes=("int64",), same_operand=3),
    *beside("scan-per-item: equal", scans=4, callee="Add"),
    *beside("scan-per-item: order", result_items=255, callee="torch.arange"),
    *beside("scan-per-item: made", {"equal": 3, "compared": 3}, equal=3, callee="set", largest_items=257),
    *beside("scan-per-item: made", loader_dataset_items=[0, 127], other_total_ns=30.1 * MS),
    *beside("arrow-to-python", count=4, callee=["pyarrow.Array.to_numpy", "polars.Series.to_pylist"], result_items=15),
    *beside("arrow-to-python", result_type="ndarray"),
    *beside("arrow-to-python: rows", result_nested=15),
    *beside("arrow-to-python: scalars", count=[36, 1151]),
    *beside("arrow-to-python: short", count=[36, 1151]),
    *beside("element-by-element", count=1151, callee="torch.Tensor.sum", argument_items=2),
    *beside("element-by-element: float", argument_type="str"),
    *beside("element-by-element: loop", count=4, kind="call", argument_items=15, argument_dims=2, argument_type="list"),
    *beside("element-by-element: tolist", callee="mine.tolist", result_items=15),
    *beside("element-by-element: subscript", count=4607, kind="call", callee="list.__getitem__", result_items=2),
    *beside("list-to-array", count=287, callee=["torch.stack", "mine.tensor"], argument_items=15, result_items=1),
    *beside("list-to-array", argument_numbers=False),
    *beside("list-to-array: arrays", count=4, callee="numpy.array", argument_type="ndarray", argument_nbytes=0),
    *beside("needless-copy", {"kept": 0, "checked": 0}, count=4, kept=0, checked=2, aliases=5, callee="torch.stack"),
    *beside("needless-copy", argument_type="list", argument_shareable=False, argument_dtype="", total_ns=2.99 * MS),
    *beside("needless-copy: batch", total_ns=14.99 * MS, result_nbytes=KIB - 1),
    *beside("needless-copy: layout", argument_contiguous=True),
    *beside("needless-copy: deepcopy", growing=4),
    *beside("needless-copy: asdict", growing=4, callee="dataclasses.replace"),
    *beside("float64-round-trip", dtypes=[(), ("float64", "uint8"), ("int64",)], result_items=255),
    *beside("float64-round-trip", count=4, kind="loop", in_workers=1, user="x", result_dtype="float32"),
    *beside("float64-round-trip", other_count=4, other_kind="loop", other_largest=IMAGE, other_result=[FLOATS, SHORT]),
    *beside("growing-concatenation", count=4, grows=4, callee=["torch.stack", "list.append"]),
    *beside("growing-concatenation: lists", result_type="Tensor"),
    *beside("dataset-copied-per-epoch", count=[1, 7], aliases=1, paths=1, user="x", kind="loop", callee="numpy.sum"),
    *beside("dataset-copied-per-epoch", argument_nbytes=128 * KIB - 1, result_nbytes=256 * KIB - 1, result_type=""),
    *beside("dataset-copied-per-epoch", ledger_batches=0, ledger_epochs=0, loader_batch_nbytes=174_763),
    *beside("dataset-copied-per-epoch: two", count=13),
    *beside("dataset-copied-per-epoch: table", callee="pandas.DataFrame.head", result_type="DataFrameGroupBy"),
    *beside("snapshot-per-batch", count=[4, 144], total_ns=14.99 * MS, user="x", callee="mine.snapshot"),
    *beside("snapshot-per-batch", result_nbytes=64 * KIB - 1, loader_batch_nbytes=64 * KIB + 1),
    *beside("snapshot-per-batch: grows", growing=3, looked_at=9),
    *beside("sample-by-sample", loader_batch_size=7, loader_iterable=True, loader_torch_like=False),
    *beside("sample-by-sample", {"loader_has_getitems": True, "function": "Rows.get"}),
    *beside("sample-by-sample", loader_hidden_getitems="Rows", loader_shared_samples=False),
    *beside("sample-by-sample", loader_sample_nbytes=64 * KIB + 1, stages_ns={"fetch": 28_800_001}),
    *beside("sample-by-sample: loops", count=143, function=["Rows.__getitems__", "Rows.get"]),
    *beside("hidden-getitems", loader_hidden_getitems="", loader_iterable=True, loader_torch_like=False),
    *beside("workers-restarted", stages_by_worker={}, loader_persistent_workers=True, loader_torch_like=False),
    *beside("workers-restarted", ledger_timed=LONG[:1], epoch_whole=False, epoch_first_ns=39.9 * MS),
    *beside("workers-restarted: long", epoch_first_ns=78 * MS, epoch_exit_ns=3 * MS),
    *beside("pickled-dataset", loader_num_workers=0, loader_pickled_nbytes=8 * MIB - 1),
    *beside("pickled-dataset", loader_start_method=["", "fork"]),
    *beside("shallow-prefetch", loader_num_workers=1, loader_torch_like=False, loader_prefetch_factor=3),
    *beside("shallow-prefetch", stages_batches=0, stages_slow_batches=2, stages_slow_share=0.29),
    *beside("shallow-prefetch", stages_ns={"fetch": 400 * MS, "collate": 30 * MS, "send": 30 * MS}),
    *beside("too-many-threads", ledger_cores=4, stages_threads={"0": 1}),
    *beside("objects-in-workers", loader_num_workers=0, loader_start_method="spawn", loader_objects=99_999),
    *beside("objects-in-workers", stages_grown_nbytes=4 * MIB - 1),
    *beside("lock-contention", total_ns=74.9 * MS, in_helper_thread=0, callee="unlock", ledger_counted=()),
    *beside("lock-contention: acquire", callee="threading.Semaphore.acquire"),
    *beside("many-small-tensors", stages_sent_tensors=63),
    *beside("many-small-tensors: collate", stages_sent_nbytes=2 * MIB + 1),
    *beside("large-hand-over", count=4, in_workers=143, user="x", largest_dtype=["", "int64"], result_dtype="float32"),
    *beside("large-hand-over", result_nbytes=64 * KIB - 1, stages_sent_nbytes=4 * MIB - 1),
    *beside("large-hand-over: batch", result_nbytes=2 * MIB - 1),
    *beside("sync-per-batch", count=4, argument_device="cpu", callee="torch.Tensor.sum", user="x"),
    *beside("sync-per-batch: int", callee=["torch.Tensor.int", "torch.Tensor.float", "torch.Tensor.bool"]),
    *beside("sync-per-batch: to", argument_device="cpu", result_device="cuda", count=4),
    *beside("sync-per-batch: wait", callee="Step.synchronize", count=4),
    *beside("pageable-copy", count=4, argument_pinned=True, argument_device="cuda", result_device="cpu", user="x"),
    *beside("pageable-copy", result_nbytes=64 * KIB - 1, callee="torch.Tensor.float"),
    *beside("sleeping", total_ns=14.99 * MS, callee="asyncio.sleep"),
    *beside("slow-exit", epoch_exit_ns=99.9 * MS, epoch_waits_ns=900 * MS, epoch_whole=False),
    *beside("thread-leak", event_alive=(1, 2, 2), event_kind="process"),
    *beside("process-leak", event_alive=(4,), event_kind="thread"),
    *beside("descriptor-leak", event_count=1, event_kind="thread", ledger_timed=MORE[0][:2] + MORE[0][:1]),
    *beside("descriptor-leak: call", path_calls=2, user="x"),
    *beside("shared-memory-leak", count=1, callee="SharedArea", user="x", ledger_timed=AREAS[:1] * 3),
    *beside("memory-kept", count=4, holds=4, callee="set.add", ledger_whole_epochs=1),
    *beside("memory-kept: store", holds=8, kind="call", held=(9, 9)),
    *beside("same-random-numbers", random_states=("a", "b"), in_workers=0),
    *beside("idle-workers", loader_iterable=False, loader_num_workers=1, stages_by_worker={"0": 195, "1": 5}),
    *beside("duplicated-data", loader_iterable=False, loader_num_workers=1, stages_by_worker={"0": 144, "1": 143}),
    *beside("duplicated-data", stages_first_samples=[{"0": "a"}, {"0": "a", "1": "b"}, {"0": "?", "1": "?"}]),
    *beside("gc-pauses", count=4, callee="gc.freeze", ledger_gc_ns=8.99 * MS),
]
PARTS = {name: f"sites.0.{name}" for name in ("argument", "largest", "result")} | {"other": "sites.1"}
PARTS |= {"event": "events.0", "epoch": "timed.*", "ledger": "", "loader": "loader", "stages": "stages"}


def changed(of, change):
    """A ledger with other values; ``result_items``: of the result of its first site, ``known``: of that site itself."""
    for key, value in change.items():
        part, _, name = key.partition("_")
        of = put(of, PARTS[part], name, value) if part in PARTS else put(of, "sites.0", key, value)
    return of


def put(record, part, name, value):
    first, _, rest = part.partition(".")
    if isinstance(record, tuple):
        return tuple(put(one, rest, name, value) if first in ("*", str(n)) else one for n, one in enumerate(record))
    return replace(record, **({first: put(getattr(record, first), rest, name, value)} if first else {name: value}))


def found(name, of):
    return list(RULE_OF[name.partition(":")[0]].find(of))


def finding(rule, line, function="f", gain=None, count=1.0):
    return Finding(rule, "", "data.py", line, function, count, "", "", gain and Gain(gain, gain, gain))


@pytest.mark.parametrize("name", SPEAKS)
def test_a_rule_speaks_once_of_each_of_its_cases(name):
    (only,) = found(name, SPEAKS[name])
    assert only.rule == name.partition(":")[0]
    assert only.fix


@pytest.mark.parametrize("name, where, words", SAYS, ids=[name for name, *_ in SAYS])
def test_a_rule_says_where_and_how_often(name, where, words):
    (only,) = found(name, SPEAKS[name])
    assert f"{only.file}:{only.line}: {round(only.count, 2):,} {only.unit}".replace(".0 ", " ") == where
    assert words in only.message


@pytest.mark.parametrize("name, change", SILENT, ids=[f"{name}: {change}".replace(" ", "") for name, change in SILENT])
def test_a_rule_is_silent_of_what_is_next_to_its_mistake(name, change):
    assert found(name, changed(SPEAKS[name], change)) == []


def test_every_rule_is_in_the_tables_has_an_id_of_its_own_and_explains_itself():
    for table in (SPEAKS, [name for name, *_ in SAYS], [name for name, _ in SILENT]):
        assert {name.partition(":")[0] for name in table} == set(RULE_OF)
    assert len(RULE_OF) == len(RULES)
    assert all(all((one.id, one.reason, one.example, one.fix, one.limits)) for one in RULES)
    assert {name for one in RULES for name in one.yields_to} <= set(RULE_OF)


def test_a_plain_loader_an_empty_ledger_and_a_silenced_rule_give_no_findings():
    assert findings_of(ledger()) == findings_of(Ledger()) == []
    assert [one.rule for one in findings_of(SPEAKS["sleeping"])] == ["sleeping"]
    assert findings_of(SPEAKS["sleeping"], silent=["sleeping"]) == []


@pytest.mark.parametrize(
    "count, samples, times, unit",
    [(4, 288, 0, ""), (5, 288, 5 / 9, "batch"), (143, 288, 143 / 9, "batch"), (4, 8, 0.5, "sample"), (3, 3, 0, "")],
)
def test_what_happens_for_every_second_sample_or_batch_is_regular(count, samples, times, unit):
    assert often(ledger(samples=samples), count) == (times, unit)


@pytest.mark.parametrize("changes, left", [({}, ["cause"]), ({"function": "g"}, ["symptom", "cause"])])
def test_a_rule_yields_to_one_nearer_the_cause_in_the_same_function(changes, left):
    both = [finding("symptom", 1, gain=3.0), finding("cause", 2, gain=2.0, **changes)]
    rules = [replace(RULES[0], id="cause"), replace(RULES[0], id="symptom", yields_to=("cause",))]
    assert [one.rule for one in nearest_causes(both, rules)] == left


def test_of_one_rule_the_costliest_line_of_each_function_is_left_and_the_largest_gain_comes_first():
    lines = [(1, "f", 1.5), (2, "f", 2.0), (3, "f", None), (4, "g", 4.0), (5, "h", None)]
    seen = [*(finding("sleeping", *one) for one in lines), finding("sleeping", 6, "h", count=2.0)]
    assert [one.line for one in nearest_causes(seen, RULES)] == [4, 2, 6]


@pytest.mark.parametrize("saved_ns, share", [(150 * MS, 0.5), (300 * MS, 1.0), (400 * MS, 1.0)])
@pytest.mark.parametrize(
    "loader, others_ns",
    [({}, {"fetch": 0}), (TWO | {"torch_like": False}, {"fetch": 0}), (TWO, {"all": 900 * MS, "index": MS})],
)
def test_a_gain_is_exact_and_has_a_limit(loader, others_ns, saved_ns, share):
    gain = predicted(ledger(loader=loader, counted_ns=COUNTED | others_ns), saved_ns)
    shares = [share * part for part in (1 - _SPREAD, 1, 1 + _SPREAD)]
    assert (gain.low, gain.value, gain.high) == pytest.approx([1 / max(_LEAST_LEFT, 1 - part) for part in shares])
    assert gain.how == "predicted"


def test_a_prediction_spans_the_counting_pass_and_the_timing_pass():
    timed = (EpochSeen(1, 100, 50 * MS, 50 * MS, 0, whole=True),)
    one = Ledger(samples=100, counted_ns={"all": 200 * MS}, timed=timed)
    gain = predicted(one, 80 * MS)
    assert gain.value == pytest.approx(sqrt(1 / 0.6 / 0.2))
    assert gain.low == pytest.approx(1 / (1 - 0.4 * (1 - _SPREAD)))
    assert gain.high == pytest.approx(1 / (1 - 0.8 * (1 + _SPREAD)))
    assert predicted(one, 100 * MS).value == pytest.approx(2.0)  # the timing pass met a faster machine


@pytest.mark.parametrize("changes, saved_ns", [({"counted_ns": {}}, MS), ({}, 0)])
def test_without_times_or_savings_there_is_no_gain(changes, saved_ns):
    assert predicted(ledger(**changes), saved_ns) is None


def test_a_ledger_is_the_same_after_it_was_json():
    for one in (ledger(events=(event("open", alive=(1, 2)),), unseen=("x",)), *SPEAKS.values(), Ledger()):
        assert Ledger.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize("part", [None, "loader", "stages"])
def test_an_unknown_key_of_a_ledger_is_an_error(part):
    content = Ledger().to_json()
    (content if part is None else content[part])["colour"] = "red"
    with pytest.raises(TypeError, match="colour"):
        Ledger.from_json(content)


@pytest.mark.parametrize(
    "work, silent",
    [
        (site("iter", 0.5, kind="loop", argument=Value("list", items=9, texts=True)), True),
        (site("tokenizer.encode", argument=Value("str", items=40), result=NUMBERS), True),
        (site("iter", 0.49, kind="loop", argument=Value("list", items=9, texts=True)), False),
        (site("iter", kind="loop", argument=Value("list", items=9)), False),
        (site("json.loads", argument=Value("str", items=40), result=NUMBERS), False),
        (site("json.loads", argument=Value("bytes", items=40), result=Value("dict", items=3)), True),
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_numbers_of_words_become_an_array_only_by_a_list(work, silent, dtype):
    made = site("torch.tensor", line=13, argument=NUMBERS, result=Value("Tensor", dtype, items=16))
    assert bool(found("list-to-array", ledger(work, made))) is not (silent and dtype == "int64")


@pytest.mark.parametrize(
    "callee, words",
    [("numpy.load", "mmap_mode"), ("pandas.read_csv", "what was read"), ("h5py.File", "on first use in each process")],
)
def test_the_fix_of_a_file_that_is_opened_again_is_that_of_its_reader(callee, words):
    (only,) = found("file-reopened", ledger(site(callee, path_calls=288, paths=1)))
    assert words in only.fix
    assert ("mmap" in only.fix) is (callee == "numpy.load")


@pytest.mark.parametrize(
    "one, words",
    [
        (site("Eq", kind="operator", largest=Value("Tensor", items=256), **READ), "group the rows once"),
        (site("NotIn", kind="operator", same_operand=1, largest=LIST), "keep a set"),
        (site("builtins.set", largest=LIST, **READ), "build it once"),
        (site("list.index", largest=LIST, **READ), "dict or a sorted index"),
    ],
)
def test_the_fix_of_a_scan_is_that_of_what_scans(one, words):
    (only,) = found("scan-per-item", ledger(one))
    assert words in only.fix


def at(rule, place, low, high):
    """A finding of a gain between two values, at ``file:line`` of a function."""
    file, line, function = place
    return Finding(rule, "", file, line, function, 1.0, "", "", Gain((low + high) / 2, low, high))


OPENS, READS = ("io.py", 4, "load"), ("io.py", 5, "load")
ASKS, ITEM = ("data.py", 9, "Rows.__getitem__"), ("io.py", 30, "scale")
RAN = (
    Site(*("io.py", 4, "load", "call", "io.open"), within=("io.py:20",)),
    Site(*("io.py", 20, "mel", "call", "io.load"), within=("data.py:9",)),
)


@pytest.mark.parametrize(
    "findings, kept",
    [
        ([at("file-reopened", OPENS, 2, 3), at("repeated-work", READS, 1, 1.5)], "file-reopened"),
        ([at("file-reopened", OPENS, 1, 2), at("repeated-work", READS, 1.9, 3)], "file-reopened"),
        ([at("file-reopened", OPENS, 1, 2), at("repeated-work", READS, 2.1, 3)], "repeated-work"),
        ([at("file-reopened", OPENS, 1, 2), at("read-amplification", READS, 1.9, 3)], "file-reopened"),
        ([at("file-reopened", OPENS, 1, 2), at("read-amplification", READS, 2.1, 3)], "read-amplification"),
        ([at("file-reopened", OPENS, 1, 2), at("repeated-work", ASKS, 2.1, 3)], "repeated-work"),  # through mel
        ([at("file-reopened", OPENS, 1, 2), at("repeated-work", ASKS, 1, 3)], "file-reopened"),
        ([at("element-by-element", OPENS, 1, 2), at("repeated-work", ASKS, 1, 2)], "repeated-work"),
    ],
)
def test_one_finding_stays_of_what_reads_again_and_of_what_that_runs(findings, kept):
    for order in (findings, findings[::-1]):
        assert [one.rule for one in nearest_causes(order, RULES, RAN)] == [kept]


@pytest.mark.parametrize(
    "one, other",
    [
        (at("file-reopened", OPENS, 1, 2), at("repeated-work", ITEM, 3, 4)),
        (at("element-by-element", OPENS, 3, 4), at("repeated-work", ASKS, 1, 2)),
        (at("element-by-element", ITEM, 1, 2), at("repeated-work", ASKS, 3, 4)),
        (at("file-reopened", OPENS, 1, 2), finding("thread-leak", 9, "load")),
    ],
)
def test_findings_of_two_causes_both_stay(one, other):
    assert len(nearest_causes([one, other], RULES, RAN)) == 2


def test_what_calls_itself_keeps_its_findings():
    both = [at("repeated-work", OPENS, 2, 3), at("repeated-work", ASKS, 2, 3)]
    ran = (RAN[0], RAN[1], Site("data.py", 9, "f", "call", "g", within=("io.py:4",)))
    assert len(nearest_causes(both, RULES, ran)) == 2


SCANS = site("iter", kind="loop", function="Rows.find", same_operand=9, looked_at=9, largest=LIST)
LISTED = site("comprehension", kind="comprehension", function="Rows.find", total_ns=150 * MS, looked_at=9)


def test_the_gain_of_a_loop_is_of_all_that_it_does():
    (of_expression,) = found("scan-per-item", ledger(SCANS, LISTED))
    assert of_expression.gain.value > 1.8  # half of the time, in the comprehension of its line
    calls = site("data.Rows.find", user="data.py:10", total_ns=200 * MS, line=30)
    reads = site("torch.stack", function="Rows.find", line=20, own_ns=50 * MS)
    inside = site("list.append", 40, function="Rows.find", line=13, own_ns=100 * MS)
    (of_statement,) = found("scan-per-item", ledger(SCANS, calls, reads, inside))
    assert of_statement.gain.value == pytest.approx(predicted(ledger(), 150 * MS).value)


def test_a_loop_that_makes_the_same_each_time_searches_nothing():
    assert found("scan-per-item", ledger(SCANS, replace(LISTED, alike=8)))
    assert not found("scan-per-item", ledger(SCANS, replace(LISTED, alike=9)))


CHOSEN = site("numpy.random.choice", **READ | {"largest": Value("ndarray", items=30_000)})


def test_a_choice_scans_only_where_it_takes_as_long():
    (only,) = found("scan-per-item", ledger(replace(CHOSEN, total_ns=288 * 0.16 * MS)))
    assert "draw again what comes twice" in only.fix
    assert not found("scan-per-item", ledger(replace(CHOSEN, total_ns=288 * 0.14 * MS)))


def test_a_range_is_found_in_what_is_sorted():
    times = site("pandas.Series.between", **READ | {"largest": Value("Series", items=256)})
    assert "np.searchsorted" in found("scan-per-item", ledger(times))[0].fix


@pytest.mark.parametrize("known, keyed, again", [(22, 30, True), (21, 30, False), (20, 24, True), (19, 23, False)])
def test_the_first_calls_with_their_arguments_are_no_news_but_for_data_that_comes_once_an_epoch(known, keyed, again):
    made = site("scipy.signal.resample_poly", known=known, keyed=keyed, distinct=4, **EQUAL)
    assert bool(found("repeated-work", ledger(made))) is again


@pytest.mark.parametrize("held", ["Size", "list", "DataFrame"])
def test_to_find_what_is_there_is_no_work(held):
    looked = site("torch.Size.__getitem__", kind="item", argument=Value(held, items=2), **ALIKE)
    assert not found("repeated-work", ledger(looked))
    assert found("repeated-work", ledger(replace(looked, argument=Value("Archive", items=2))))


def test_an_object_that_is_made_again_is_named_where_that_is():
    """Its ``__init__`` does its work once, for each object."""
    makes = site("data.Table", user="data.py:20", known=10, keyed=10, total_ns=50 * MS)
    fills = site("comprehension", kind="comprehension", line=21, function="Table.__init__", **ALIKE)
    fills = replace(fills, total_ns=40 * MS, own_ns=40 * MS)
    assert [one.line for one in findings_of(ledger(makes, fills))] == [12]
    assert [one.line for one in findings_of(ledger(makes, replace(fills, function="Table")))] == [21]


def test_batches_that_lie_ready_need_no_deeper_prefetch():
    of = SPEAKS["shallow-prefetch"]
    waits_ns = sum(epoch.waits_ns for epoch in of.timed)
    busy = {**of.stages.ns, "receive": waits_ns // 2}
    assert not found("shallow-prefetch", replace(of, stages=replace(of.stages, ns=busy)))
    assert found("shallow-prefetch", replace(of, stages=replace(of.stages, ns=busy | {"receive": waits_ns // 2 - 9})))


def test_the_fix_of_a_generator_is_that_of_its_library():
    assert "np.random" in found("same-random-numbers", SPEAKS["same-random-numbers"])[0].fix
    drawn = changed(SPEAKS["same-random-numbers"], {"callee": "torch.randn"})
    assert "torch.Generator()" in found("same-random-numbers", drawn)[0].fix


OPENED = site("gzip.open", path_calls=288, paths=1, total_ns=15 * MS, function="Scan.__init__")
SCAN = site("data.Scan", user="data.py:10", total_ns=150 * MS, line=30)


@pytest.mark.parametrize(
    "opened, others, seconds, words",
    [
        (OPENED, [], 150, "or where each record starts"),
        (OPENED, [site("numpy.array", function="Scan.__init__", own_ns=30 * MS, result=NARROW)], 120, "or where"),
        (OPENED, [site("io.BufferedReader.seek", function="Scan.__init__")], 15, "on first use in each process"),
        (OPENED, [site("io.TextIOWrapper.write", function="Scan.__init__")], 15, "on first use in each process"),
        (replace(OPENED, callee="sqlite3.connect"), [], 15, "on first use in each process"),
    ],
)
def test_a_file_that_is_read_from_its_start_costs_what_reads_it(opened, others, seconds, words):
    (only,) = found("file-reopened", ledger(opened, SCAN, *others))
    assert only.gain.value == pytest.approx(predicted(ledger(), seconds * MS).value)
    assert words in only.fix
    assert bool(only.callee) is (seconds == 15)  # what can be measured by keeping it open


def test_many_small_tensors_cost_both_ends_of_their_way():
    of = SPEAKS["many-small-tensors"]
    assert found("many-small-tensors", of)[0].gain is None
    ns = {"fetch": 20 * MS, "collate": 10 * MS, "send": 20 * MS, "receive": 40 * MS, "index": 5 * MS}
    timed = replace(of, stages=replace(of.stages, ns=ns))
    assert found("many-small-tensors", timed)[0].gain.value == pytest.approx(3)


def test_the_fix_of_what_has_several_results_or_keys_says_so():
    several = site("resample", known=8, keyed=10, distinct=2, looked_at=10, **EQUAL)
    assert "once for each" in found("repeated-work", ledger(several))[0].fix
    assert "once, in" in found("repeated-work", ledger(replace(several, distinct=1)))[0].fix
    assert "keys that come again" in found("memory-kept", SPEAKS["memory-kept: store"])[0].fix
    assert "clear the list" in found("memory-kept", SPEAKS["memory-kept"])[0].fix


def test_threads_that_wait_for_a_lock_win_no_more_than_cores_can_give():
    (only,) = found("lock-contention", replace(SPEAKS["lock-contention"], cores=1))
    assert only.gain == Gain(1, 1, 1)


@pytest.mark.parametrize(("items", "stays"), [(1, False), (100, True)])
def test_what_takes_single_elements_out_goes_away_with_them(items, stays):
    tensor = Value("Tensor", "float32", items=100)
    loop = site("torch.Tensor.item", 100, argument=Value("Tensor", "float32", items=1), total_ns=10 * MS)
    taken = site("torch.Tensor.__getitem__", 100, line=11, argument=tensor, result=replace(tensor, items=items))
    taken = replace(taken, kind="call", own_ns=100 * MS)
    (only,) = found("element-by-element", ledger(loop, taken))
    assert only.gain.value == pytest.approx(predicted(ledger(), (100 if stays else 200) * MS, loop).value)


def test_the_end_of_the_first_epoch_is_not_that_of_the_others():
    epochs = tuple(replace(EPOCH, waits_ns=190 * MS, exit_ns=ms * MS) for ms in (5000, 200, 400, 800))
    (only,) = found("slow-exit", replace(SPEAKS["slow-exit"], timed=epochs))
    assert (only.gain.low, only.gain.value, only.gain.high) == pytest.approx((2 * 0.9, 3, 5 * 1.1))


@pytest.mark.parametrize(("batch_size", "part", "saved"), [(32, 1, 1.0), (None, 4, 0.75), (None, 1, 0.0)])
def test_rows_of_whole_batches_are_gathered_without_a_copy_of_the_dataset_too(batch_size, part, saved):
    spoken = SPEAKS["dataset-copied-per-epoch"]
    copy = replace(spoken.sites[0], count=3, total_ns=100 * MS)
    loader = replace(spoken.loader, batch_size=batch_size, batch_nbytes=copy.result.nbytes / part / 3)  # 3 batches
    (only,) = found("dataset-copied-per-epoch", replace(spoken, loader=loader, sites=(copy,)))
    assert only.gain == predicted(spoken, saved * 100 * MS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, True),
        ({"largest": replace(IMAGE, dtype="float64")}, False),
        ({"result": replace(FLOATS, items=9999)}, False),
    ],
)
def test_float64_constants_that_are_smaller_than_the_image_make_it_wide(changes, named):
    scaled = replace(DIVIDED, dtypes=("float32", "float64"), largest=replace(IMAGE, dtype="float32"))
    image = replace(scaled.largest, items=FLOATS.items)
    made = found("float64-round-trip", ledger(replace(scaled, **{"largest": image} | changes), NARROWED))
    assert [one.fix[:43] for one in made] == ["keep the constants in float32 as well: self"] * named


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"kind": "call", "callee": "torch.Tensor.double"}, "leave .double() out"),
        ({"kind": "call", "callee": "numpy.asarray"}, "convert to float32 at once"),
        ({"kind": "call", "callee": "numpy.divide"}, "compute in float32 from the start"),
        ({}, "compute in float32 from the start"),
    ],
)
def test_the_fix_of_a_way_through_float64_is_that_of_its_call(changes, fix):
    (only,) = found("float64-round-trip", ledger(replace(DIVIDED, **changes), NARROWED))
    assert only.fix.startswith(fix)


def test_a_sample_that_is_computed_is_no_row_that_is_taken():
    computed = site("list.index", own_ns=101 * MS, fetch_ns=101 * MS)
    spoken = SPEAKS["sample-by-sample"]
    assert not found("sample-by-sample", replace(spoken, sites=(*spoken.sites, computed)))
    assert found("sample-by-sample", replace(spoken, sites=(*spoken.sites, replace(computed, own_ns=99 * MS))))


def test_a_row_is_named_where_it_is_fetched_and_a_collate_of_the_users_own_is_not_its_gain():
    spoken = SPEAKS["sample-by-sample"]
    fetched = replace(ROWS, line=40, fetch_ns=MS)
    loader = replace(spoken.loader, collate_file="data.py")
    one = replace(spoken, sites=(replace(ROWS, own_ns=5 * MS), fetched), loader=loader)
    (only,) = found("sample-by-sample", one)
    assert only.line == 40
    assert only.gain == predicted(one, 0.9 * COUNTED["fetch"])


@pytest.mark.parametrize(("last_ms", "wait_ms", "gain"), [(610, 500, 6.51), (108, 99, None), (610, 100, None)])
def test_a_stream_that_ends_while_it_makes_its_last_batch_ends_late(last_ms, wait_ms, gain):
    late = replace(EPOCH, batches=12, first_ns=10 * MS, waits_ns=(90 + last_ms) * MS, last_ns=last_ms * MS, exit_ns=0)
    made = found("slow-exit", ledger(replace(GET, longest_ns=wait_ms * MS), timed=(late,) * 3))
    assert [one.gain.value for one in made] == pytest.approx([gain] if gain else [], rel=0.02)


@pytest.mark.parametrize(
    ("callee", "total_ms", "named"),
    [("queue.Queue.get", 900, ["slow-exit"]), ("time.sleep", 900, ["sleeping"]), ("time.sleep", 1, ["slow-exit"])],
)
def test_a_late_exit_is_that_of_the_sleep_which_explains_it(callee, total_ms, named):
    wait = site(callee, 9, line=20, longest_ns=90 * MS, total_ns=total_ms * MS)
    assert [one.rule for one in findings_of(ledger(wait, timed=LATE))] == named


def test_a_late_exit_is_named_beside_a_sleep_in_its_function_that_does_not_explain_it():
    sleep = site("time.sleep", 99, line=20, longest_ns=2 * MS, total_ns=90 * MS)
    made = findings_of(ledger(replace(GET, longest_ns=90 * MS), sleep, timed=LATE))
    assert sorted((one.rule, one.line) for one in made) == [("sleeping", 20), ("slow-exit", GET.line)]
