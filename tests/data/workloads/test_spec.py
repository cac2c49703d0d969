from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pytest_loaderperf.data import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.workloads.spec import spec_of
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
TAKEN = (
    "A workload of uniform needs factory, samples, shape, and may have "
    "batch_size, batches, class_weights, classes, dtype, seed."
)


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
    assert text.endswith(". Fix that line.")


@pytest.mark.parametrize(
    "drop, extra, missing, unknown",
    [("shape", {}, "shape", "none"), ("", {"sede": "1"}, "none", "sede"), ("shape", {"sede": "1"}, "shape", "sede")],
)
def test_missing_and_unknown_keys_are_named(tmp_path, drop, extra, missing, unknown):
    assert refusal(write_spec(tmp_path, drop, **extra)) == (
        f"workload spec mine.toml: missing keys: {missing}; unknown keys: {unknown}. {TAKEN}"
    )


@pytest.mark.parametrize("key", ["samples", "classes", "batch_size", "batches"])
@pytest.mark.parametrize("value, shown", [("0", "0"), ("2.5", "2.5"), ('"8"', "'8'")])
def test_a_size_that_is_not_a_positive_whole_number_is_refused(tmp_path, key, value, shown):
    assert refusal(write_spec(tmp_path, **{key: value})) == (
        f"workload 'mine', {key}: expected an integer of at least 1, got {shown}."
    )


def test_a_shape_that_is_not_a_list_is_refused(tmp_path):
    assert refusal(write_spec(tmp_path, shape="784")) == ("workload 'mine', shape: expected a list of sizes, got 784.")


@pytest.mark.parametrize(
    "given, came", [({}, "missing keys: factory"), ({"factory": "gauss"}, "unknown factory 'gauss'")]
)
def test_a_spec_without_a_known_factory_is_refused_with_the_known_ones(given, came):
    with pytest.raises(DataError) as caught:
        spec_of("mine", given)
    assert str(caught.value) == (
        f"workload 'mine': {came}. "
        "Known factories: arrays, digits, images, photos, tables, tiffs, tokens, uniform, volumes."
    )


def test_what_a_spec_leaves_out_has_defaults():
    spec = spec_of("mine", {"factory": "images", "samples": 100, "shape": [8, 8]})
    assert spec == WorkloadSpec("mine", "images", 100, (8, 8), "uint8", 10, 0, 32, 4)
    assert spec_of("mine", {"factory": "arrays", "samples": 1, "shape": [], "class_weights": [3, 1]}).classes == 2


def test_keywords_take_the_place_of_the_keys_of_a_spec():
    spec = load_spec("images", samples=7, seed=3)
    assert (spec.samples, spec.seed, spec.shape) == (7, 3, load_spec("images").shape)


NEEDED = {
    "arrays": {"shape": [2]},
    "images": {"shape": [4, 4]},
    "volumes": {"shape": [2, 4, 4], "inputs": ["a"], "targets": ["b"]},
    "tables": {"columns": {"a": "float32"}},
    "tokens": {"lengths": [1, 4], "vocabulary": 9},
    "photos": {"shape": [4, 4, 3]},
    "tiffs": {"shape": [4, 4], "folder": "here"},
}
NAMES = "expected names that differ from each other and from targets"
NUMBERS = "class_weights: expected a list of numbers above 0"
VOCABULARY = "vocabulary: expected an integer from 1 to"
PIXELS = "one of uint8, uint16, float32"


@pytest.mark.parametrize(
    "factory, key, value, expected",
    [
        ("arrays", "shape", [2, 0], "shape: expected a list of integers of at least 1, got [2, 0]."),
        ("arrays", "shape", [2, True], "shape: expected a list of integers of at least 1, got (2, True)."),
        ("arrays", "samples", True, "samples: expected an integer of at least 1, got True."),
        ("arrays", "samples", 0, "samples: expected an integer of at least 1, got 0."),
        ("arrays", "seed", -1, "seed: expected an integer of at least 0, got -1."),
        ("arrays", "class_weights", [1, 2, 0], f"{NUMBERS}, got [1, 2, 0]."),
        ("arrays", "class_weights", [1, float("nan")], f"{NUMBERS}, got [1, nan]."),
        ("images", "dtype", "int64", f"dtype: expected {PIXELS} for images, got 'int64'."),
        ("images", "shape", [4], "shape: expected a list of 2 or 3 sizes for images, got [4]."),
        ("volumes", "dtype", "float64", f"dtype: expected {PIXELS} for volumes, got 'float64'."),
        ("volumes", "shape", [4, 4], "shape: expected a list of 3 sizes for volumes, got [4, 4]."),
        ("volumes", "inputs", [], "inputs: expected a list of names, got []."),
        ("volumes", "inputs", ["a", "a"], f"inputs: {NAMES}, got ('a', 'a')."),
        ("volumes", "targets", ["a"], f"inputs: {NAMES}, got ('a',)."),
        ("tokens", "lengths", [4, 1], "lengths: expected [least, most], integers of at least 1, got [4, 1]."),
        ("tokens", "vocabulary", 2**40, f"{VOCABULARY} {2**32} for int64, got {2**40}."),
        ("tokens", "dtype", "float32", "dtype: expected one of int64, int32 for tokens, got 'float32'."),
        ("photos", "shape", [4, 4, 1], "shape: expected [height, width, 3] for photos, got [4, 4, 1]."),
        ("tiffs", "folder", "", "folder: expected the path of a folder, got ''."),
    ],
)  # fmt: skip
def test_a_value_that_the_kind_cannot_have_is_refused(factory, key, value, expected):
    with pytest.raises(DataError) as caught:
        spec_of("mine", {"factory": factory, "samples": 3, **NEEDED[factory], key: value})
    assert str(caught.value) == f"workload 'mine', {expected}"


def test_columns_of_an_unknown_dtype_are_refused():
    with pytest.raises(
        DataError, match=r"columns: expected a table of names and dtypes out of float32, .*, bool, got "
    ):
        spec_of("mine", {"factory": "tables", "samples": 3, "columns": {"a": "text"}})


def test_a_column_cannot_have_the_name_of_the_labels():
    with pytest.raises(DataError) as caught:
        spec_of("mine", {"factory": "tables", "samples": 3, "columns": {"label": "float32"}})
    assert str(caught.value) == (
        "workload 'mine', columns: expected names other than 'label', which the labels have, "
        "got (('label', 'float32'),)."
    )


def test_class_weights_must_fit_the_classes():
    with pytest.raises(DataError) as caught:
        spec_of("mine", {"factory": "arrays", "samples": 3, "shape": [2], "classes": 3, "class_weights": [1, 2]})
    assert str(caught.value) == "workload 'mine', class_weights: expected 3 numbers, one a class, got [1, 2]."


def test_an_installation_without_specs_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_loaderperf.data.workloads.spec._FOLDERS", (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(DataError) as caught:
        workload_names()
    assert str(caught.value) == (
        f"no workload specs found; looked in {tmp_path / 'a'}, {tmp_path / 'b'}. Reinstall pytest-loaderperf."
    )


DOCUMENTED = re.findall(
    r"```toml\n(.*?)```", (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8"), re.DOTALL
)


@pytest.mark.parametrize("text", DOCUMENTED)
def test_a_documented_spec_is_a_spec(text):
    assert spec_of("documented", tomllib.loads(text)).samples > 0
