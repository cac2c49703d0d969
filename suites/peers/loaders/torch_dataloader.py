"""torch.utils.data.DataLoader: in the consumer's process, with workers, and with a dataset that is read in batches."""

from __future__ import annotations

from functools import partial

from torch.utils.data import DataLoader

from pytest_loaderperf.data import as_is
from pytest_loaderperf.engines.loaders.torch_dataloader import close
from suites.peers.variant import Setting, Variant


def in_process(setting: Setting) -> list[Variant]:
    regime = setting.regime
    return [Variant("num_workers=0", partial(DataLoader, regime.dataset, regime.batch_size, shuffle=True))]


def workers(setting: Setting) -> list[Variant]:
    # docs.pytorch.org/docs/stable/data.html: persistent_workers keeps the processes from one epoch to the next
    regime, cores = setting.regime, setting.cores
    make = partial(
        DataLoader, regime.dataset, regime.batch_size, shuffle=True, num_workers=cores, persistent_workers=True
    )
    return [Variant(f"num_workers={cores}, persistent", make, close=close)]


def batched(setting: Setting) -> list[Variant]:
    # docs.pytorch.org/docs/stable/data.html, torch.utils.data.Dataset: __getitems__ speeds up batched loading
    regime, cores = setting.regime, setting.cores
    here = partial(DataLoader, regime.batched_dataset, regime.batch_size, shuffle=True, collate_fn=as_is)
    apart = partial(here, num_workers=cores, persistent_workers=True)
    found = [
        Variant("__getitems__", here),
        Variant(f"__getitems__, num_workers={cores}", apart, close=close),
    ]
    return found[::-1] if regime.releases_gil else found
