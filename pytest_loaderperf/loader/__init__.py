"""The reference optimized loader, one stage a file."""

from pytest_loaderperf.loader.executor import PersistentExecutor
from pytest_loaderperf.loader.reference import ReferenceLoader

__all__ = ["PersistentExecutor", "ReferenceLoader"]
