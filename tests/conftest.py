"""Shared by all tests. No test asserts real speed."""

from __future__ import annotations

pytest_plugins = ["pytester"]
