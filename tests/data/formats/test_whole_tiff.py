"""TIFFs that lack what they promise are errors, and OME-TIFFs of several files are one image."""

from __future__ import annotations

import struct
from contextlib import closing

import numpy as np
import pytest

from pytest_loaderperf.data import check
from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.errors import DataError
from tests.data import stand_in

tifffile = pytest.importorskip("tifffile")
OFFSETS = {True: 324, False: 273}  # by whether there are tiles
NBYTES = {True: 325, False: 279}
STACK = np.arange(3 * 64 * 64, dtype="u1").reshape(3, 64, 64) | 1
ENCODED = {
    "strips": {"rowsperstrip": 16},
    "compressed strips": {"rowsperstrip": 16, "compression": "zlib"},
    "tiles": {"tile": (16, 16)},
    "compressed tiles": {"tile": (16, 16), "compression": "zlib"},
    "planes of tiles": {"tile": (64, 64), "compression": "zlib", "photometric": "rgb", "planarconfig": "separate"},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 16},
    "big endian": {"byteorder": ">", "rowsperstrip": 16, "compression": "lzw"},
}
every_encoding = pytest.mark.parametrize("options", ENCODED.values(), ids=ENCODED)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    stand_in.stay_in_process(monkeypatch)


@pytest.fixture
def save(tmp_path):
    def save_one(name="0.tif", image=STACK, **options):
        options.setdefault("photometric", "minisblack")
        tifffile.imwrite(tmp_path / name, image, metadata=None, **options)
        return tmp_path / name

    return save_one


def tags(file, page=0):
    with tifffile.TiffFile(file) as tiff:
        return {
            tag.code: (tag.offset, tag.valueoffset, tag.count, tag.dtype) for tag in tiff.pages[page].tags
        }, tiff.tiff


def set_count(file, code, count):
    """Let the tag say that it has ``count`` values, the first ones."""
    found, kind = tags(file)
    offset, valueoffset, _, dtype = found[code]
    content = bytearray(file.read_bytes())
    inline = struct.calcsize(kind.offsetformat)
    nbytes = {3: 2, 4: 4, 16: 8}[int(dtype)]
    values = bytes(content[valueoffset : valueoffset + nbytes * count])
    at = offset + 4 + inline
    content[offset + 4 : at] = struct.pack(kind.offsetformat, count)
    if nbytes * count <= inline:
        content[at : at + inline] = values.ljust(inline, b"\0")
    file.write_bytes(content)


def set_value(file, code, value, place=0):
    found, kind = tags(file)
    _, valueoffset, _, dtype = found[code]
    content = bytearray(file.read_bytes())
    fmt = kind.byteorder + {3: "H", 4: "I", 16: "Q"}[int(dtype)]
    struct.pack_into(fmt, content, valueoffset + place * struct.calcsize(fmt), value)
    file.write_bytes(content)


def assert_named(folder, file, what):
    """Opening and the check name the file and what is wrong."""
    with pytest.raises(DataError) as caught:
        open_table(folder, "tiff")
    assert str(caught.value).startswith(f"{file} is damaged: expected {what}"), str(caught.value)
    assert str(caught.value).endswith("Write it again, or give an undamaged file.")
    problems = check(folder).problems
    assert [problem.file for problem in problems] == [str(file)]
    assert problems[0].what.startswith(f"is damaged: expected {what}")


@every_encoding
def test_what_is_whole_is_read(options, save, tmp_path):
    save(**options)
    with closing(open_table(tmp_path)) as table:
        assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), [STACK])


@every_encoding
@pytest.mark.parametrize("which", [OFFSETS, NBYTES], ids=["offsets", "sizes"])
def test_fewer_segments_than_promised_are_an_error_and_never_zeros(options, which, save, tmp_path):
    file = save(**options)
    tiled = "tile" in options
    count = tags(file)[0][which[tiled]][2]
    set_count(file, which[tiled], count - 1)
    assert_named(tmp_path, file, f"{count} {'tiles' if tiled else 'strips'}, got {count - 1}")


