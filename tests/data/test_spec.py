from __future__ import annotations

from pathlib import Path

import pytest

from pytest_loaderperf.data import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.errors import DataError

KEYS = {
    "factory": '"uniform"',
    "samples": "6",
    "shape": "[2, 3]",
    "dtype": '"float32"',
    "classes": "4",
    "seed": "7",
    "batch_size": "2",
    "batches": "3",
}
ALL_KEYS = ", ".join(sorted(KEYS))


def write_spec(folder: Path, drop: str = "", **keys: str) -> str:
    path = folder / "mine.toml"
    lines = [f"{key} = {value}" for key, value in {**KEYS, **keys}.items() if key != drop]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def refusal(name: str) -> str:
    with pytest.raises(DataError) as caught:
        load_spec(name)
    return str(caught.value)


def test_every_listed_name_loads_under_that_name():
    assert {"digits", "vectors"} <= set(workload_names())
    assert [load_spec(name).name for name in workload_names()] == workload_names()


def test_a_path_gives_a_spec_named_after_its_file(tmp_path):
    assert load_spec(write_spec(tmp_path)) == WorkloadSpec("mine", "uniform", 6, (2, 3), "float32", 4, 7, 2, 3)


def test_an_unknown_name_is_refused_with_the_known_ones():
    assert refusal("nope") == (
        f"unknown workload 'nope'. Known: {', '.join(workload_names())}. A path ending in .toml works too."
    )


def test_a_path_that_does_not_exist_is_refused():
    assert refusal("gone.toml") == "no workload spec at gone.toml. Give the path of a TOML file that exists."


@pytest.mark.parametrize("content", [b"samples = = 3", b"samples = \xff"], ids=["syntax", "not utf-8"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    text = refusal(str(path))
    assert text.startswith("workload spec mine.toml is not TOML: ")
    assert text.endswith(". Mend that line.")


@pytest.mark.parametrize(
    "drop, extra, missing, unknown",
    [("seed", {}, "seed", "none"), ("", {"sede": "1"}, "none", "sede"), ("seed", {"sede": "1"}, "seed", "sede")],
)
def test_missing_and_unknown_keys_are_named(tmp_path, drop, extra, missing, unknown):
    assert refusal(write_spec(tmp_path, drop, **extra)) == (
        f"workload spec mine.toml: missing keys: {missing}; unknown keys: {unknown}. Expected exactly: {ALL_KEYS}."
    )


@pytest.mark.parametrize("key", ["samples", "classes", "batch_size", "batches"])
@pytest.mark.parametrize("value, shown", [("0", "0"), ("2.5", "2.5"), ('"8"', "'8'")])
def test_a_size_that_is_not_a_positive_whole_number_is_refused(tmp_path, key, value, shown):
    assert refusal(write_spec(tmp_path, **{key: value})) == (
        f"workload 'mine': {key} must be a whole number from 1 up, but {shown} came."
    )


def test_a_shape_that_is_not_a_list_is_refused(tmp_path):
    assert refusal(write_spec(tmp_path, shape="784")) == (
        "workload spec mine.toml: shape must be a list of sizes, but 784 came."
    )


def test_an_installation_without_specs_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_loaderperf.data.spec._FOLDERS", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(DataError) as caught:
        workload_names()
    assert str(caught.value) == (
        f"no workload specs found; looked in {tmp_path / 'a'}, {tmp_path / 'b'}. Reinstall pytest-loaderperf."
    )
