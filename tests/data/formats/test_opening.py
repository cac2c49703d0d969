"""What others write, and is only read here."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import pickle
import re
import sys
import tarfile
import zipfile
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pytest_loaderperf.cli import main
from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.formats import FORMATS, READ_ONLY, format_of, open_table, write_table
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.data.workloads.make import checked_target
from pytest_loaderperf.errors import DataError

NO_TEXT = r"expected names in UTF-8, got '\\udcff'\. Rename it\.$"
ROWS = pa.table({"x": np.arange(10), "y": np.arange(10) * 0.5})


def refused(text, path, *given, **options):
    with pytest.raises(DataError) as caught:
        open_table(path, *given, **options)
    assert str(caught.value) == text


def all_ways(table, expected):
    """`read`, `take` and `stream` agree with ``expected`` in types and values, also after pickling."""
    assert table.schema.equals(expected.schema, check_metadata=False), table.schema
    for one in (table, pickle.loads(pickle.dumps(table))):  # noqa: S301 our own
        indices = np.array([len(one) - 1, 0, 0, len(one) // 2])
        names = expected.column_names[::-1]
        assert len(one) == len(expected)
        assert one.read().to_pylist() == expected.to_pylist()
        assert one.take(indices).to_pylist() == expected.take(pa.array(indices)).to_pylist()
        assert one.take(indices, names).to_pylist() == expected.select(names).take(pa.array(indices)).to_pylist()
        for name in names:
            assert one.read([name]).to_pylist() == expected.select([name]).to_pylist()
        batches = list(one.stream(3))
        assert all(len(batch) <= 3 for batch in batches)
        assert pa.Table.from_batches(batches).to_pylist() == expected.to_pylist()
    table.close()


def identity(path, **options):
    with closing(open_table(path, **options)) as table:
        source = Source(table, None)
        return source.identity(source.files())


# Options


def test_an_unknown_option_is_an_error_that_names_the_known_ones(tmp_path):
    write_table(ROWS, tmp_path / "a.parquet")
    refused(
        f"{tmp_path}/a.parquet: the format parquet has no options; got split. Leave it out.",
        tmp_path / "a.parquet",
        split="x",
    )
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    refused(
        f"{tmp_path}/a.npz: the format npz has the options columns; got split. Leave it out.",
        tmp_path / "a.npz",
        split="x",
    )


def test_options_count_in_the_identity_of_a_cache(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert identity(tmp_path / "a.csv") == identity(tmp_path / "a.csv")
    assert identity(tmp_path / "a.csv") != identity(tmp_path / "a.csv", memory_budget=0)


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_is_only_read_is_not_written(name, tmp_path):
    with pytest.raises(DataError) as caught:
        write_table(ROWS, tmp_path / "a", name)
    assert "Use parquet" in str(caught.value)
    assert not list(tmp_path.iterdir())


# Folders of files


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_a_folder_of_files_is_one_table_in_the_order_of_paths(name, tmp_path):
    suffix = FORMATS[name].suffix
    for place, file in enumerate(["a/2", "b", "a/1"]):
        (tmp_path / "t" / file).parent.mkdir(parents=True, exist_ok=True)
        write_table(ROWS.slice(place * 3, 3), tmp_path / "t" / f"{file}{suffix}")
    (tmp_path / "t" / "_metadata.parquet").write_bytes(b"no")
    assert format_of(tmp_path / "t").name == name
    all_ways(open_table(tmp_path / "t"), pa.concat_tables([ROWS.slice(6, 3), ROWS.slice(0, 3), ROWS.slice(3, 3)]))


def test_the_names_of_hive_folders_are_columns(tmp_path):
    rows = []
    for place, (year, place_name) in enumerate([("2020", "a%20b"), ("2021", "__HIVE_DEFAULT_PARTITION__")]):
        folder = tmp_path / "t" / f"year={year}" / f"place={place_name}"
        folder.mkdir(parents=True)
        part = ROWS.slice(place * 2, 2)
        write_table(part, folder / "p.parquet")
        name = pa.array(["a b"] * 2 if place == 0 else [None] * 2, pa.string())
        rows.append(part.append_column("year", pa.array([int(year)] * 2)).append_column("place", name))
    all_ways(open_table(tmp_path / "t"), pa.concat_tables(rows))


def test_what_pyarrow_partitions_is_read_back(tmp_path):
    table = ROWS.append_column("part", pa.array([row % 3 for row in range(10)]))
    pq.write_to_dataset(table, tmp_path / "t", partition_cols=["part"])
    with closing(open_table(tmp_path / "t")) as opened:
        assert opened.read().sort_by("x").to_pylist() == table.to_pylist()
        assert optimize(opened)[0]["part"] == 0


def test_files_with_other_columns_are_named(tmp_path):
    write_table(ROWS, tmp_path / "a.parquet")
    write_table(ROWS.select(["x"]), tmp_path / "b.parquet")
    advice = "Write all files with the same columns, or move it to another folder."
    refused(f"{tmp_path}/b.parquet: expected the columns of a.parquet, got no 'y'. {advice}", tmp_path)
    write_table(ROWS.set_column(1, "y", pa.array(["a"] * 10)), tmp_path / "b.parquet")
    refused(f"{tmp_path}/b.parquet, column 'y': expected double, as in a.parquet, got string. {advice}", tmp_path)


def test_a_file_whose_column_has_nulls_alone_fits(tmp_path):
    write_table(pa.table({"x": pa.nulls(2)}), tmp_path / "a.parquet")
    write_table(pa.table({"x": ["a"]}), tmp_path / "b.parquet")
    all_ways(open_table(tmp_path), pa.table({"x": pa.array([None, None, "a"])}))


def test_folders_that_are_called_as_files_are_looked_into(tmp_path):
    for place, folder in enumerate(("a.parquet", "b.parquet")):  # as Spark calls them
        (tmp_path / folder).mkdir()
        write_table(ROWS.slice(place * 3, 3), tmp_path / folder / "part-0.parquet")
    all_ways(open_table(tmp_path), ROWS.slice(0, 6))


@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.parquet"])
def test_a_relative_path_stays_the_same_file_wherever_the_process_goes(name, tmp_path, monkeypatch):
    for place in range(2):
        (tmp_path / str(place)).mkdir()
        rows = np.arange(3) + place
        path = tmp_path / str(place) / name
        if name == "a.npz":
            np.savez(path, x=rows)
        elif name == "a.csv":
            path.write_text("x\n" + "\n".join(map(str, rows)))
        else:
            write_table(pa.table({"x": rows}), path)
    monkeypatch.chdir(tmp_path / "0")
    table = open_table(name)
    monkeypatch.chdir(tmp_path / "1")
    all_ways(table, pa.table({"x": [0, 1, 2]}))


def test_an_archive_that_was_replaced_by_other_arrays_is_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3.0))
    table = open_table(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    with pytest.raises(DataError, match=r"expected the arrays of when it was opened, got others. Open it again."):
        table.read()


def test_folders_of_several_names_are_an_error(tmp_path):
    for folder in ("a=1", "b=1"):
        (tmp_path / folder).mkdir()
        write_table(ROWS, tmp_path / folder / "p.parquet")
    refused(
        f"{tmp_path}: expected folders called name=value of the same names for all files, got a and b. Rename them.",
        tmp_path,
    )


@pytest.mark.parametrize(
    "file, text",
    [
        ("x=5/a.parquet", ", column 'x': expected '5', as its folder says, got other values. Drop the column from the"),
        ("y=1/y=2/a.parquet", ": expected folders name=value of different names, got y=1/y=2. Rename one."),
        ("y=%FF/a.parquet", ": expected folders name=value in UTF-8, got b'\\xff'. Rename it."),
    ],
)
def test_folders_that_contradict_each_other_or_the_file_are_an_error(file, text, tmp_path):
    path = tmp_path / "t" / file
    path.parent.mkdir(parents=True)
    write_table(pa.table({"x": [5, 6]}), path)
    with pytest.raises(DataError) as caught:
        open_table(tmp_path / "t").read()
    assert f"{path}{text}" in str(caught.value)


def test_a_file_may_have_the_column_of_its_folder_and_digits_of_other_scripts_are_texts(tmp_path):
    for folder, x in (("x=5/y=\u0663", 5), ("x=6/y=2", 6)):
        (tmp_path / folder).mkdir(parents=True)
        write_table(pa.table({"x": [x]}), tmp_path / folder / "a.parquet")
    all_ways(open_table(tmp_path), pa.table({"x": [5, 6], "y": ["\u0663", "2"]}))


def test_a_schema_of_other_columns_among_the_metadata_of_parquet_does_not_count(tmp_path):
    with pq.ParquetWriter(tmp_path / "a.parquet", ROWS.schema, store_schema=False) as writer:
        writer.write_table(ROWS)
        other = base64.b64encode(ROWS.select(["y"]).schema.serialize().to_pybytes()).decode()
        writer.add_key_value_metadata({"ARROW:schema": other})
    all_ways(open_table(tmp_path / "a.parquet"), ROWS)


@pytest.mark.parametrize("name, rest", [("a.arrows", None), ("a.arrow", b"junk")])
def test_what_follows_the_end_of_an_arrow_stream_is_an_error(name, rest, tmp_path):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS.schema) as writer:
        writer.write_table(ROWS)
    stream = sink.getvalue().to_pybytes()
    rest = stream if rest is None else rest
    (tmp_path / name).write_bytes(stream + bytes(8))  # zeros fill files up
    all_ways(open_table(tmp_path / name), ROWS)
    (tmp_path / name).write_bytes(stream + rest)
    refused(
        f"{tmp_path / name}: expected the end of the Arrow stream at byte {len(stream):,}, got {len(rest):,} more "
        "bytes. Were several streams joined? Give them as files of a folder, or write one stream.",
        tmp_path / name,
    )


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_columns_of_one_name_are_told_and_the_others_are_read(name, tmp_path):
    rows, path = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "b"]), tmp_path / "x"
    if name == "parquet":
        pq.write_table(rows, path)
    else:
        with pa.ipc.new_file(path, rows.schema) as writer:
            writer.write_table(rows)
    with closing(open_table(path, name)) as table:
        assert table.read(["b"])["b"].to_pylist() == [3]
        for read in (table.read, lambda: table.take(np.array([0])), lambda: next(table.stream(1))):
            with pytest.raises(DataError) as caught:
                read()
            assert str(caught.value) == (
                f"{path}: expected columns of different names, got a more than once. Rename one, or name those to read."
            )


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes names in UTF-8 alone")
@pytest.mark.parametrize("name", ["x.tar", "x-npy"])
def test_a_name_that_is_no_text_is_to_be_renamed(name, tmp_path):
    path, odd = tmp_path / name, os.fsdecode(b"\xff")
    if name == "x.tar":
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo(f"{odd}.jpg"), io.BytesIO())
        with closing(open_table(path)) as table, pytest.raises(DataError, match=NO_TEXT):
            table.read()
    else:
        path.mkdir()
        np.save(path / f"{odd}.npy", np.arange(3))
        with pytest.raises(DataError, match=NO_TEXT):
            open_table(path)


def test_a_table_whose_log_says_which_files_count_is_refused(tmp_path):
    write_table(ROWS, tmp_path / "a.parquet")
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(DataError, match="is a Delta table, whose log says which of its files count"):
        open_table(tmp_path)


def test_images_beside_a_table_of_metadata_stay_images(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), "u1"))
    (tmp_path / "metadata.csv").write_text("a\n1\n")
    assert format_of(tmp_path).name == "tiff"


# What `save_to_disk` writes


def saved(folder, parts, **state):
    folder.mkdir(parents=True)
    names = [f"data-{place:05}-of-{len(parts):05}.arrow" for place in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        with pa.ipc.new_stream(folder / name, part.schema) as writer:
            writer.write_table(part, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], **state}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_dataset_is_read_in_the_order_of_its_state(tmp_path):
    folder = saved(tmp_path / "d", [ROWS.slice(0, 4), ROWS.slice(4)], _split="train")
    all_ways(open_table(folder), ROWS)
    all_ways(open_table(folder, split="train"), ROWS)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": f"data-0000{i}-of-00002.arrow"} for i in (1, 0)]})
    )
    all_ways(open_table(folder), pa.concat_tables([ROWS.slice(4), ROWS.slice(0, 4)]))


def test_of_splits_one_is_asked_for(tmp_path):
    for split, rows in (("train", ROWS), ("test", ROWS.slice(0, 2))):
        saved(tmp_path / "d" / split, [rows])
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    text = "expected one of them, got {}. Say which to open, as in open_table(path, split='train')."
    refused(f"{tmp_path}/d has the splits train, test: {text.format(None)}", tmp_path / "d")
    refused(f"{tmp_path}/d has the splits train, test: {text.format(repr('../x'))}", tmp_path / "d", split="../x")
    all_ways(open_table(tmp_path / "d", split="test"), ROWS.slice(0, 2))
    assert identity(tmp_path / "d", split="test") != identity(tmp_path / "d", split="train")


def test_a_saved_file_that_was_cut_between_batches_is_an_error(tmp_path):
    folder = saved(tmp_path / "d", [ROWS])
    file = folder / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="is truncated: it lacks the mark of the end of an Arrow stream"):
        open_table(folder)


@pytest.mark.parametrize(
    "state, text",
    [
        ({"_indices_files": [{"filename": "i.arrow"}]}, "got an additional list of indices"),
        ({"_data_files": [{"filename": "../a.arrow"}]}, "expected the names of the files of this folder"),
        ({"_data_files": []}, "expected the names of the files of this folder"),
        ({"_data_files": [{"filename": "none.arrow"}]}, "none.arrow is missing"),
    ],
)
def test_a_state_that_cannot_be_followed_is_an_error(state, text, tmp_path):
    with pytest.raises(DataError, match=text):
        open_table(saved(tmp_path / "d", [ROWS], **state))


# NumPy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_arrays_is_a_table(save, tmp_path):
    images = np.arange(24.0).reshape(4, 2, 3)
    save(tmp_path / "a.npz", images=np.asfortranarray(images), labels=np.arange(4, dtype=">i4"))
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    all_ways(open_table(tmp_path / "a.npz"), pa.table({"images": tensors, "labels": pa.array(range(4), pa.int32())}))
    sample = optimize(open_table(tmp_path / "a.npz"))[3]
    assert torch.equal(sample["images"], torch.from_numpy(images[3]))


def test_a_single_array_is_a_table(tmp_path):
    np.save(tmp_path / "digits.npy", np.arange(6).reshape(3, 2))
    with closing(open_table(tmp_path / "digits.npy")) as table:
        assert torch.equal(optimize(table)[2]["digits"], torch.tensor([4, 5]))
        assert len(table) == 3


def test_arrays_that_do_not_fit_are_named_and_the_others_open(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), names=np.array(["a", "b", "c"]), mean=np.zeros(7))
    refused(
        f"{tmp_path}/a.npz: expected arrays of one length, got {{'x': 3, 'names': 3, 'mean': 7}}. Keep others "
        "elsewhere, or name those to open: columns=[...].",
        tmp_path / "a.npz",
    )
    with pytest.raises(DataError, match=r"column 'names' holds <U1\. .* open the others: columns="):
        open_table(tmp_path / "a.npz", columns=["x", "names"])
    all_ways(open_table(tmp_path / "a.npz", columns=["x"]), pa.table({"x": range(3)}))
    with pytest.raises(DataError, match="expected columns, a list of some of"):
        open_table(tmp_path / "a.npz", columns=["z"])


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}]), y=np.arange(2))
    with pytest.raises(DataError, match="column 'x' holds object"):
        open_table(tmp_path / "a.npz")
    all_ways(open_table(tmp_path / "a.npz", columns=["y"]), pa.table({"y": [0, 1]}))


def test_a_flipped_byte_of_an_archive_is_noticed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(1000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[4000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        open_table(tmp_path / "a.npz").read()


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.txt", "a")
    with pytest.raises(DataError, match="holds no arrays"):
        open_table(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["complex64", "complex128", ">c8"])
@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
@pytest.mark.parametrize("kind", ["npz", "npy", "folder", "safetensors"])
def test_complex_numbers_are_torchs(kind, shape, dtype, tmp_path):
    values = (np.arange(np.prod(shape)) * (1 - 2j)).reshape(shape).astype(dtype)
    path = {"npz": "a.npz", "npy": "x.npy", "folder": "f", "safetensors": "a.safetensors"}[kind]
    if kind == "npz":
        np.savez(tmp_path / path, x=values)
    elif kind == "safetensors":
        values = values.astype("complex64")
        pytest.importorskip("safetensors.torch").save_file({"x": torch.from_numpy(values)}, tmp_path / path)
    else:
        (tmp_path / "f").mkdir()
        np.save(tmp_path / ("x.npy" if kind == "npy" else "f/x.npy"), values)
    expected = torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))
    for cache in ("whole", "chunked", "mapped", "compressed", "lru", "lazy"):
        rows = optimize(
            open_table(tmp_path / path), cache=cache, cache_dir=tmp_path / "c" if cache == "mapped" else None
        )
        assert rows[4]["x"].dtype == expected.dtype
        assert torch.equal(torch.stack([rows[i]["x"] for i in range(5)]), expected)
    write_table(open_table(tmp_path / path).read(), tmp_path / "b.parquet")
    assert torch.equal(optimize(open_table(tmp_path / "b.parquet"))[4]["x"], expected[4])


# Texts


@pytest.mark.parametrize("suffix, delimiter", [(".csv", ","), (".tsv", "\t"), (".csv.gz", ","), (".tsv.gz", "\t")])
@pytest.mark.parametrize("budget", [None, 0])
def test_csv_is_read_by_its_suffix(suffix, delimiter, budget, tmp_path):
    text = "\n".join(
        delimiter.join(map(str, row)) for row in [("x", "y", "s"), *[(i, i / 2, f"n{i}") for i in range(10)]]
    )
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    expected = ROWS.append_column("s", pa.array([f"n{i}" for i in range(10)]))
    table = open_table(tmp_path / f"a{suffix}", memory_budget=budget)
    if budget is None:
        all_ways(table, expected)
        return
    assert table.take(np.array([9, 0, 0])).to_pylist() == expected.take(pa.array([9, 0, 0])).to_pylist()
    assert pa.Table.from_batches(table.stream(3, ["s", "x"])).to_pylist() == expected.select(["s", "x"]).to_pylist()
    with pytest.raises(DataError, match="takes more memory than its budget of 0 bytes"):
        table.read()
    assert optimize(table, columns=["x"], cache="chunked")[9]["x"] == 9


@pytest.mark.parametrize("name", ["A.TSV.GZ", "a.tsv.csv", "tabs.tab.csv"])
def test_csv_goes_by_the_end_of_its_name_in_any_case(name, tmp_path):
    text = b"x\ty\n1\t2\n" if name.endswith("GZ") else b"x,y\n1,2\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("GZ") else text)
    all_ways(open_table(tmp_path / name), pa.table({"x": [1], "y": [2]}))


def test_csv_without_a_header_takes_names_and_types(tmp_path):
    (tmp_path / "a.csv").write_text("1;2\n3;4\n")
    table = open_table(tmp_path / "a.csv", delimiter=";", names=["a", "b"], types={"b": "float32"})
    all_ways(table, pa.table({"a": [1, 3], "b": pa.array([2, 4], pa.float32())}))


def test_csv_that_changes_its_type_later_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_loaderperf.data.formats.csv._BLOCK_NBYTES", 1 << 10)
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 2000 + "0.5\n")
    end = "Its first rows have another type. Give the column's type, as in types={'x': 'float64'}."
    with pytest.raises(DataError, match=re.escape(end)):
        open_table(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"That is the type that was given. Give .* as in types={'x': 'float64'}."):
        open_table(tmp_path / "a.csv", types={"x": "int8"})
    with closing(open_table(tmp_path / "a.csv", types={"x": "float64"})) as table:
        assert table.take(np.array([2000]))["x"].to_pylist() == [0.5]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("", "is empty"),
        ("a,a\n1,2\n", "expected columns of different names"),
        ('a,b\n1,"x\n2,y\n', r"column 'b', row 0: expected a closing quote, got the end of the file: all lines after"),
        ("\ufeffa".encode("utf-16-le"), r"is a text in UTF-16; .* Save it as UTF-8."),
        ("version https://git-lfs.github.com/spec/v1\noid 1\n", "is a Git LFS pointer"),
    ],
)
def test_csv_that_is_damaged_is_an_error(text, message, tmp_path):
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ['a,b\n1,"x\n2,y"\n', 'a,b\n1,"x\n" \n\n', 'a,b\n1,"x\n""y"""'])
def test_csv_may_end_with_a_quoted_line_break(text, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    assert open_table(tmp_path / "a.csv").read()["b"].to_pylist()[0].startswith("x\n")


@pytest.mark.parametrize("text", ["x\n1\n2\n3\n", "x\n7\n8\n", "y\n1\n2\n"])
def test_csv_that_changed_after_it_was_opened_is_an_error_and_not_called_damaged(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n2\n")
    with closing(open_table(path, memory_budget=0)) as table:
        assert table.take(np.array([1]))["x"].to_pylist() == [2]
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(path)
        for read in (lambda: table.take(np.array([1])), lambda: list(table.stream(1))):
            with pytest.raises(
                DataError, match=r"a\.csv changed after it was opened\. Open it again when it no longer"
            ):
                read()


@pytest.mark.parametrize("text, kind", [("18446744073709551615", "uint64"), ("-9223372036854775809", "string")])
@pytest.mark.parametrize("budget", [None, 0])
def test_csv_with_integers_that_float64_rounds_asks_for_their_type(text, kind, budget, tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_loaderperf.data.formats.csv._BLOCK_NBYTES", 1 << 10)
    (tmp_path / "a.csv").write_text(f"x,y\n1e30,1\n123456789012345680,1\n{text},2\n")
    kinds = "'string'" if kind == "string" else f"{kind!r} or 'string'"
    refused(
        f"{tmp_path}/a.csv, column 'x', row 2: expected a number that float64 holds, got {text}, which it would round. "
        f"Give the column's type: types={{'x': {kinds}}}.",
        tmp_path / "a.csv",
        memory_budget=budget,
    )
    assert open_table(tmp_path / "a.csv", types={"x": "string"}).read()["x"].to_pylist()[2] == text


@pytest.mark.parametrize(
    "option, text",
    [
        (
            {"types": {"1": pa.list_(pa.int8())}},
            "CSV conversion to list<item: int8> is not supported. Give a type for it",
        ),
        ({"delimiter": "::"}, "expected delimiter, one character, got '::'."),
        ({"names": "ab"}, "expected names, a list with the name of each column, got 'ab'."),
    ],
)
def test_an_option_of_csv_that_does_not_fit_is_named(option, text, tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/a.csv: {text}")):
        open_table(tmp_path / "a.csv", **option)


# Tars


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def samples(first, stop):
    return [
        (f"a/{i:03}.{kind}", content)
        for i in range(first, stop)
        for kind, content in [
            ("seg.bin", bytes([i])),
            ("cls", str(i).encode()),
            ("txt", f"é{i}".encode()),
            ("npy", npy(np.full((2, 2), i))),
        ]
    ]


def rows_of(first, stop):
    images = np.repeat(np.arange(first, stop), 4).reshape(-1, 2, 2)
    return pa.table(
        {
            "__key__": [f"a/{i:03}" for i in range(first, stop)],
            "seg.bin": pa.array([bytes([i]) for i in range(first, stop)], pa.large_binary()),
            "cls": range(first, stop),
            "txt": [f"é{i}" for i in range(first, stop)],
            "npy": pa.FixedShapeTensorArray.from_numpy_ndarray(images),
        }
    )


def test_a_tar_of_samples_is_a_table(tmp_path):
    tar(tmp_path / "a.tar", samples(0, 7))
    all_ways(open_table(tmp_path / "a.tar"), rows_of(0, 7))
    sample = optimize(open_table(tmp_path / "a.tar"), columns=["npy", "cls"])[3]
    assert sample["cls"] == 3
    assert torch.equal(sample["npy"], torch.full((2, 2), 3))


def test_several_tars_are_read_in_order(tmp_path):
    tar(tmp_path / "s-000001.tar", samples(3, 5))
    tar(tmp_path / "s-000000.tar", samples(0, 3))
    all_ways(open_table(tmp_path), rows_of(0, 5))


def test_a_sample_without_a_part_is_named_and_the_others_open(tmp_path):
    tar(tmp_path / "a.tar", [member for member in samples(0, 4) if member[0] != "a/002.cls"])
    refused(
        f"{tmp_path}/a.tar: expected 'cls' in every sample, got 1 of 4 without, such as 'a/002'. Add it, or open the "
        "others: columns=[...].",
        tmp_path / "a.tar",
    )
    all_ways(open_table(tmp_path / "a.tar", columns=["txt"]), rows_of(0, 4).select(["txt"]))


def test_a_tar_that_is_cut_anywhere_or_has_a_damaged_header_is_an_error(tmp_path):
    tar(tmp_path / "a.tar", samples(0, 3))
    content = (tmp_path / "a.tar").read_bytes()
    end = len(content.rstrip(b"\0"))
    for size in (*range(0, end, 300), end):
        (tmp_path / "b.tar").write_bytes(content[:size])
        with pytest.raises(DataError):
            open_table(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "a.tar") as file:
        starts = [member.offset for member in file]
    for start in starts:
        damaged = bytearray(content)
        damaged[start + 3] ^= 1
        (tmp_path / "b.tar").write_bytes(damaged)
        with pytest.raises(DataError):
            open_table(tmp_path / "b.tar")


@pytest.mark.parametrize(
    "members, text",
    [
        ([("a.cls", b"1"), ("b.cls", b"x")], "row 1, b.cls: expected an integer of 64 bits, got b'x'"),
        ([("a.cls", b"9" * 20)], "row 0, a.cls: expected an integer of 64 bits, got b'9999"),
        ([("a.npy", npy(np.zeros(2)) * 2)], r"a.npy: expected one array of float64 and shape \(2,\), got 144 more"),
        (
            [("a.npy", npy(np.zeros(2))), ("b.npy", npy(np.zeros(3)))],
            r"row 1, b.npy: expected float64 of shape \(2,\), as",
        ),
        ([("a.npy", npy(np.zeros(2))), ("b.npy", b"junk")], "row 1, b.npy: expected an array of numbers"),
        ([("a.txt", b"1"), ("a.txt", b"2")], "expected one 'txt' in a sample, got two in 'a'"),
    ],
)
def test_a_member_that_does_not_fit_is_named(members, text, tmp_path):
    tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=text):
        open_table(tmp_path / "a.tar").read()


def test_compressed_and_joined_tars_say_what_to_do(tmp_path):
    tar(tmp_path / "a.tar", samples(0, 2), "w:gz")
    with pytest.raises(DataError, match=r"is compressed, .* Unpack it to a .tar"):
        open_table(tmp_path / "a.tar")
    tar(tmp_path / "b.tar", samples(0, 2))
    (tmp_path / "b.tar").write_bytes((tmp_path / "b.tar").read_bytes() * 2)
    with pytest.raises(DataError, match="several tars were joined"):
        open_table(tmp_path / "b.tar")


# The check of data


def test_the_check_takes_options(tmp_path, capsys):
    for split, rows in (("train", ROWS), ("test", ROWS.slice(0, 2))):
        saved(tmp_path / "d" / split, [rows])
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "has the splits train, test" in check(tmp_path / "d").problems[0].what
    assert check(tmp_path / "d", options={"split": "test"}).total == 2
    assert main(["data", "check", str(tmp_path / "d"), "--option", "split=train"]) == 0
    assert "10" in capsys.readouterr().out
    with pytest.raises(DataError, match="the format saved_dataset has the options split; got level"):
        check(tmp_path / "d", options={"level": 1})
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.arange(4))
    assert main(["data", "check", str(tmp_path / "a.npz"), "--option", 'columns=["y"]']) == 0
    assert main(["data", "check", str(tmp_path / "a.npz")]) == 1
    with pytest.raises(SystemExit):
        main(["data", "check", str(tmp_path / "a.npz"), "--option", "columns"])
    assert "expected NAME=VALUE, such as split=train, got 'columns'" in capsys.readouterr().err


def test_the_check_reads_a_level_of_each_image(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 8), "u1"), photometric="minisblack")
    assert check(tmp_path, options={"page": 2}, shape=(8, 8)).good
    assert "expected a page below 3" in check(tmp_path, options={"page": 3}).problems[0].what


@pytest.mark.parametrize("file", ["a.npy", "a.tif", "a.npz", "a.csv", "a.tar"])
@pytest.mark.parametrize("named", [False, True])
def test_a_file_of_the_user_is_never_replaced_by_a_folder(file, named, tmp_path):
    path = tmp_path / file
    path.write_bytes(b"mine")
    name = format_of(path).name
    with pytest.raises(DataError, match=r"expected the path of a folder|which is only read"):
        write_table(ROWS.select(["x"]), path, name if named else None)
    with pytest.raises(DataError, match=r"expected the path of a folder|which is only read"):
        checked_target(path, name if named else None, force=True)
    assert path.read_bytes() == b"mine"


def test_the_check_sees_complex_numbers_as_they_are_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2), "complex64"))
    assert check(tmp_path / "a.npz", dtype="complex64", shape=(2,)).good
    assert check(tmp_path / "a.npz", dtype="float32").problems[0].what == "has dtype complex64; expected float32"
    np.savez(tmp_path / "a.npz", x=np.array([[1, complex(0, np.nan)]], "complex64"))
    assert not check(tmp_path / "a.npz").good