@every_encoding
@pytest.mark.parametrize("value", [0, 1 << 31], ids=["zero", "beyond the end"])
@pytest.mark.parametrize("which", [OFFSETS, NBYTES], ids=["offset", "size"])
def test_a_segment_outside_of_the_file_is_an_error(options, value, which, save, tmp_path):
    file = save(**options)
    tiled = "tile" in options
    code = which[tiled]
    if value and int(tags(file)[0][code][3]) == 3:
        value = (1 << 16) - 1  # the tag holds 16 bits
    if value == (1 << 16) - 1 and file.stat().st_size > 2 * value:
        pytest.skip("16 bits reach no byte beyond the end")
    set_value(file, code, value, 1)
    assert_named(tmp_path, file, "tiles in a file" if tiled else "strips in a file")


def test_one_strip_whose_size_is_less_than_its_pixels_is_an_error(save, tmp_path):
    file = save(image=STACK[0])
    set_value(file, 279, 4095)
    assert_named(tmp_path, file, "4096 bytes of pixels, got 4095")


@every_encoding
def test_a_page_whose_successor_is_gone_is_an_error(options, save, tmp_path):
    if "planarconfig" in options:
        pytest.skip("of one page")
    file = save(**options)
    with tifffile.TiffFile(file) as tiff:
        assert len(tiff.pages) == 3
        kind, at = tiff.tiff, tiff.pages[1].offset
        content = bytearray(file.read_bytes())
        count = struct.unpack_from(kind.tagnoformat, content, at)[0]
    link = at + kind.tagnosize + count * kind.tagsize
    struct.pack_into(kind.offsetformat, content, link, len(content) + 8)
    file.write_bytes(content)
    assert_named(
        tmp_path, file, f"another page after the first 2, at byte {len(content) + 8}, got {len(content)} bytes"
    )


def drop_pages(file, kept):
    """Let the chain of pages end after ``kept`` of them."""
    with tifffile.TiffFile(file) as tiff:
        kind, at = tiff.tiff, tiff.pages[kept - 1].offset
    content = bytearray(file.read_bytes())
    count = struct.unpack_from(kind.tagnoformat, content, at)[0]
    struct.pack_into(kind.offsetformat, content, at + kind.tagnosize + count * kind.tagsize, 0)
    file.write_bytes(content)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["shaped", "imagej", "ome"])
def test_fewer_pages_than_the_metadata_promise_are_an_error(kind, compression, tmp_path):
    file = tmp_path / ("0.ome.tif" if kind == "ome" else "0.tif")
    if kind == "imagej" and compression is None:
        pytest.skip("ImageJ's planes follow each other, whatever the pages say")
    kinds = {"shaped": {}, "imagej": {"imagej": True}, "ome": {"ome": True}}
    tifffile.imwrite(file, STACK, photometric="minisblack", compression=compression, **kinds[kind])
    drop_pages(file, 2)
    text = {"shaped": "an image of shape (3, 64, 64)", "imagej": "3 planes", "ome": "3 planes"}[kind]
    assert_named(tmp_path, file, text)


@pytest.mark.parametrize("kind", ["shaped", "imagej", "ome"])
def test_a_stack_that_was_cut_is_an_error(kind, tmp_path):
    kinds = {"shaped": {}, "imagej": {"imagej": True}, "ome": {"ome": True}}
    file = tmp_path / "0.tif"
    tifffile.imwrite(file, STACK, photometric="minisblack", **kinds[kind])
    whole = file.read_bytes()
    for kept in range(8, len(whole), 511):
        file.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=str(file)):
            open_table(tmp_path).read()
    assert check(tmp_path).found == 1


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"truncate": True}, {"metadata": None}])
def test_stacks_of_one_block_are_read_whole(options, tmp_path):
    tifffile.imwrite(tmp_path / "0.tif", STACK, photometric="minisblack", **options)
    with closing(open_table(tmp_path)) as table:
        assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), [STACK])


def test_a_tiff_without_a_page_is_named(tmp_path):
    (tmp_path / "0.tif").write_bytes(b"II*\0\0\0\0\0")
    assert_named(tmp_path, tmp_path / "0.tif", "a TIFF of one page or more, got none")


OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def uuid(i):
    return f"urn:uuid:00000000-0000-0000-0000-{i:012}"


def pixels(channels, data):
    return (
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="4" SizeY="4" SizeZ="1" SizeC="{channels}" '
        f'SizeT="1"><Channel ID="Channel:0"/>{data}</Pixels>'
    )


