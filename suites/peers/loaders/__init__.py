"""One file for each peer: the ways in its documentation to do a regime, with the fastest one first.

``python -m suites.peers --variants`` measures all of them.
"""

from __future__ import annotations

from importlib import import_module

from suites.peers.variant import Setting, Unable, Variant

LIMIT = "limit"
OURS = "ReferenceLoader"
IN_PROCESS = "torch DataLoader"
WORKERS = "torch DataLoader, workers"

# Name in the table: module here, function in it.
PEERS = {
    LIMIT: ("limits", "peer"),
    OURS: ("ours", "peer"),
    IN_PROCESS: ("torch_dataloader", "in_process"),
    WORKERS: ("torch_dataloader", "workers"),
    "torch DataLoader, batched": ("torch_dataloader", "batched"),
    "torchdata.nodes": ("torchdata_nodes", "peer"),
    "tensordict": ("tensor_dict", "peer"),
    "SPDL": ("spdl_pipeline", "peer"),
    "Grain": ("grain_dataset", "peer"),
    "HF datasets": ("hf_datasets", "peer"),
    "LitData": ("lit_data", "peer"),
    "WebDataset": ("web_dataset", "peer"),
    "Ray Data": ("ray_data", "peer"),
}


def is_peer(name: str) -> bool:
    """Whether ``name`` is another library's loader."""
    return name not in (LIMIT, OURS)


def variants(name: str, setting: Setting) -> list[Variant]:
    """The ways ``name`` does the regime, the fastest first. Raises Unable with the reason if it cannot."""
    module, function = PEERS[name]
    try:
        peer = import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        raise Unable(f"not installed: no module {error.name}") from error
    found: list[Variant] = getattr(peer, function)(setting)
    return found
