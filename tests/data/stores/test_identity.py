"""A cache belongs to one state of its source, whatever of it can change what is read."""

from __future__ import annotations

import functools
import os
import shutil
from importlib import metadata

import numpy as np
import pyarrow as pa
import pytest
import tifffile

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.formats import FORMATS, format_of, missing, open_table, write_table
from pytest_loaderperf.data.stores.mapped import mapped
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.errors import DataError
from tests.data.formats.test_whole_tiff import OME, pixels, plane, uuid, write
from tests.data.stores.conftest import OnDisk, uniform

INSTEAD = 'Choose cache="lru" or "compressed", which keep nothing beyond this process.'


def identity(table, columns=None):
    source = Source(table, columns)
    return source.identity(source.files())


def first(path, folder, format=None):  # noqa: A002 as open_table has it
    return int(optimize(open_table(path, format), cache="mapped", cache_dir=folder)[0]["image"].flatten()[0])


def tiffs(folder, value, names=("0.tif",)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        tifffile.imwrite(folder / name, np.full((4, 4), value, "u1"))


def images(value, rows=3):
    kind = pa.fixed_shape_tensor(pa.uint8(), (2, 4, 4))
    values = pa.array(np.full(rows * 32, value, np.uint8))
    return pa.table({"image": pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(values, 32))})


class TestLinks:
    def test_a_folder_behind_a_link_is_looked_into(self, tmp_path):
        tiffs(tmp_path / "v1", 1), tiffs(tmp_path / "v2", 2), (tmp_path / "ds").mkdir()
        for version in (1, 2):
            (tmp_path / "ds" / "a").unlink(missing_ok=True)
            (tmp_path / "ds" / "a").symlink_to(tmp_path / f"v{version}")
            assert first(tmp_path / "ds", tmp_path / "c", "tiff") == version

    def test_a_file_changed_behind_a_linked_folder(self, tmp_path):
        tiffs(tmp_path / "v", 1), (tmp_path / "ds").mkdir()
        (tmp_path / "ds" / "a").symlink_to(tmp_path / "v")
        assert first(tmp_path / "ds", tmp_path / "c", "tiff") == 1
        tiffs(tmp_path / "v", 2)
        assert first(tmp_path / "ds", tmp_path / "c", "tiff") == 2

    def test_a_link_that_is_the_source(self, tmp_path):
        for version in (1, 2):
            write_table(images(version), tmp_path / f"{version}.parquet")
            os.utime(tmp_path / f"{version}.parquet", ns=(5, 5))
            (tmp_path / "t.parquet").unlink(missing_ok=True)
            (tmp_path / "t.parquet").symlink_to(f"{version}.parquet")
            assert first(tmp_path / "t.parquet", tmp_path / "c") == version

    def test_links_in_a_circle_and_to_nothing_end(self, on_disk, tmp_path):
        source = Source(on_disk(uniform()[0]), None)
        source.table.path = tmp_path / "ds"
        (tmp_path / "ds" / "a").mkdir(parents=True)
        (tmp_path / "ds" / "a" / "up").symlink_to("..")
        (tmp_path / "ds" / "a" / "too").symlink_to(tmp_path / "ds")
        (tmp_path / "ds" / "none").symlink_to("nowhere")
        (tmp_path / "ds" / "self").symlink_to("self")
        names = sorted(path.removeprefix(str(tmp_path)) for path, *_ in source.files().facts)
        assert names == ["/ds", "/ds/a", "/ds/a/too", "/ds/a/up", "/ds/none", "/ds/self"]
        before = source.files()
        (tmp_path / "ds" / "nowhere").touch()
        assert source.files() != before


class TestElsewhere:
    """Files that a table reads and that are not at its path or below it."""

    @pytest.mark.parametrize("inside", [True, False])
    def test_a_picture_that_a_column_names(self, inside, tmp_path):
        pillow = pytest.importorskip("PIL.Image")
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        path = tmp_path / "i.png"
        named = {"bytes": None, "path": path.name if inside else str(path)}
        for value in (1, 2):
            pillow.new("RGB", (4, 4), (value, 0, 0)).save(path)
            rows = pa.array([named, {"bytes": path.read_bytes(), "path": "none.png"}], kind)
            if value == 1:
                write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
            assert first(tmp_path / "t.parquet", tmp_path / "c") == value

    @pytest.mark.parametrize("alone", [True, False])
    @pytest.mark.parametrize("other", ["1.ome.tif", "../other/1.ome.tif"])
    def test_a_part_of_an_ome_tiff(self, other, alone, tmp_path):
        names = ["0.ome.tif", other]
        data = "".join(plane(c, name, c) for c, name in enumerate(names))
        for value in (1, 2):
            for c, name in enumerate(names):
                xml = f'{OME} UUID="{uuid(c)}"><Image ID="Image:0">{pixels(2, data)}</Image></OME>'
                if c or value == 1:
                    write(tmp_path / "ds" / name, value, xml)
            store = optimize(
                open_table(tmp_path / "ds" / names[0] if alone else tmp_path / "ds"),
                cache="mapped",
                cache_dir=tmp_path / "c",
            )
            assert store[0]["image"][1, 0, 0] == value


