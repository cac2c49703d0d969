"""The ledger: everything that the passes saw of a loader, as one frozen record that a rule reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from pytest_loaderperf.diagnosis.timeline import QueueSeen, Span, Timeline, Track

MAIN, WORKER = "main", "worker"


@dataclass(frozen=True, slots=True)
class Value:
    """What an argument or a result was, as far as rules need it.

    ``items``: elements of an array, length of a list. ``numbers``: a list of Python numbers, at any depth. ``device``,
    ``dtype``, ``dims``, ``contiguous``: of arrays and tensors. ``shareable``: torch can use an array's memory:
    it is writable and has no negative strides. ``pinned``: a GPU reads it without help of the CPU. ``nested``:
    elements of a list or dict and of all lists and dicts inside it. ``texts``: a list of strings. ``chunk_nbytes``: of
    what an array on disk reads at least.
    """

    type: str = ""
    dtype: str = ""
    items: int = 0
    nbytes: int = 0
    device: str = ""
    numbers: bool = False
    shareable: bool = True
    contiguous: bool = True
    dims: int = 0
    pinned: bool = False
    nested: int = 0
    texts: bool = False
    chunk_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """One expression of the user's code: a call, a subscript, an operator, a loop's iterable, or a comprehension.

    ``callee`` is the dotted name of what was called; ``user``: where it begins if it is the user's own, or "".
    ``own_ns`` excludes what other sites inside it took; ``index_ns``, ``fetch_ns`` and ``collate_ns`` are the parts
    of it in the thread that runs that stage, so that they add up; ``longest_ns``: the longest call. ``known``:
    calls with arguments that an earlier one of the first few had, of ``keyed``; ``distinct``: how many different
    arguments there were, of the first few. ``compared``: results that were compared with that of a call with equal
    arguments; ``equal`` of them were equal. ``alike``: results that were equal to the first one, of ``looked_at``.
    ``paths``: distinct files in ``path_calls``. ``aliases``: results that share memory with the first argument.
    ``same_operand``: calls whose largest argument was that of the call before; ``scans``: whose other arguments are
    single values. ``grows``: calls whose arguments contain the result of the call before; ``growing``: calls with a
    larger result than all before. ``kept``: copies that nothing modified afterwards, of ``checked``. ``holds``:
    length of the container that it adds to, and ``held`` after each epoch, in the main process. ``random_states``:
    digests of a generator's state at its first use, one a process; ``made_at``: "file:line" of the call that made
    it. ``dtypes``: of all arrays among the arguments. ``within``: "file:line" of the sites that ran it, each the
    nearest one around a call. ``exponent``: the power of its result's size with which its time grows, where that
    has grown fourfold; else 0.
    """

    file: str
    line: int
    function: str
    kind: str
    callee: str
    count: int = 0
    total_ns: int = 0
    own_ns: int = 0
    index_ns: int = 0
    fetch_ns: int = 0
    collate_ns: int = 0
    longest_ns: int = 0
    known: int = 0
    keyed: int = 0
    distinct: int = 0
    compared: int = 0
    equal: int = 0
    path_calls: int = 0
    paths: int = 0
    aliases: int = 0
    looked_at: int = 0
    same_operand: int = 0
    grows: int = 0
    growing: int = 0
    scans: int = 0
    alike: int = 0
    kept: int = 0
    checked: int = 0
    holds: int = 0
    held: tuple[int, ...] = ()
    in_helper_thread: int = 0
    in_workers: int = 0
    in_start: int = 0
    processes: int = 1
    argument: Value = field(default_factory=Value)
    largest: Value = field(default_factory=Value)
    result: Value = field(default_factory=Value)
    random_states: tuple[str, ...] = ()
    made_at: str = ""
    exponent: float = 0.0
    dtypes: tuple[str, ...] = ()
    user: str = ""
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """What the interpreter's audit hooks and Python's hooks saw at one line: threads, processes and opened files.

    ``distinct``: different files. ``alive``: threads or processes of it that run after each epoch.
    """

    kind: str
    file: str
    line: int
    function: str
    count: int = 0
    distinct: int = 0
    in_workers: int = 0
    in_start: int = 0
    alive: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stages:
    """Time in each stage of ``batches`` batches: ``index``, ``fetch``, ``collate``, ``send``, ``receive``, ``pin``.

    ``by_worker``: samples that each worker made. ``first_samples``: digests of each worker's first. ``threads``: of an
    operation, in each worker. ``slow_batches`` took three times the median of their worker or more, and
    ``slow_share`` of the time. ``sent_tensors``, ``sent_nbytes``: of a batch that a worker sends.
    ``grown_nbytes``: by how much the memory that a worker shares with no other process grew, where that was most.
    """

    ns: Mapping[str, int] = field(default_factory=dict)
    batches: int = 0
    by_worker: Mapping[str, int] = field(default_factory=dict)
    first_samples: Mapping[str, str] = field(default_factory=dict)
    slow_batches: int = 0
    slow_share: float = 0.0
    sent_tensors: int = 0
    sent_nbytes: int = 0
    threads: Mapping[str, int] = field(default_factory=dict)
    grown_nbytes: int = 0


@dataclass(frozen=True, slots=True)
class EpochSeen:
    """One epoch of a pass: ``first_ns`` from ``iter()`` to the first batch, ``exit_ns`` after the last.

    ``waits_ns``: in ``next()`` for the batches after the first, ``last_ns`` for the last of them. ``steps_ns``: in the
    consumer between these. ``shared``: areas of shared memory that exist after it, of all programs.
    """

    batches: int
    samples: int
    first_ns: int
    waits_ns: int
    exit_ns: int
    whole: bool
    descriptors: int = 0
    steps_ns: int = 0
    shared: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True)
class LoaderFacts:
    """What the loader says about itself, and where it was made.

    ``batch_kind``: type, dtype and dimensions of each part of a batch. ``cuda``: whether there is a device of it.
    ``hidden_getitems``: the type of a dataset that could give whole batches, and ``hiding`` of the one around it that
    asks for single samples. ``shuffle``: None if a sampler of the user's own, or nobody, decides the order.
    ``set_epoch``: whether the dataset is told of a new epoch. ``store_nbytes``: of all samples as arrays in memory, of
    which ``free_nbytes`` are free; ``not_kept``: why they cannot be kept there, in words. ``objects``: Python objects
    in the largest list or dict of the dataset, its attribute ``objects_name``, and where that is assigned.
    """

    kind: str = ""
    text: str = ""
    torch_like: bool = False
    batch_size: int | None = None
    num_workers: int = 0
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    start_method: str = ""
    shuffle: bool | None = None
    pickled_nbytes: int = 0
    iterable: bool = False
    file: str = ""
    line: int = 0
    dataset: str = ""
    dataset_file: str = ""
    dataset_line: int = 0
    dataset_items: int | None = None
    has_getitems: bool = False
    hidden_getitems: str = ""
    hiding: str = ""
    shared_samples: bool = False
    sample_nbytes: int = 0
    batch_nbytes: int = 0
    open_files: int = 0
    collate_file: str = ""
    collate_line: int = 0
    batch_kind: str = ""
    pin_memory: bool = False
    cuda: bool = False
    set_epoch: bool = False
    store_nbytes: int = 0
    free_nbytes: int = 0
    not_kept: str = ""
    objects: int = 0
    objects_name: str = ""
    objects_file: str = ""
    objects_line: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of it.

    ``samples``, ``batches`` and ``epochs`` are those of the counting pass, whose epochs are ``counted``; ``timed``
    are those of the timing pass. ``copy_ns``: of copying the bytes of a batch on this machine, 0 if unknown.
    ``counted_ns``: time in each stage of the counting pass without what counting takes, ``all`` for a loader
    without workers. ``constant``: the first batches are all equal, so equal results say nothing. ``unseen``: in
    words, what was not. ``stepped``: epochs in which the consumer took ``step_ns`` for each batch; no other time is of
    these. ``queue`` and ``timeline`` are of the stepped pass if there is one, else of the timing pass; the timeline is
    empty unless a trace was asked for.
    """

    loader: LoaderFacts = field(default_factory=LoaderFacts)
    samples: int = 0
    batches: int = 0
    epochs: int = 0
    whole_epochs: int = 0
    cores: int = 1
    constant: bool = False
    copy_ns: float = 0.0
    counted_ns: Mapping[str, int] = field(default_factory=dict)
    gc_ns: int = 0
    sites: tuple[Site, ...] = ()
    events: tuple[Event, ...] = ()
    stages: Stages = field(default_factory=Stages)
    timed: tuple[EpochSeen, ...] = ()
    counted: tuple[EpochSeen, ...] = ()
    unseen: tuple[str, ...] = ()
    step_ns: int = 0
    stepped: tuple[EpochSeen, ...] = ()
    queue: QueueSeen = field(default_factory=QueueSeen)
    timeline: Timeline = field(default_factory=Timeline)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which ``from_json`` makes an equal ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The ledger that ``to_json`` wrote. Raises TypeError for a key that a ledger does not have."""
        found: Self = _made(cls, content)
        return found


_PARTS: dict[str, Any] = {
    "loader": LoaderFacts,
    "sites": (Site,),
    "events": (Event,),
    "stages": Stages,
    "timed": (EpochSeen,),
    "counted": (EpochSeen,),
    "stepped": (EpochSeen,),
    "queue": QueueSeen,
    "timeline": Timeline,
    "tracks": (Track,),
    "argument": Value,
    "largest": Value,
    "result": Value,
}


def _made(kind: Any, content: Mapping[str, Any]) -> Any:
    names = {part.name for part in fields(kind)}
    if unknown := sorted(set(content) - names):
        raise TypeError(f"expected the fields of a {kind.__name__}, got {', '.join(unknown)}")
    made = {}
    for name, value in content.items():
        part = _PARTS.get(name)
        if name == "spans":
            made[name] = tuple(Span(*span) for span in value)
        elif isinstance(part, tuple):
            made[name] = tuple(_made(part[0], one) for one in value)
        elif part is not None:
            made[name] = _made(part, value)
        else:
            made[name] = _tuples(value)
    return kind(**made)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
