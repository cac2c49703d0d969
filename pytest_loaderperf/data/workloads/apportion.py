"""Integers in given ratios: parts of one total, or of several totals whose parts also have the right sums."""

from __future__ import annotations

from collections.abc import Sequence

Counts = list[list[int]]


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` divided in the ratio of ``weights`` by largest remainders, ties to the earlier part: each within 1."""
    whole = sum(weights)
    counts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda part: -(total * weights[part] % whole))
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    return counts


def stratified_counts(totals: Sequence[int], weights: Sequence[int]) -> Counts:
    """Each of ``totals`` divided in the ratio of ``weights``; each count, and each part's sum over all, within 1.

    This is controlled rounding (Cox 1987): every count is its quota rounded down or up, and so are the sums. Rows first
    round up the parts that have the largest deficit so far. Then units move along chains of rows until all sums are
    right. Such a chain always exists, because the quotas are a flow through the same network (Ford and Fulkerson).
    """
    whole, parts = sum(weights), range(len(weights))
    counts = [[total * weight // whole for weight in weights] for total in totals]
    up = [[False] * len(weights) for _ in totals]
    may = [[total * weight % whole > 0 for weight in weights] for total in totals]
    lacking = [0] * len(weights)  # in 1/whole of a sample
    for total, row, rounded, can in zip(totals, counts, up, may, strict=True):
        for part in parts:
            lacking[part] += total * weights[part] % whole
        best = sorted((part for part in parts if can[part]), key=lambda part: -lacking[part])
        for part in best[: total - sum(row)]:
            rounded[part] = True
            lacking[part] -= whole
    while off := [part for part in parts if abs(lacking[part]) >= whole]:
        chain = _chain(off[0], lacking, up, may)
        for index, source, target in chain:
            up[index][source], up[index][target] = False, True
        lacking[chain[0][1]] += whole
        lacking[chain[-1][2]] -= whole
    return [[n + r for n, r in zip(row, rounded, strict=True)] for row, rounded in zip(counts, up, strict=True)]


def _chain(
    off: int, lacking: list[int], up: Sequence[Sequence[bool]], may: Sequence[Sequence[bool]]
) -> list[tuple[int, int, int]]:
    """Moves (total, from part, to part) that bring the part ``off`` closer to its quota, and no other away from it."""
    forward = lacking[off] < 0  # has too much: give
    found: dict[int, list[tuple[int, int, int]]] = {off: []}
    queue = [off]
    for here in queue:
        for there in range(len(lacking)):
            if there in found:
                continue
            source, target = (here, there) if forward else (there, here)
            row = next((r for r in range(len(up)) if up[r][source] and may[r][target] and not up[r][target]), None)
            if row is None:
                continue
            move = (row, source, target)
            found[there] = [*found[here], move] if forward else [move, *found[here]]
            if (lacking[there] > 0) if forward else (lacking[there] < 0):
                return found[there]
            queue.append(there)
    raise AssertionError("the quotas are a flow, so a chain exists")
