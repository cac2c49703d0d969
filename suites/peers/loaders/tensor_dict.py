"""tensordict: a table of tensors that is indexed as one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from tensordict import TensorDict
from torch.utils.data import DataLoader

from pytest_loaderperf.data import as_is
from suites.peers.variant import Epochs, Setting, Unable, Variant, columns_x_y


def _epoch(data: TensorDict, batch_size: int) -> Iterator[TensorDict]:
    for indices in torch.split(torch.randperm(len(data)), batch_size):
        yield data[indices]


def peer(setting: Setting) -> list[Variant]:
    # docs.pytorch.org/tensordict/main/data_loading.html, "Use a tensordict as a dataset"
    regime = setting.regime
    if not regime.in_arrays:
        raise Unable("holds finished tensors; a sample's work is not its case")
    columns = {"x": torch.from_numpy(regime.raw), "y": torch.from_numpy(regime.labels)}
    data = TensorDict(columns, batch_size=[len(regime)])
    through = partial(DataLoader, data, regime.batch_size, shuffle=True, collate_fn=as_is)
    return [
        Variant("td[indices]", partial(Epochs, partial(_epoch, data, regime.batch_size)), columns_x_y),
        Variant("through a DataLoader", through, columns_x_y),
    ]
