"""A training job of many ranks, simulated from the batch latencies of one loader; without a clock or torch."""

from pytest_loaderperf.scale.forecast import Cell, Forecast, Range, Tail, forecast
from pytest_loaderperf.scale.recorded import Recorded, recorded_in

__all__ = ["Cell", "Forecast", "Range", "Recorded", "Tail", "forecast", "recorded_in"]
