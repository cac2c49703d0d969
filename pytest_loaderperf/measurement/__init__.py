"""The measure layer: sides, rounds and raw records."""

from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.delivery import delivery, resolve_device
from pytest_loaderperf.measurement.disturbance import Disturbance
from pytest_loaderperf.measurement.machine import machine_facts, steal_seconds
from pytest_loaderperf.measurement.observations import (
    Epoch,
    Exit,
    Kind,
    Placed,
    Refilled,
    Resources,
    Start,
    Steady,
    Step,
    Work,
)
from pytest_loaderperf.measurement.reading import Reading
from pytest_loaderperf.measurement.record import Record
from pytest_loaderperf.measurement.roofline import Roofline
from pytest_loaderperf.measurement.rounds import Key, Round, Rounds
from pytest_loaderperf.measurement.side import Side
from pytest_loaderperf.measurement.stages import stage_shares
from pytest_loaderperf.measurement.watchdog import Watchdog

__all__ = [
    "AnySide",
    "Disturbance",
    "Epoch",
    "Exit",
    "Key",
    "Kind",
    "Placed",
    "Reading",
    "Record",
    "Refilled",
    "Resources",
    "Roofline",
    "Round",
    "Rounds",
    "Side",
    "Start",
    "Steady",
    "Step",
    "Watchdog",
    "Work",
    "delivery",
    "machine_facts",
    "resolve_device",
    "stage_shares",
    "steal_seconds",
]
