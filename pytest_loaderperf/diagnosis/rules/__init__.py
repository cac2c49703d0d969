"""The rules: pure functions from a ledger to findings, one file for each kind of mistake."""

from __future__ import annotations

from collections.abc import Collection

from pytest_loaderperf.diagnosis.findings import Finding, Rule, nearest_causes
from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.rules import (
    arrow_to_python,
    dataset_copied,
    device_copies,
    element_by_element,
    executor_per_item,
    file_reopened,
    float64_round_trip,
    gc_pauses,
    growing_concatenation,
    hidden_getitems,
    idle_workers,
    large_hand_over,
    leaks,
    list_to_array,
    lock_contention,
    many_small_tensors,
    needless_copy,
    objects_in_workers,
    pickled_dataset,
    process_per_item,
    read_amplification,
    repeated_work,
    same_random_numbers,
    sample_by_sample,
    scan_per_item,
    shallow_prefetch,
    sleeping,
    slow_exit,
    snapshot_per_batch,
    too_many_threads,
    workers_restarted,
)

RULES: tuple[Rule, ...] = (
    executor_per_item.RULE,
    process_per_item.RULE,
    file_reopened.RULE,
    read_amplification.RULE,
    repeated_work.RULE,
    scan_per_item.RULE,
    arrow_to_python.RULE,
    element_by_element.RULE,
    list_to_array.RULE,
    needless_copy.RULE,
    float64_round_trip.RULE,
    growing_concatenation.RULE,
    dataset_copied.RULE,
    snapshot_per_batch.RULE,
    sample_by_sample.RULE,
    hidden_getitems.RULE,
    workers_restarted.RULE,
    pickled_dataset.RULE,
    objects_in_workers.RULE,
    shallow_prefetch.RULE,
    too_many_threads.RULE,
    lock_contention.RULE,
    many_small_tensors.RULE,
    large_hand_over.RULE,
    device_copies.SYNCS,
    device_copies.PAGEABLE,
    sleeping.RULE,
    slow_exit.RULE,
    leaks.THREADS,
    leaks.PROCESSES,
    leaks.DESCRIPTORS,
    leaks.MEMORY,
    leaks.SHARED,
    same_random_numbers.RULE,
    idle_workers.IDLE,
    idle_workers.DUPLICATED,
    gc_pauses.RULE,
)


def findings_of(ledger: Ledger, *, silent: Collection[str] = ()) -> list[Finding]:
    """What all rules find in a ledger but those that are ``silent``; the largest predicted gain first."""
    found = [finding for rule in RULES for finding in rule.find(ledger)]
    return [finding for finding in nearest_causes(found, RULES, ledger.sites) if finding.rule not in silent]
