"""What goes wrong, by name. Every message says what was expected, what came, and what to do."""

from __future__ import annotations


class LoaderPerfError(Exception):
    """Base of every error that this package raises by itself."""


class LoaderError(LoaderPerfError):
    """The loader, its factory or its batches cannot be measured."""


class ShortEpochError(LoaderError):
    """The epoch has fewer batches than the trial wanted."""


class ClaimError(LoaderPerfError):
    """A comparison that has no meaning, such as seconds against samples/s."""


class DataError(LoaderPerfError):
    """A dataset or a workload spec that cannot be used."""


class MeasureError(LoaderPerfError):
    """The measurement itself is unusable, such as a clock that stood still."""


class LoaderHangError(LoaderPerfError):
    """A loader gave nothing for longer than the watchdog allows."""


class FrozenAugmentationWarning(UserWarning):
    """A dataset draws at random, and what is kept of it will be the same in every epoch."""
