"""Checks of the images of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from pytest_loaderperf.data.checks.findings import CheckResult, Expected, Findings, Problem, inspected_in_order
from pytest_loaderperf.data.checks.isolated import CrashedError, Isolated
from pytest_loaderperf.data.checks.pictures import MEMORY_SHARE
from pytest_loaderperf.data.formats.diagnosis import check_file
from pytest_loaderperf.data.formats.ome_layouts import is_zarr, zarr_images
from pytest_loaderperf.data.formats.ome_sets import TiffImage, tiff_image, tiff_images
from pytest_loaderperf.data.formats.ome_zarr import zarr_pixels
from pytest_loaderperf.data.formats.picture_folder import SUFFIXES
from pytest_loaderperf.data.formats.samples import class_folders, class_labels, find
from pytest_loaderperf.data.formats.storage import SCHEMA_FILE
from pytest_loaderperf.data.formats.whole_tiff import tiff_pixels
from pytest_loaderperf.data.workloads.kinds import LABEL
from pytest_loaderperf.data.workloads.pictures import TIFF_SUFFIXES
from pytest_loaderperf.errors import DataError

ZARR_SUFFIXES = (".zarr",)
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, *SUFFIXES, *ZARR_SUFFIXES)
_LIBRARIES = (
    dict.fromkeys(TIFF_SUFFIXES, ("tifffile", "tifffile", "tifffile"))
    | dict.fromkeys(SUFFIXES, ("PIL", "Pillow", "pillow"))
    | dict.fromkeys(ZARR_SUFFIXES, ("zarr", "zarr", "zarr"))
)

_SAMPLED = 25  # images whose majority gives the expected shape and dtype, if none is stated
_LONGEST = 200  # characters of a library's own message
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its shape and dtype, or what is ``wrong`` with it."""

    file: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What to read: ``tiff`` if it may span files; ``wrong`` if that is known without reading."""

    file: Path
    tiff: TiffImage | None = None
    planes_written: bool = False
    wrong: str = ""


def image_samples(path: Path) -> list[Sample]:
    """The images in the folder ``path`` and its subfolders, sorted, and broken links; without hidden ones.

    Raises DataError if there are none.
    """
    if not path.is_dir():
        return [_sample(path, tiff_image(path), written=False)]
    if is_zarr(path) or path.name.lower().endswith(ZARR_SUFFIXES):
        return _zarr_samples(path, written=False)
    found, written = find(path, IMAGE_SUFFIXES), (path / SCHEMA_FILE).exists()
    if not found.samples and not found.broken:
        raise DataError(f"no images in {path}. Expected files that end in one of {', '.join(IMAGE_SUFFIXES)}.")
    tiffs = {file for file in found.samples if file.suffix.lower() in TIFF_SUFFIXES}
    images = {} if written else tiff_images(sorted(tiffs))
    zarrs = [file for file in found.samples if _suffix(file) in ZARR_SUFFIXES]
    samples = [
        _sample(file, images.get(file), written=written)
        for file in found.samples
        if file not in zarrs and (written or file not in tiffs or file in images)
    ]
    samples += [sample for file in zarrs for sample in _zarr_samples(file, written=written)]
    samples += [Sample(file, wrong=wrong) for file, wrong in found.broken.items()]
    return sorted(samples, key=lambda sample: sample.file)


def _zarr_samples(group: Path, *, written: bool) -> list[Sample]:
    """The images in a Zarr group: one, or those of bioformats2raw or of a plate."""
    try:
        return [Sample(image.group, None, written) for image in zarr_images(group, {})]
    except DataError as error:
        return [Sample(group, wrong=str(error).removeprefix(f"{group}: "))]


def _suffix(file: Path) -> str:
    """The suffix, which says how to read it; images of a Zarr group have no suffix of their own."""
    suffix = file.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ZARR_SUFFIXES[0]


def _sample(file: Path, tiff: TiffImage | None, *, written: bool) -> Sample:
    is_tiff = file.suffix.lower() in TIFF_SUFFIXES
    return Sample(file, (tiff or TiffImage(file)) if is_tiff else None, written)


def check_images(path: Path, findings: Findings, expected: Expected) -> CheckResult:
    """Read every image of a folder, or a single one, in another process, which a damaged file may crash.

    Without ``shape`` or ``dtype``, the majority of the first 25 decides. Raises DataError as ``image_samples`` does, if
    a library is missing, and if there are ``classes`` but no folders for them.
    """
    samples = image_samples(path)
    for suffix in sorted({_suffix(sample.file) for sample in samples if not sample.wrong}):
        _check_library(suffix)
    findings.add(_label_problems(path, [sample.file for sample in samples], expected.classes))
    shape, dtype, checked = expected.shape, expected.dtype, 0

    def inspect(sample: Sample) -> Image:
        if sample.wrong:
            return Image(str(sample.file), wrong=sample.wrong)
        try:
            return inspected(sample)
        except CrashedError as error:
            return Image(str(sample.file), wrong=str(error))

    with (
        Isolated[Image](inspect_image) as inspected,
        closing(inspected_in_order(samples, inspect, expected.workers)) as images,
    ):
        sampled = [] if shape and dtype else _sampled(images, findings.most if expected.stop else _SAMPLED)
        whole = [image for image in sampled if not image.wrong]
        shape = shape or _commonest([image.shape for image in whole])
        dtype = dtype or _commonest([image.dtype for image in whole])
        rest = chain(sampled, images)
        while not (expected.stop and findings.full) and (image := next(rest, None)) is not None:
            checked += 1
            findings.add(_problems(image, shape, dtype))
            expected.progress(f"{checked:,} of {len(samples):,} images checked")
    return CheckResult(
        path=str(path),
        kind="images",
        total=len(samples),
        checked=checked,
        found=findings.found,
        problems=tuple(findings.problems),
        stopped_early=checked < len(samples),
        shape=shape,
        dtype=dtype,
    )


def _label_problems(path: Path, files: Sequence[Path], classes: int | None) -> list[Problem]:
    """Folders whose labels are too large, or two folders of one label. Labels are those of `open_table`."""
    folders = None if path in files else class_folders(files, path)
    if folders is None:
        if classes is None:
            return []
        raise DataError(f"{path} has no folder for each class. Put its images into such folders, or leave out classes.")
    names = sorted(set(folders))
    try:
        # For pictures as in torchvision's ImageFolder: positions, also if the names are numbers.
        numbered = not all(file.suffix.lower() in SUFFIXES for file in files)
        labels, _ = class_labels(names, numbered=numbered)
    except DataError as error:
        return [Problem(str(path), None, LABEL, str(error))]
    return [
        Problem(str(path / name), None, LABEL, f"is {label}; expected 0 to {classes - 1}")
        for name, label in zip(names, labels, strict=True)
        if classes is not None and not 0 <= label < classes
    ]


def _sampled(images: Iterator[Image], most_wrong: int) -> list[Image]:
    """The first 25, or fewer if ``most_wrong`` of them cannot be read."""
    sampled, wrong = [], 0
    for image in images:
        sampled.append(image)
        wrong += bool(image.wrong)
        if len(sampled) == _SAMPLED or wrong == most_wrong:
            break
    return sampled


def _commonest(values: Sequence[T]) -> T | None:
    """The most frequent value; of several, the first."""
    return Counter(values).most_common(1)[0][0] if values else None


def _problems(image: Image, shape: tuple[int, ...] | None, dtype: str | None) -> list[Problem]:
    if image.wrong:
        return [Problem(image.file, None, None, image.wrong)]
    pairs = (("shape", image.shape, shape), ("dtype", image.dtype, dtype))
    return [
        Problem(image.file, None, None, f"has {key} {got}; expected {expected}")
        for key, got, expected in pairs
        if expected not in (None, got)
    ]


def inspect_image(sample: Sample) -> Image:
    """Read one image: its shape and dtype, or what is wrong with it."""
    file = sample.file
    try:
        if not file.is_dir():
            check_file(file)
        if file.stat().st_size == 0:
            return Image(str(file), wrong="is empty (0 bytes)")
        array = _read(sample)
    except Exception as error:  # noqa: BLE001 decoders raise anything: OSError, ValueError, struct.error ...
        if isinstance(error, DataError):
            return Image(str(file), wrong=str(error).removeprefix(f"{file} "))
        reason = (str(error).splitlines() or [""])[0][:_LONGEST] or type(error).__name__
        return Image(str(file), wrong=f"cannot be read: {reason}")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        return Image(str(file), wrong="holds NaN or infinity; expected finite numbers")
    return Image(str(file), array.shape, str(array.dtype.newbyteorder("=")))


def _read(sample: Sample) -> np.ndarray:
    if sample.tiff is not None:
        return tiff_pixels(sample.tiff)
    if _suffix(sample.file) in ZARR_SUFFIXES:
        return zarr_pixels(sample.file, planes_written=sample.planes_written)
    from pytest_loaderperf.data.encoded.decoder import stored

    return stored(sample.file.read_bytes(), psutil.virtual_memory().available // MEMORY_SHARE)


def _check_library(suffix: str) -> None:
    """Raises DataError if the library for files of ``suffix`` is not installed."""
    module, name, package = _LIBRARIES[suffix]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f"{suffix} images are read with {name}. Run: pip install {package}") from error