def plane(channel, file, i):
    part = f'<UUID FileName="{file}">{uuid(i)}</UUID>'
    return f'<TiffData FirstC="{channel}" IFD="0" PlaneCount="1">{part}</TiffData>'


def write(file, value, xml):
    file.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(file, np.full((4, 4), value, "u1"), description=xml, metadata=None)


@pytest.fixture(params=[".ome.tif", ".tif"])
def ome_set(request, tmp_path):
    """Two images of two files each, channel by channel, in one folder."""
    ending = request.param
    for image in range(2):
        names = [f"{image}c{c}{ending}" for c in range(2)]
        data = "".join(plane(c, name, 2 * image + c) for c, name in enumerate(names))
        for c, name in enumerate(names):
            xml = f'{OME} UUID="{uuid(2 * image + c)}"><Image ID="Image:0">{pixels(2, data)}</Image></OME>'
            write(tmp_path / name, 10 * image + c + 1, xml)
    return tmp_path, ending


def first_pixels(path):
    with closing(open_table(path, "tiff")) as table:
        return table.read()["image"].combine_chunks().to_numpy_ndarray()[..., 0, 0].tolist()


def test_an_ome_tiff_of_several_files_is_one_image(ome_set):
    path, _ = ome_set
    assert first_pixels(path) == [[1, 2], [11, 12]]
    result = check(path)
    assert (result.total, result.found, result.shape) == (2, 0, (2, 4, 4))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_part_is_named(ome_set, lost):
    path, ending = ome_set
    part = path / f"0c{lost}{ending}"
    part.unlink()
    what = (
        f"{part} is missing or cannot be read, but it belongs to the image of 0c{1 - lost}{ending}. Put it back, "
        "or take the other files of this image out of the folder."
    )
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert str(caught.value) == what
    (problem,) = check(path).problems
    assert (problem.file, problem.what) == (str(path / f"0c{1 - lost}{ending}"), what)


def test_a_part_that_is_cut_is_an_error(ome_set):
    path, ending = ome_set
    part = path / f"0c1{ending}"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(DataError, match="strips in a file"):
        first_pixels(path)
    assert check(path).found == 1


def test_a_single_ome_tiff_may_be_renamed(tmp_path):
    xml = f'{OME} UUID="{uuid(1)}"><Image ID="Image:0">{pixels(1, plane(0, "old.ome.tif", 1))}</Image></OME>'
    for i, known in enumerate((xml, xml.replace(f' UUID="{uuid(1)}"', ""))):
        write(tmp_path / f"{i}.ome.tif", i + 1, known)
    assert first_pixels(tmp_path) == [1, 2]
    assert check(tmp_path).good


def test_files_of_a_set_that_are_images_of_their_own_are_a_row_each(tmp_path):
    images = "".join(f'<Image ID="Image:{i}">{pixels(1, plane(0, f"{i}.ome.tif", i))}</Image>' for i in range(3))
    for i in range(3):
        write(tmp_path / f"{i}.ome.tif", i + 1, f'{OME} UUID="{uuid(i)}">{images}</OME>')
    assert first_pixels(tmp_path) == [1, 2, 3]
    assert check(tmp_path).total == 3


@pytest.mark.parametrize("described_by", ["set.companion.ome", "0.ome.tif"])
def test_files_that_another_file_describes_are_one_image(described_by, tmp_path):
    names = ["0.ome.tif", "1.ome.tif"]
    own = f'<Image ID="Image:0">{pixels(2, "".join(plane(c, name, c) for c, name in enumerate(names)))}</Image></OME>'
    for c, name in enumerate(names):
        xml = f'{OME} UUID="{uuid(c)}"><BinaryOnly MetadataFile="{described_by}" UUID="{uuid(9)}"/></OME>'
        write(tmp_path / name, c + 1, f'{OME} UUID="{uuid(c)}">{own}' if name == described_by else xml)
    if described_by.endswith(".ome"):
        (tmp_path / described_by).write_text(f'{OME} UUID="{uuid(9)}">{own}')
    assert first_pixels(tmp_path) == [[1, 2]]
    assert check(tmp_path).total == 1
    (tmp_path / described_by).unlink()
    with pytest.raises(DataError, match=f"{tmp_path / described_by} is missing or cannot be read"):
        first_pixels(tmp_path)
    assert check(tmp_path).found == (2 if described_by.endswith(".ome") else 1)
