"""Factories that make a workload's arrays from its spec."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pytest_loaderperf.data.spec import WorkloadSpec
from pytest_loaderperf.errors import DataError

Arrays = tuple[np.ndarray, np.ndarray]


def make_arrays(spec: WorkloadSpec) -> Arrays:
    """Features of shape ``(samples, *shape)`` in the spec's dtype, and int64 labels of shape ``(samples,)``.

    Raises DataError for an unknown factory or data that do not match the spec.
    """
    factory = _FACTORIES.get(spec.factory)
    if factory is None:
        raise DataError(
            f"workload {spec.name!r}: unknown factory {spec.factory!r}. Known: {', '.join(sorted(_FACTORIES))}."
        )
    try:
        is_float = np.dtype(spec.dtype).kind == "f"
    except TypeError:
        is_float = False
    if not is_float:
        raise DataError(f"workload {spec.name!r}: dtype must be a float, such as float32, but {spec.dtype!r} came.")
    features, labels = factory(spec)
    expected = (spec.samples, *spec.shape)
    if features.shape != expected or labels.shape != (spec.samples,):
        raise DataError(
            f"workload {spec.name!r}: the spec says features {expected}, "
            f"but {features.shape} with {len(labels)} labels came. Mend the spec."
        )
    return features, labels


def _uniform(spec: WorkloadSpec) -> Arrays:
    rng = np.random.Generator(np.random.PCG64(spec.seed))
    # random() scales integers by a power of two, so the bytes are the same on every machine; normal() calls libm.
    features = rng.random((spec.samples, *spec.shape), dtype=np.float32).astype(spec.dtype, copy=False)
    labels = rng.integers(0, spec.classes, spec.samples, dtype=np.int64)
    return features, labels


def _digits(spec: WorkloadSpec) -> Arrays:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise DataError(
            "workload 'digits' is bundled with scikit-learn, which is not installed. Run: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    return bunch.images.astype(spec.dtype), bunch.target.astype(np.int64)


_FACTORIES: dict[str, Callable[[WorkloadSpec], Arrays]] = {"uniform": _uniform, "digits": _digits}
