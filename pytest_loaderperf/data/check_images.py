"""Checks of the images of a folder."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from pytest_loaderperf.data.findings import CheckResult, Expected, Findings, Problem, in_order
from pytest_loaderperf.data.kinds import LABEL
from pytest_loaderperf.data.pictures import TIFF_SUFFIXES
from pytest_loaderperf.errors import DataError

PILLOW_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, *PILLOW_SUFFIXES)
_SAMPLED = 25  # images whose majority says what shape and dtype the others should have, where nobody did
_LONGEST = 200  # characters of a library's own message
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """One file: what it holds, or what is ``wrong`` with it."""

    file: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    wrong: str = ""


def image_files(path: Path) -> list[Path]:
    """The images in the folder ``path`` and in those below it, sorted; hidden ones are none.

    Raises DataError where there are none.
    """
    if path.is_file():
        return [path]
    files = [
        Path(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise DataError(f"no images in {path}. Expected files that end in one of {', '.join(IMAGE_SUFFIXES)}.")
    return sorted(files)


def check_images(path: Path, findings: Findings, expected: Expected) -> CheckResult:
    """Read every image of a folder, or one alone.

    What ``shape`` and ``dtype`` leave open, the majority of the first 25 decides. Raises DataError as ``image_files``
    does, where a library is missing, and where there are ``classes`` but no folders for them.
    """
    files = image_files(path)
    read = {suffix: _reader(suffix) for suffix in {file.suffix.lower() for file in files}}
    if expected.classes is not None:
        findings.add(_label_problems(path, files, expected.classes))
    shape, dtype, checked = expected.shape, expected.dtype, 0

    def inspect(file: Path) -> Image:
        return _inspected(file, read[file.suffix.lower()])

    with closing(in_order(files, inspect, expected.workers)) as images:
        sampled = [] if shape and dtype else _sampled(images, findings.most if expected.stop else _SAMPLED)
        whole = [image for image in sampled if not image.wrong]
        shape = shape or _commonest([image.shape for image in whole])
        dtype = dtype or _commonest([image.dtype for image in whole])
        inspected = chain(sampled, images)
        while not (expected.stop and findings.full) and (image := next(inspected, None)) is not None:
            checked += 1
            findings.add(_problems(image, shape, dtype))
            expected.progress(f"{checked:,} of {len(files):,} images checked")
    return CheckResult(
        path=str(path),
        kind="images",
        total=len(files),
        checked=checked,
        found=findings.found,
        problems=tuple(findings.problems),
        stopped_early=checked < len(files),
        shape=shape,
        dtype=dtype,
    )


def _label_problems(path: Path, files: Sequence[Path], classes: int) -> list[Problem]:
    """Folders of classes that are too many. Their labels are their names, or if these are no numbers, their places."""
    names = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    if not names:
        raise DataError(f"{path} has no folder for each class. Put its images into such folders, or leave out classes.")
    labels = map(int, names) if all(name.isdecimal() for name in names) else range(len(names))
    return [
        Problem(str(path / name), None, LABEL, f"is {label}; expected 0 to {classes - 1}")
        for name, label in zip(names, labels, strict=True)
        if label >= classes
    ]


def _sampled(images: Iterator[Image], most_wrong: int) -> list[Image]:
    """The first 25, or fewer where as many as ``most_wrong`` of them cannot be read."""
    sampled, wrong = [], 0
    for image in images:
        sampled.append(image)
        wrong += bool(image.wrong)
        if len(sampled) == _SAMPLED or wrong == most_wrong:
            break
    return sampled


def _commonest(values: Sequence[T]) -> T | None:
    """The first met of those that come most often."""
    return Counter(values).most_common(1)[0][0] if values else None


def _problems(image: Image, shape: tuple[int, ...] | None, dtype: str | None) -> list[Problem]:
    if image.wrong:
        return [Problem(image.file, None, None, image.wrong)]
    pairs = (("shape", image.shape, shape), ("dtype", image.dtype, dtype))
    return [
        Problem(image.file, None, None, f"has {key} {came}; expected {expected}")
        for key, came, expected in pairs
        if expected not in (None, came)
    ]


def _inspected(file: Path, read: Callable[[Path], np.ndarray]) -> Image:
    try:
        if file.stat().st_size == 0:
            return Image(str(file), wrong="is empty (0 bytes)")
        array = read(file)
    except Exception as error:  # noqa: BLE001 decoders raise whatever they met: OSError, ValueError, struct.error ...
        reason = (str(error).splitlines() or [""])[0][:_LONGEST] or type(error).__name__
        return Image(str(file), wrong=f"cannot be read: {reason}")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        return Image(str(file), wrong="holds NaN or infinity; expected finite numbers")
    return Image(str(file), array.shape, str(array.dtype.newbyteorder("=")))


def _reader(suffix: str) -> Callable[[Path], np.ndarray]:
    """How to read files of ``suffix``. Raises DataError where the library for that is not installed."""
    if suffix in TIFF_SUFFIXES:
        try:
            import tifffile
        except ModuleNotFoundError as error:
            raise DataError(f"{suffix} images are read with tifffile. Run: pip install tifffile") from error
        # It logs every damaged file, however many. What is wrong is told here, once and within bounds.
        logging.getLogger("tifffile").addHandler(logging.NullHandler())
        return tifffile.imread
    try:
        from PIL import Image as Pillow
    except ModuleNotFoundError as error:
        raise DataError(f"{suffix} images are read with Pillow. Run: pip install pillow") from error

    def read(file: Path) -> np.ndarray:
        with Pillow.open(file) as image:
            return np.asarray(image)

    return read
