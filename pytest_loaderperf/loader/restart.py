"""Where an epoch stands as plain values, and going on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch.utils.data import DataLoader, IterableDataset, IterDataPipe

from pytest_loaderperf.data.arrays.order import Draw, can_be_dealt, generator_of, innermost, is_shuffled, with_epochs
from pytest_loaderperf.data.arrays.place import other_shards, place_of
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.arguments import check_whole, process_count
from pytest_loaderperf.loader.gather import Gather
from pytest_loaderperf.loader.processes import Processes
from pytest_loaderperf.loader.progress import Feed, Progress, Trail
from pytest_loaderperf.loader.states import State, is_stateful, lasting, standing

T_co = TypeVar("T_co", covariant=True)
_SAME = ("shuffle", "seed")
_STEP = ("batch_size", "world_size")
_PLACE = ("epoch", "batches", "skipped", "dealt")
_ORDER = "order_seed draws_seed generator_state default_state indices samples sampler_epoch shards states rank".split()
_STATE = (*_PLACE, *_ORDER, *_STEP, *_SAME)
_LATER: dict[str, Any] = {"dealt": 0, "rank": None}  # what states did not have at first


class Restart(DataLoader[T_co]):
    """A DataLoader that goes on in mid-epoch. Who derives from it notes in ``_progress`` what is delivered."""

    on_error: str
    rank: int | None
    seed: int | None
    world_size: int | None
    _engine: Any
    _next_epoch: int
    _persists: bool | None
    _progress: Progress | None
    _resumed: Progress | None
    _shuffle: bool
    _keeps_epoch = False  # whether set_epoch() asked for the resumed epoch, also where nothing of it is left

    def _feed(self, progress: Progress) -> Feed:
        """The indices that are still to come."""
        raise NotImplementedError

    # Not plain attributes, for whoever makes a loader anew from those takes each for an argument to hand on.
    @property
    def epoch(self) -> int:
        """The next epoch to be iterated, counted from 0."""
        return self._next_epoch

    @property
    def shuffle(self) -> bool:
        """Whether ``shuffle`` was given."""
        return self._shuffle

    @property
    def _fed_by(self) -> Any:
        """What gives the indices that a Feed takes."""
        return self.batch_sampler if self.batch_size is None and self.batch_sampler is not None else self.sampler

    def state_dict(self) -> dict[str, Any]:
        """Where the latest epoch stands: the batches delivered so far, not those prefetched. Plain values and tensors.

        After an epoch's last batch it is the begin of the next one. A dataset's own ``state_dict()``, and its
        iterator's, are part of it, by worker. Otherwise samples must not depend on what was drawn or fetched before,
        and an iterable dataset must give the same ones again.

        Raises DataError in mid-epoch for what cannot be gone on with: worker processes with ``in_order=False``,
        datapipes that shuffle without a ``seed``, and datasets with a ``state_dict()`` where threads fetch ahead.
        """
        progress = self._resumed or self._begun()
        trail, counting = progress.trail, with_epochs(self._fed_by)
        position = progress.position(self.batch_size)
        return {
            **{name: getattr(progress, name) for name in _PLACE},
            "order_seed": progress.draw.seed,
            "draws_seed": progress.draws_seed,
            "generator_state": (progress.began if progress.draws_seed else progress.draw).generator_state,
            "default_state": progress.draw.default_state,
            "indices": trail.checksum(position) if position else None,
            "samples": trail.samples,
            "sampler_epoch": trail.sampler_epoch if trail.begun or counting is None else counting.epoch,
            "shards": self._shards,
            "states": {worker: state._asdict() for worker, state in progress.all_states.items()},
            "rank": self.rank if progress.batches and (self._leaves_out or progress.states) else None,
            **self._step,
            **{name: getattr(self, name) for name in _SAME},
        }

    def _begun(self) -> Progress:
        """The epoch that a state is of, with its order drawn where its iteration began."""
        progress = self._progress
        if progress is None or progress.is_over:
            progress = Progress(self.epoch, draws_seed=self._draws_seed, lasting=self._lasting(progress))
            if (generator := generator_of(self._fed_by)) is not None:
                (progress.began if progress.draws_seed else progress.draw).repeat(generator)
        elif progress.batches:
            self._check_place()
        elif not progress.trail.begun and not isinstance(self.dataset, IterableDataset):
            self._begin_feed(progress)
        begins = self._progress is None and isinstance(self.dataset, Iterator)  # it may have no state yet
        if not (progress.batches or progress.states or begins or isinstance(self._engine, (Gather, Processes))):
            progress.note(standing(self.dataset))
        if not self._knows_all(progress):
            raise DataError(
                f"expected a batch of each of {self._shards} persistent workers before a state, for the epoch before "
                f"was left early, got batches of {len(progress.states)}: the state of the {type(self.dataset).__name__}"
                " in the others is not known. Take it some batches later."
            )
        return progress

    def _begin_feed(self, progress: Progress) -> None:
        """Let the sampler draw its order now, not when the first batch is asked for."""
        progress.trail.feed = self._feed(progress)
        progress.trail.feed.begin()

    def _check_place(self) -> None:
        engine, dataset = self._engine, self.dataset
        if not self.in_order and isinstance(engine, Processes) and engine.loader.num_workers > 1:
            raise DataError(
                f"expected in_order=True for a state in mid-epoch, got in_order=False with {engine.loader.num_workers} "
                "worker processes: which batches were delivered is not known. Take the state between epochs, or leave "
                "in_order out."
            )
        if is_stateful(dataset) and not self._keeps_states and not isinstance(engine, Gather):
            raise DataError(
                f"expected no threads, and on_error='raise', for a state in mid-epoch of a {type(dataset).__name__}, "
                "which has a state_dict() of its own, got others: the dataset's state after a batch is not known. Take "
                "the state between epochs, or leave worker_kind and on_error out."
            )
        if self.seed is None and isinstance(dataset, IterDataPipe) and is_shuffled(dataset):
            raise DataError(
                "expected seed= for a state in mid-epoch of a datapipe that draws at random, got none: it would draw "
                "another order. Give the loader a seed, or take the state between epochs."
            )

    def _knows_all(self, progress: Progress) -> bool:
        return progress.lasting is not None or len(progress.states) >= (self._shards or 0)

    def _lasting(self, latest: Progress | None) -> dict[int, State] | None:
        """What the copies of the dataset in workers that persist have from ``latest``. None: not known."""
        keeps = self._persists and isinstance(self._engine, Processes) and self._keeps_states
        if latest is None or not (keeps and is_stateful(self.dataset)) or (latest.batches and not latest.all_states):
            return {}
        if not latest.is_over or not self._knows_all(latest):
            return None
        lasts = ((worker, lasting(self.dataset, state)) for worker, state in latest.all_states.items())
        return {worker: state for worker, state in lasts if state is not None}

    @property
    def _keeps_states(self) -> bool:
        """Whether the state of a dataset after each batch is known."""
        if self.on_error == "skip":
            return False
        return isinstance(self._engine, Processes) or getattr(self._engine, "keeps_states", False)

    @property
    def _draws_seed(self) -> bool:
        """Whether the next epoch draws a base seed for workers before its order, as torch does."""
        if isinstance(self._engine, Processes):
            return not (self._persists and self._engine.persisting)
        return not (self._persists and self.num_workers and self.epoch)

    @property
    def _step(self) -> dict[str, int | None]:
        """How much of an epoch a batch of all ranks takes. A stream may share its samples out to torch's processes."""
        own = self.world_size or getattr(innermost(self._fed_by), "num_replicas", None)
        ranks = process_count() if isinstance(self.dataset, IterableDataset) else own
        return {"batch_size": self.batch_size, "world_size": ranks}

    @property
    def _leaves_out(self) -> bool:
        """Whether samples that raise are left out; arrays have none."""
        return self.on_error == "skip" and not isinstance(self._engine, Gather)

    @property
    def _shards(self) -> int | None:
        """How many copies a dataset has, one a worker, where their shares or states may differ. None: of others."""
        if not isinstance(self.dataset, IterableDataset) and not is_stateful(self.dataset):
            return None
        return max(1, self._engine.loader.num_workers) if isinstance(self._engine, Processes) else 1

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where ``state`` was taken, whatever the number of workers.

        That of an iterable dataset must be the same. With another ``world_size`` or ``batch_size``, the rest of the
        loader's own order is dealt anew: to all ranks from the state of any of them, each of which was given as many
        batches. Raises DataError for a state that does not fit this loader; the next iteration raises it where the
        sampler gives other indices than before.
        """
        state = _checked(state)
        self._check_order(state)
        try:
            states = {int(worker): State(**values) for worker, values in state["states"].items()}
        except (AttributeError, TypeError, ValueError):
            raise DataError(f"expected the state's states by worker, got {state['states']!r}.") from None
        if (state["batches"] or states) and state["shards"] != self._shards:
            raise DataError(other_shards(state["shards"], self._shards))
        epoch, batches, skipped, dealt = (state[name] for name in _PLACE)
        place = place_of(state, self._fed_by)
        if (batches or dealt or states) and any(state[name] != here for name, here in self._step.items()):
            self._check_can_be_dealt(state)
            dealt, batches, skipped = place, 0, 0
        elif state["rank"] not in (None, self.rank):
            raise DataError(
                f"expected a state of rank {self.rank}, got one of rank {state['rank']}: with on_error='skip', or a "
                "dataset that has a state_dict() of its own, ranks differ. Save and load one for each rank."
            )
        if self._shards is not None and isinstance(self._engine, Processes):
            self._engine.close()  # what workers that persist have of the dataset has gone on since
        trail = Trail(state["indices"], state["samples"], state["sampler_epoch"])
        draw, began = Draw(state["order_seed"], default_state=state["default_state"]), Draw()
        (began if state["draws_seed"] else draw).generator_state = state["generator_state"]
        counting = with_epochs(self._fed_by)
        if counting is not None and state["sampler_epoch"] is not None:
            counting.set_epoch(state["sampler_epoch"])
        begin = {"draw": draw, "began": began, "trail": trail, "draws_seed": state["draws_seed"], "states": states}
        self._resumed = Progress(epoch, batches, skipped, dealt, **begin)
        self._next_epoch, self._keeps_epoch = epoch, False

    def _check_order(self, state: Mapping[str, Any]) -> None:
        for name in _SAME:
            if state[name] != getattr(self, name):
                raise DataError(
                    f"the state was taken with {name}={state[name]!r}, but this loader has {getattr(self, name)!r}, "
                    "so its order would be another. Give it the same, or begin a new epoch."
                )
        drawn, draws = (one is not None for one in (state["generator_state"], generator_of(self._fed_by)))
        if drawn != draws:
            raise DataError(
                f"the state was taken {'with' if drawn else 'without'} a generator, but this loader's sampler has "
                f"{'one' if draws else 'none'}, so its order would be another."
            )

    def _check_can_be_dealt(self, state: Mapping[str, Any]) -> None:
        """Raise DataError unless what all ranks were given is the begin of an order that ``state`` alone tells."""
        if isinstance(self.dataset, IterableDataset):
            why = "what each rank was given of an iterable dataset is not known"
        elif state["states"]:
            why = "a dataset with a state_dict() of its own has another state on each rank"
        elif state["rank"] is not None and state["world_size"] != 1:
            why = "with on_error='skip' each rank left out samples of its own"
        elif state["indices"] is not None or state["order_seed"] is not None or not can_be_dealt(self._fed_by):
            why = "only the loader's own order (seed=, rank=, world_size=) can be dealt anew, not that of a sampler"
        else:
            return
        differ = {name: here for name, here in self._step.items() if state[name] != here}
        was, has = (" and ".join(f"{name}={one[name]!r}" for name in differ) for one in (state, differ))
        raise DataError(
            f"expected {was} as when the state was taken, got {has}: {why}. Restart with {was}, or begin a new epoch."
        )

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the next one to be iterated, as torch's DistributedSampler does."""
        check_whole("epoch", epoch, 0)
        self._keeps_epoch = self._resumed is not None and self._resumed.epoch == epoch
        if not self._keeps_epoch:
            self._resumed = None
        self._next_epoch = epoch


def _checked(state: Any) -> dict[str, Any]:
    """``state`` with all that one has. Raises DataError for none of ours."""
    if not isinstance(state, Mapping) or {*_LATER, *state} != set(_STATE):
        raise DataError(f"expected what state_dict() gives, with {', '.join(_STATE)}, got {state!r}.")
    for name in _PLACE:
        check_whole(f"the state's {name}", state.get(name, 0), 0)
    for name in _STEP:
        check_whole(f"the state's {name}", 1 if state[name] is None else state[name], 1)
    return {**_LATER, **state}
