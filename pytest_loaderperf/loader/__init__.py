"""The reference optimized loader, one stage a file."""

from pytest_loaderperf.loader.collate import Collate, vectorized_collate
from pytest_loaderperf.loader.reference import ReferenceLoader

__all__ = ["Collate", "ReferenceLoader", "vectorized_collate"]
