"""ReferenceLoader, the way its documentation says: arrays as arrays, a dataset as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pytest_loaderperf import ReferenceLoader
from suites.peers.variant import Setting, Unable, Variant

DECIDES_WITHIN_S = 2.0


def _close(loader: ReferenceLoader[Any]) -> None:
    loader.close()


def peer(setting: Setting) -> list[Variant]:
    regime, size = setting.regime, setting.regime.batch_size
    if regime.in_arrays:
        arrays = (regime.raw, regime.labels)
        return [Variant("arrays", partial(ReferenceLoader, arrays, size, shuffle=True), close=_close)]
    make = partial(ReferenceLoader, regime.dataset, size, shuffle=True)
    if regime.releases_gil:
        more = {"shuffle": True, "num_workers": setting.cores, "worker_kind": "threads"}
        into = partial(ReferenceLoader, regime.writing_dataset, size, **more)
        variants = [
            Variant(f"num_workers={setting.cores}, threads, __getitem_into__", into, close=_close),
            Variant(f"num_workers={setting.cores}, threads", partial(make, **more), close=_close),
        ]
        if (opened := regime.opened_dataset) is not None:
            own = partial(ReferenceLoader, opened, size, **more)
            variants.insert(0, Variant(f"open_pictures, num_workers={setting.cores}, threads", own, close=_close))
        return variants
    return [Variant("worker_kind=auto", partial(_decided, make), close=_close)]


def _decided(make: Callable[[], ReferenceLoader[Any]]) -> ReferenceLoader[Any]:
    """A loader of a dataset that others were loaded from before: long enough for ``auto`` to have decided."""
    with make() as loader:
        deadline_s = time.monotonic() + DECIDES_WITHIN_S
        while time.monotonic() < deadline_s:
            for _batch in loader:
                pass
    return make()


def _choice(setting: Setting, num_workers: int, kind: Literal["auto", "processes"]) -> list[Variant]:
    regime = setting.regime
    if regime.in_arrays or regime.releases_gil:
        raise Unable("a choice of worker_kind=auto, which is for samples in pure Python")
    make = partial(ReferenceLoader, regime.dataset, regime.batch_size, shuffle=True, num_workers=num_workers)
    return [Variant("one of auto's choices", partial(make, worker_kind=kind), close=_close)]


def in_process(setting: Setting) -> list[Variant]:
    return _choice(setting, 0, "auto")


def processes(setting: Setting) -> list[Variant]:
    return _choice(setting, setting.cores, "processes")
