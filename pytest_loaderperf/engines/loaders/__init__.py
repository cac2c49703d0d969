"""The engines: one file for each library, with the ways to load a dataset that it gets unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Unable, Variant

BASELINE = "dataloader"  # the unit of the ratios


@dataclass(frozen=True, slots=True)
class Engine:
    """``function`` of this package's ``module`` uses ``library``, which ``package`` installs.

    ``streams``: it also takes iterable-style datasets. ``cannot``: why it takes no dataset of torch's at all.
    """

    title: str
    module: str = ""
    function: str = ""
    library: str = "torch"
    package: str = ""
    streams: bool = False
    cannot: str = ""

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        if self.cannot:
            return f"cannot take this dataset: {self.cannot}"
        try:
            found = find_spec(self.library) is not None
        except ModuleNotFoundError:  # a parent package
            found = False
        return "" if found else f"not installed: pip install {self.package}"


ENGINES = {
    BASELINE: Engine("torch DataLoader", "torch_dataloader", "in_process", streams=True),
    "dataloader-workers": Engine("torch DataLoader", "torch_dataloader", "workers", streams=True),
    "reference": Engine("ReferenceLoader", "reference", "default", streams=True),
    "reference-threads": Engine("ReferenceLoader", "reference", "threads"),
    "reference-processes": Engine("ReferenceLoader", "reference", "processes"),
    "stateful": Engine(
        "StatefulDataLoader", "torch_dataloader", "stateful", "torchdata.stateful_dataloader", "torchdata", streams=True
    ),
    "nodes": Engine("torchdata.nodes", "torchdata_nodes", "in_process", "torchdata.nodes", "torchdata"),
    "nodes-threads": Engine("torchdata.nodes", "torchdata_nodes", "threads", "torchdata.nodes", "torchdata"),
    "grain": Engine("Grain", "grain_dataset", "in_process", "grain", "grain"),
    "grain-threads": Engine("Grain", "grain_dataset", "threads", "grain", "grain"),
    "grain-processes": Engine("Grain", "grain_dataset", "processes", "grain", "grain"),
    "spdl": Engine("SPDL", "spdl_pipeline", "threads", "spdl.pipeline", "spdl"),
    "spdl-processes": Engine("SPDL", "spdl_pipeline", "processes", "spdl.dataloader", "spdl"),
    "hf-datasets": Engine("HF datasets", cannot="it reads its own Arrow tables"),
    "litdata": Engine("LitData", cannot="it reads its own chunks on disk, made by litdata.optimize"),
    "ray": Engine("Ray Data", cannot="it reads a dataset once, in one task, into its own blocks"),
    "tensordict": Engine("tensordict", cannot="it indexes finished tensors"),
    "webdataset": Engine("WebDataset", cannot="it reads tar files"),
}


def variant(name: str, setting: Setting) -> Variant:
    """The way the engine ``name`` loads the dataset. Raises Unable with the reason if it cannot."""
    engine = ENGINES[name]
    if engine.missing:
        raise Unable(engine.missing)
    if setting.streams and not engine.streams:
        raise Unable("cannot take this dataset: it is iterable-style, the engine reads by index")
    module = import_module(f"{__name__}.{engine.module}")
    found: Variant = getattr(module, engine.function)(setting)
    return found