class TestChange:
    def test_a_file_of_the_same_size_and_time(self, tmp_path):
        path = tmp_path / "t.arrow"
        for version in (1, 2):
            write_table(images(version), tmp_path / "new.arrow")
            path.write_bytes((tmp_path / "new.arrow").read_bytes())  # into the same inode
            os.utime(path, ns=(5, 5))
            assert first(path, tmp_path / "c") == version

    def test_a_file_that_took_the_place_of_another(self, tmp_path):
        path = tmp_path / "t.arrow"
        for version in (1, 2):
            write_table(images(version), tmp_path / "new.arrow")
            os.utime(tmp_path / "new.arrow", ns=(5, 5))
            (tmp_path / "new.arrow").replace(path)
            assert first(path, tmp_path / "c") == version

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_every_format(self, name, tmp_path):
        if name in missing():
            pytest.skip(f"{name} is not installed")
        path = tmp_path / f"t{FORMATS[name].suffix}"
        for version in (1, 2, 3):
            write_table(images(version), path)
            assert first(path, tmp_path / "c") == version
            assert first(path, tmp_path / "c") == version
        assert len(list((tmp_path / "c").iterdir())) == 3

    def test_a_write_ahead_log(self, tmp_path):
        write_table(images(1), tmp_path / "t.duckdb")
        before = identity(open_table(tmp_path / "t.duckdb"))
        (tmp_path / "link.duckdb").symlink_to("t.duckdb")
        linked = identity(open_table(tmp_path / "link.duckdb"))
        duckdb = pytest.importorskip("duckdb")
        other = duckdb.connect(str(tmp_path / "t.duckdb"), config={"checkpoint_threshold": "1TB"})
        other.execute("PRAGMA disable_checkpoint_on_shutdown")
        other.execute("CREATE TABLE more AS SELECT 1")
        other.close()
        assert (tmp_path / "t.duckdb.wal").stat().st_size
        assert identity(open_table(tmp_path / "t.duckdb")) != before
        assert identity(open_table(tmp_path / "link.duckdb")) != linked

    def test_a_file_beside_it_of_another_name_is_none_of_it(self, tmp_path):
        write_table(images(1), tmp_path / "t.parquet")
        before = identity(open_table(tmp_path / "t.parquet"))
        (tmp_path / "t2.parquet").touch()
        assert identity(open_table(tmp_path / "t.parquet")) == before
        (tmp_path / "t.parquet.crc").touch()
        assert identity(open_table(tmp_path / "t.parquet")) != before

    def test_a_table_that_was_opened_before_it_changed_gives_no_old_rows_to_who_opens_it_anew(self, tmp_path):
        path = tmp_path / "t.parquet"
        write_table(images(1), path)
        early = open_table(path)
        write_table(images(2), path)
        optimize(early, cache="mapped", cache_dir=tmp_path / "c")
        assert first(path, tmp_path / "c") == 2

    def test_one_of_other_rows_than_when_it_was_opened_is_refused(self, tmp_path):
        path = tmp_path / "t.parquet"
        write_table(images(1), path)
        early = open_table(path)
        write_table(images(2, rows=5), path)
        with pytest.raises(DataError) as caught:
            optimize(early, cache="mapped", cache_dir=tmp_path / "c")
        assert str(caught.value) == (
            f"{path}: the source changed after it was opened, or while it was cached. "
            "Open it again when it no longer changes."
        )
        assert list((tmp_path / "c").iterdir()) == []

    def test_one_that_changes_while_it_is_cached_is_refused(self, on_disk, tmp_path):
        source = on_disk(uniform()[0])
        good = source.stream

        def stream(rows, columns):
            yield from good(rows, columns)
            os.utime(source.path)

        optimize(source, cache="whole")
        source.stream = stream
        with pytest.raises(DataError, match="while it was cached"):
            optimize(source, cache="mapped", cache_dir=tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []


class TestOptions:
    def test_the_metadata_of_a_field_counts_to_its_end(self, on_disk):
        source, found = on_disk(uniform()[0]), set()
        for classes in ("x" * 5000 + "a", "x" * 5000 + "b"):
            field = source.schema.field("label").with_metadata({"classes": classes})
            source.schema = source.schema.set(1, field)
            found.add(identity(source))
        assert len(found) == 2

    def test_the_format_counts(self, tmp_path):
        tiffs(tmp_path / "ds", 1)
        table = open_table(tmp_path / "ds")

        class Other(type(table)):
            pass

        assert identity(Other(table.path)) != identity(table) == identity(open_table(str(table.path)))

    def test_every_option_that_a_table_pickles_counts(self, on_disk):
        class Level(OnDisk):
            option = 0

            def __reduce__(self):
                return Level, (self.path, self.option)

        table = Level(on_disk(uniform()[0]).path)
        found = set()
        options = [0, 1, 0.0, False, None, "0", b"0", (0,), {"a": 0}, {"a": 1}, {0}, np.dtype("u1"), int, table.path]
        for table.option in options:
            found.add(identity(table))
            assert identity(table) in found
        assert len(found) == len(options)

    @pytest.mark.parametrize("function", [len, lambda x: x, functools.partial(len)])
    def test_a_function_is_refused_because_its_code_may_change(self, on_disk, function):
        class Transformed(OnDisk):
            def __reduce__(self):
                return Transformed, (self.path, {"transform": [function]})

        with pytest.raises(DataError) as caught:
            identity(Transformed(on_disk(uniform()[0]).path))
        assert f"Transformed is made with the function {function!r:.80}" in str(caught.value)
        assert str(caught.value).endswith(f"a cache file would not notice a change. {INSTEAD}")

    @pytest.mark.parametrize("package", ["pytest-loaderperf", "pyarrow", "numpy", "tifffile", "imagecodecs"])
    def test_the_versions_of_what_reads_it_count(self, tmp_path, package, monkeypatch):
        tiffs(tmp_path / "ds", 1)
        table, good = open_table(tmp_path / "ds"), metadata.version
        before = identity(table)
        monkeypatch.setattr(metadata, "version", lambda name: "99" if name == package else good(name))
        assert identity(table) != before

    def test_the_version_of_another_format_does_not(self, tmp_path, monkeypatch):
        tiffs(tmp_path / "ds", 1)
        table, good = open_table(tmp_path / "ds"), metadata.version
        before = identity(table)
        monkeypatch.setattr(metadata, "version", lambda name: "99" if name == "duckdb" else good(name))
        assert identity(table) == before


class TestNoFiles:
    def test_a_table_without_a_path_is_refused(self, on_disk):
        source = Source(on_disk(uniform()[0]), None)
        del source.table.path
        with pytest.raises(DataError) as caught:
            mapped(source, None, 1 << 20)
        assert str(caught.value) == (f"expected a table with a path, to name its cache file by, got OnDisk. {INSTEAD}")

    @pytest.mark.parametrize("path", ["s3://bucket/table", os.devnull, "gone"])
    def test_a_path_that_is_no_file_of_this_machine_is_refused(self, on_disk, path):
        source = Source(on_disk(uniform()[0]), None)
        source.table.path = path
        with pytest.raises(DataError) as caught:
            mapped(source, None, 1 << 20)
        assert str(caught.value).endswith(f"expected a file or a folder, which can identify a cache. {INSTEAD}")


class TestInside:
    def refused(self, source, folder, format="tiff"):  # noqa: A002 as open_table has it
        with pytest.raises(DataError) as caught:
            first(source, folder, format)
        assert str(caught.value) == (
            f"expected a cache folder outside of the source, got {folder} inside {source}: the cache would change its "
            "own source. Give another cache_dir."
        )

    @pytest.mark.parametrize("inside", [".", "c", "a/deep/c"])
    def test_a_cache_inside_its_source_is_refused_and_nothing_is_made(self, tmp_path, inside):
        source = tmp_path / "ds"
        tiffs(source, 1)
        self.refused(source, source / inside)
        assert [path.name for path in source.iterdir()] == ["0.tif"]

    def test_also_by_way_of_links(self, tmp_path):
        real = tmp_path / "real"
        tiffs(real / "a", 1)
        (tmp_path / "ds").symlink_to("real")
        (tmp_path / "c").symlink_to("real/a")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "a").symlink_to(real / "a")
        for source, folder in [("ds", "real"), ("real", "ds"), ("ds", "c"), ("other", "real/a/c"), ("other", "c")]:
            self.refused(tmp_path / source, tmp_path / folder)

    def test_also_the_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ds"))
        tiffs(tmp_path / "ds", 1)
        with pytest.raises(DataError, match="outside of the source"):
            optimize(open_table(tmp_path / "ds"), cache="mapped")

    def test_a_source_inside_the_cache_folder_is_none_of_it(self, tmp_path):
        tiffs(tmp_path / "ds", 1)
        write_table(images(2), tmp_path / "t.parquet")
        for _ in range(2):
            assert first(tmp_path / "ds", tmp_path) == 1
            assert first(tmp_path / "t.parquet", tmp_path) == 2
        assert len(list(tmp_path.glob("*.arrow"))) == 2

    def test_a_cache_beside_a_moved_source_is_not_taken_for_its_own(self, tmp_path):
        tiffs(tmp_path / "a", 1)
        assert first(tmp_path / "a", tmp_path / "c") == 1
        shutil.move(tmp_path / "a", tmp_path / "b")
        tiffs(tmp_path / "a", 2)
        assert first(tmp_path / "a", tmp_path / "c") == 2
        assert first(tmp_path / "b", tmp_path / "c") == 1
        assert format_of(tmp_path / "b").name == "tiff"
