"""Whether engines give the same samples: a sum over the first ones, whatever their order, and a count of all."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.engines.server import Reply
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.counting import counter
from pytest_loaderperf.measurement.structure import batch_leaves

SUMMED_BATCHES = 4  # of which all samples are compared
COUNT_WITHIN_S = 5.0  # an epoch that takes longer is not counted to its end
_BITS = 64


def seen(loader: Iterable[Any], batch_size: int, count_within_s: float = COUNT_WITHIN_S) -> Reply:
    """``structure`` and ``sum`` of the first samples, and how many were ``counted``: of a ``whole`` epoch or not.

    ``unlike``: why samples could not be compared, or empty.
    """
    wanted, until_s = SUMMED_BATCHES * batch_size, time.monotonic() + count_within_s
    count: Callable[[Any], int] | None = None
    structure, unlike = "", ""
    total = samples = 0
    whole = True
    for batch in loader:
        count = count or counter(batch)
        size = count(batch)
        structure = structure or _structure(batch)
        if samples < wanted and not unlike:
            try:
                total += sum(_checksums(batch, size)[: wanted - samples])
            except LoaderError as error:
                unlike = str(error)
        samples += size
        if samples >= wanted and time.monotonic() > until_s:
            whole = False
            break
    return {
        "structure": structure,
        "sum": f"{total % (1 << _BITS):016x}",
        "counted": samples,
        "whole": whole,
        "unlike": unlike,
    }


def difference(found: Reply, baseline: Reply, *, repeats: bool) -> str:
    """How an engine's samples differ from those of the baseline; empty if they do not.

    Without ``repeats`` the dataset gives other values each time it is read, so only structure and count are compared.
    """
    if found["structure"] != baseline["structure"]:
        return f"its batches are {found['structure']} instead of {baseline['structure']}"
    if found["whole"] and baseline["whole"] and found["counted"] != baseline["counted"]:
        return f"it gives {found['counted']:,} samples in an epoch instead of {baseline['counted']:,}"
    if repeats and not found["unlike"] and not baseline["unlike"] and found["sum"] != baseline["sum"]:
        return "its first samples have other values"
    return ""


def _structure(batch: object) -> str:
    return ", ".join(f"{path.removeprefix('batch')} {_kind(leaf)}".strip() for path, leaf in batch_leaves(batch))


def _kind(leaf: object) -> str:
    if isinstance(leaf, (torch.Tensor, np.ndarray)):
        dtype = str(leaf.dtype).removeprefix("torch.")
        return f"{dtype}{list(leaf.shape[1:])}"
    if isinstance(leaf, list) and leaf:
        return f"list of {type(leaf[0]).__name__}"
    return type(leaf).__name__


def _checksums(batch: object, size: int) -> list[int]:
    """One number for each sample. Raises LoaderError if a leaf has no part for each."""
    digests = [hashlib.blake2b(digest_size=_BITS // 8) for _ in range(size)]
    for path, leaf in batch_leaves(batch):
        if not hasattr(leaf, "__len__") or len(leaf) != size:
            raise LoaderError(f"{path} has no part for each of the {size} samples")
        for digest, part in zip(digests, leaf, strict=True):  # type: ignore[call-overload]  # it has a length
            digest.update(_content(part))
    return [int.from_bytes(digest.digest()) for digest in digests]


def _content(part: object) -> bytes:
    if isinstance(part, torch.Tensor) and part.layout == torch.strided:
        return part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(part, (np.ndarray, np.generic)):
        return part.tobytes()
    return repr(part).encode("utf-8", "backslashreplace")
