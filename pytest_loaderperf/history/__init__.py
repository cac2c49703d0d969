"""Results of earlier runs: where they are kept, and where a metric changed."""

from pytest_loaderperf.history.store import FILE, FOLDER, Store, StoreError, keep

__all__ = ["FILE", "FOLDER", "Store", "StoreError", "keep"]
