"""Pictures as they are kept in files and columns: PNG, JPEG, WebP, BMP and GIF, decoded when they are asked for."""

from pytest_loaderperf.data import formats  # noqa: F401 which says what to install where Arrow is not
