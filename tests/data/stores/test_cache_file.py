"""Cache files are believed where they are the user's own, and whole."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys

import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.stores import cache_file, mapped
from pytest_loaderperf.errors import DataError
from tests.data.stores.conftest import ragged, uniform

PATIENCE_S = 300
posix = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of POSIX")


@pytest.fixture
def store(tmp_path):
    """``store(table)``: the rows of it, mapped in the folder c."""
    return lambda table: optimize(table, cache="mapped", cache_dir=tmp_path / "c")


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def reason(caplog):
    (text,) = warnings(caplog)
    return text.partition("cannot be read (")[2].partition("). Expected")[0]


# Flips a byte of a cache at a time, anywhere, and looks at all rows of what optimize makes of it.
MUTATE = """
import faulthandler, logging, sys
from pathlib import Path
import numpy as np
from pytest_loaderperf.data import optimize
from tests.data.stores.conftest import ragged, uniform

faulthandler.enable()
folder, seed, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
said, draw = [], np.random.default_rng(seed)
logging.getLogger("pytest_loaderperf").addFilter(lambda record: said.append(record))
tables = [kind() for kind in (uniform, ragged)]
for number in range(times):
    table, wanted = tables[number % 2]
    path = optimize(table, cache="mapped", cache_dir=folder).path
    good = path.read_bytes()
    kind = draw.integers(4)
    place = int(draw.integers(len(good)) if kind < 2 else len(good) - 1 - draw.integers(2000))
    damaged = bytearray(good)
    if kind == 3:
        damaged = damaged[:place]
    else:
        damaged[place] ^= int(draw.integers(1, 256))
    path.write_bytes(damaged)
    said.clear()
    store = optimize(table, cache="mapped", cache_dir=folder)
    assert [record.levelname for record in said] == ["WARNING"], (place, said)
    batch = store[list(range(len(store)))]
    for name, column in batch.items():
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(column, wanted[name], strict=True)), place
print(times)
"""


def mutate(folder, seed, times):
    command = [sys.executable, "-c", MUTATE, str(folder), str(seed), str(times)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.usefixtures("quick_start")
def test_a_byte_that_is_flipped_anywhere_is_noticed_and_the_cache_is_written_anew(tmp_path):
    came = mutate(tmp_path, 0, 60)
    assert (came.returncode, came.stdout) == (0, "60\n"), came.stderr[-3000:]


def test_each_byte_of_its_end_counts(store):
    path = store(uniform(3)[0]).path
    good = path.read_bytes()
    footer = len(good) - 10 - int.from_bytes(good[-10:-6], "little")
    for place in [0, 8, 100, *range(footer - 64, footer + 8), *range(len(good) - 10, len(good))]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with (
            cache_file.open_own(path) as file,
            pytest.raises(ValueError, match=r"its end is missing|it has no checksum|its checksum does not match"),
        ):
            cache_file.verify(file)
    path.write_bytes(good)
    with cache_file.open_own(path) as file:
        cache_file.verify(file)


def test_pieces_are_checked_each(store, monkeypatch):
    monkeypatch.setattr(cache_file, "_PIECE_NBYTES", 1 << 16)
    path = store(pa.table({"x": list(range(50_000))})).path
    good = bytearray(path.read_bytes())
    for place in (5, (1 << 16) - 1, 1 << 16, 3 << 16, (5 << 16) + 77):
        bad = good.copy()
        bad[place] ^= 1
        path.write_bytes(bad)
        with cache_file.open_own(path) as file, pytest.raises(ValueError, match="its checksum does not match"):
            cache_file.verify(file)
    path.write_bytes(good[: 1 << 16] + good[: 1 << 16] + good[2 << 16 :])  # pieces have places
    with cache_file.open_own(path) as file, pytest.raises(ValueError, match="its checksum does not match"):
        cache_file.verify(file)


def test_any_arrow_reader_opens_it(store):
    table, _ = uniform()
    assert pa.ipc.open_file(str(store(table).path)).read_all().schema.names == table.schema.names


def test_a_pickled_store_is_not_checked_again_unless_the_file_has_changed(store, monkeypatch):
    checked = []
    monkeypatch.setattr(mapped, "verify", checked.append)
    table, _ = uniform()
    store(table)
    assert len(checked) == 0  # it has just been written
    made = store(table)
    assert len(checked) == 1
    pickled = pickle.dumps(made)
    pickle.loads(pickled)  # noqa: S301 made here
    assert len(checked) == 1
    made.path.write_bytes(made.path.read_bytes())
    pickle.loads(pickled)  # noqa: S301 made here
    assert len(checked) == 2


def test_the_cache_of_another_source_under_its_name_is_not_believed(store, caplog):
    one, other = uniform()[0], uniform(20)[0]
    path = store(one).path
    path.write_bytes(store(other).path.read_bytes())
    assert len(store(one)) == len(one)
    assert reason(caplog) == "it is the cache of another source"


@posix
class TestOwn:
    def test_others_can_neither_read_nor_write_it(self, store, tmp_path):
        was = os.umask(0)
        try:
            path = store(uniform()[0]).path
        finally:
            os.umask(was)
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]

    @pytest.mark.parametrize("mode", [0o1777, 0o777, 0o702])
    def test_a_folder_that_all_may_write_to_is_refused(self, store, tmp_path, mode):
        (tmp_path / "c").mkdir()
        (tmp_path / "c").chmod(mode)
        with pytest.raises(DataError) as caught:
            store(uniform()[0])
        assert str(caught.value) == (
            f"expected a cache folder that others cannot write to, got {tmp_path / 'c'}, mode {mode:o}. "
            "Give a cache_dir of your own: one that is missing is made for you alone."
        )
        assert list((tmp_path / "c").iterdir()) == []

    @pytest.mark.parametrize("mode", [0o755, 0o775])
    def test_a_folder_of_a_group_is_used(self, store, tmp_path, mode):
        (tmp_path / "c").mkdir()
        (tmp_path / "c").chmod(mode)
        assert len(store(uniform()[0])) == 50

    def test_a_folder_of_another_user_is_refused(self, store, tmp_path, monkeypatch):
        store(uniform()[0])
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 7)
        with pytest.raises(DataError) as caught:
            store(uniform()[0])
        assert str(caught.value) == (
            f"expected a cache folder of user {own + 7}, got {tmp_path / 'c'}, which user {own} owns. "
            "Give a cache_dir of your own: one that is missing is made for you alone."
        )

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="root alone gives files away")
    def test_a_link_that_another_user_planted_is_refused(self, store, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "c").symlink_to("own")
        store(uniform()[0])  # a link of one's own is followed
        os.lchown(tmp_path / "c", 12345, -1)
        with pytest.raises(DataError, match="which user 12345 owns"):
            store(uniform()[0])

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="root alone gives files away")
    def test_a_file_of_another_user_is_not_believed(self, store, caplog):
        path = store(uniform()[0]).path
        os.chown(path, 12345, -1)
        assert len(store(uniform()[0])) == 50
        assert reason(caplog) == f"user 12345 owns it, and not user {os.geteuid()}"
        assert path.stat().st_uid == os.geteuid()

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_a_file_that_others_may_write_to_is_not_believed(self, store, caplog, mode):
        path = store(uniform()[0]).path
        path.chmod(mode)
        for _ in range(2):
            assert len(store(uniform()[0])) == 50
        assert reason(caplog) == f"others may write to it: its mode is {mode:o}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_planted_link_is_neither_followed_nor_written_through(self, store, caplog, tmp_path):
        path = store(uniform()[0]).path
        path.rename(tmp_path / "elsewhere")
        before = (tmp_path / "elsewhere").read_bytes()
        path.symlink_to(tmp_path / "elsewhere")
        assert len(store(uniform()[0])) == 50
        assert "Too many levels of symbolic links" in reason(caplog)
        assert not path.is_symlink()
        path.unlink()
        path.symlink_to(tmp_path / "nothing")
        assert len(store(uniform()[0])) == 50
        assert not (tmp_path / "nothing").exists()
        assert (tmp_path / "elsewhere").read_bytes() == before

    def test_a_planted_pipe_is_not_waited_for(self, store, caplog):
        path = store(uniform()[0]).path
        path.unlink()
        os.mkfifo(path)
        assert len(store(uniform()[0])) == 50
        assert reason(caplog) == "it is not a file"

    def test_ragged_rows_too(self, store, caplog):
        path = store(ragged()[0]).path
        path.chmod(0o666)
        assert len(store(ragged()[0])) == 50
        assert warnings(caplog)
