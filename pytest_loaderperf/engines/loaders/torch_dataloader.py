"""torch.utils.data.DataLoader, and torchdata's one that can save its state."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Variant


def close(loader: Any) -> None:
    """End persistent workers."""
    if loader._iterator is not None:  # noqa: SLF001 they have no public end
        loader._iterator._shutdown_workers()  # noqa: SLF001 likewise


def in_process(setting: Setting) -> Variant:
    """Without workers."""
    return _variant(DataLoader, setting, 0)


def workers(setting: Setting) -> Variant:
    """Workers that live through the epochs: docs.pytorch.org/docs/stable/data.html, ``persistent_workers``."""
    return _variant(DataLoader, setting, setting.workers)


def stateful(setting: Setting) -> Variant:
    """meta-pytorch.org/data: a drop-in replacement for DataLoader."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return _variant(StatefulDataLoader, setting, setting.workers)


def _variant(loader: Any, setting: Setting, count: int) -> Variant:
    more = {"num_workers": count, "persistent_workers": count > 0, "collate_fn": setting.collate}
    in_order = partial(loader, setting.dataset, setting.batch_size, **more)
    make = in_order if setting.streams else partial(in_order, shuffle=True)
    return Variant(f"{count} workers", make, close=close, in_order=in_order)
