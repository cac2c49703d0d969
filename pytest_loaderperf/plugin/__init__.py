"""The pytest plugin. A run that does not measure loads this file, the options and the fixtures, and nothing heavier."""

from __future__ import annotations

import os

import pytest

from pytest_loaderperf.plugin import fixtures, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    early_config.stash[settings.ENVIRONMENT] = dict(os.environ)  # before any code of the user changes it


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "loaderperf(base=ref, budget=seconds, device=name, inconclusive=pass|fail|leaning, max_budget=seconds, "
        "timeout=seconds): how the test's loaders are measured",
    )
    config.stash.setdefault(settings.ENVIRONMENT, dict(os.environ))  # a conftest.py names us as its plugin
    config.stash[settings.SETTINGS] = own = settings.read_settings(config)
    config.pluginmanager.register(fixtures, "loaderperf-fixtures")
    if own.measuring:
        from pytest_loaderperf.plugin import hooks, session

        session.begin(config)
        config.pluginmanager.register(hooks, "loaderperf-hooks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.stash[settings.SETTINGS].measuring:
        for item in filter(settings.measures, items):
            item.add_marker(pytest.mark.skip(reason=settings.SKIP_REASON))
