"""Peak memory: what the process tree grows by."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pytest_loaderperf.measurement.memory import PeakMemory

MIB = 1 << 20


def test_it_grows_by_what_is_allocated():
    peak = PeakMemory()
    kept = np.ones(64 * MIB, np.uint8)
    peak.sample()
    assert peak.nbytes == pytest.approx(kept.nbytes, abs=8 * MIB)


def test_a_peak_between_two_samples_is_seen_where_the_kernel_keeps_it():
    peak = PeakMemory()
    if not peak._resets:
        pytest.skip("this kernel does not reset the peak mark")
    np.ones(64 * MIB, np.uint8)
    peak.sample()
    assert peak.nbytes >= 56 * MIB


def test_what_was_there_before_does_not_count():
    kept = np.ones(64 * MIB, np.uint8)
    peak = PeakMemory()
    peak.sample()
    assert peak.nbytes < 8 * MIB
    assert kept.nbytes == 64 * MIB


def test_the_memory_of_children_counts():
    peak = PeakMemory()
    code = f"kept = bytearray(b'x') * ({64 * MIB}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        peak.sample()
        child.communicate(b"\n")
    assert 60 * MIB < peak.nbytes < 100 * MIB
