"""This package's ReferenceLoader."""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Variant
from pytest_loaderperf.loader import ReferenceLoader


def default(setting: Setting) -> Variant:
    """As it decides by itself."""
    return _variant(setting, "its own choice")


def threads(setting: Setting) -> Variant:
    """The workers are threads."""
    return _variant(setting, setting.threads, num_workers=setting.workers, worker_kind="threads")


def processes(setting: Setting) -> Variant:
    """The workers are processes."""
    return _variant(setting, setting.processes, num_workers=setting.workers, worker_kind="processes")


def _variant(setting: Setting, how: str, **more: Any) -> Variant:
    in_order = partial(ReferenceLoader, setting.dataset, setting.batch_size, collate_fn=setting.collate, **more)
    make = in_order if setting.streams else partial(in_order, shuffle=True)
    return Variant(how, make, close=ReferenceLoader.close, in_order=in_order)
