"""ReferenceLoader, the way its documentation says: arrays as arrays, a dataset as it is."""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_loaderperf import ReferenceLoader
from suites.peers.variant import Setting, Variant


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
            # Not the first: for quality it decodes to twice the size before it resizes, as no peer's decoder does.
            variants.append(Variant(f"open_pictures, num_workers={setting.cores}, threads", own, close=_close))
        return variants
    ahead = partial(make, num_workers=setting.cores)
    return [
        Variant(f"num_workers={setting.cores}, processes", ahead, close=_close),
        Variant("num_workers=0", make, close=_close),
    ]
