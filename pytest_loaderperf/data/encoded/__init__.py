"""Encoded pictures in files and columns: PNG, JPEG, WebP, BMP and GIF, decoded on request."""

from pytest_loaderperf.data import formats  # noqa: F401 which says what to install if pyarrow is missing
