"""``python -m pytest_loaderperf.engines.child REQUEST``: one engine with a user's dataset, in a process of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from pytest_loaderperf.engines.loaders import BASELINE, variant
from pytest_loaderperf.engines.sameness import seen
from pytest_loaderperf.engines.server import Reply, Server, answer
from pytest_loaderperf.engines.setting import Setting, dataset_of
from pytest_loaderperf.engines.variant import Variant


def made(request: Reply) -> tuple[Server, Reply]:
    """The server of the engine that ``request`` names, and what it says of it."""
    more = {"collate": _collate(request["collate"])} if request["collate"] else {}
    setting = Setting(dataset_of(request["dataset"]), request["batch_size"], request["workers"], **more)
    chosen = variant(request["engine"], setting)
    server = Server(chosen, partial(_checked, setting, twice=request["engine"] == BASELINE))
    facts = {"how": chosen.how, "batch_size": setting.batch_size, "samples": setting.samples}
    return server, {**facts, "streams": setting.streams, "kind": type(setting.dataset).__name__}


def _collate(spec: str) -> Any:
    from pytest_loaderperf.remote.naming import resolve

    return resolve(spec, "FUNCTION", "a function of a list of samples, for --collate")


def _checked(setting: Setting, variant: Variant, *, twice: bool) -> Reply:
    """What the loader gives without shuffling; the baseline ``twice``, to see whether the dataset repeats itself."""
    assert variant.in_order is not None
    found = []
    for _ in range(1 + twice):
        loader = variant.in_order()
        found.append(seen(loader, setting.batch_size))
        if variant.close is not None:
            variant.close(loader)
    samples = setting.samples or found[0]["counted"]
    return found[0] | {"samples": samples, "repeats": found[0]["sum"] == found[-1]["sum"]}


if __name__ == "__main__":
    answer(lambda: made(json.loads(sys.argv[1])))
