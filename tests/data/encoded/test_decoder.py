from __future__ import annotations

import io
import struct
import zlib
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pytest_loaderperf.data.encoded import decoder as decoder_module
from pytest_loaderperf.data.encoded.decoder import Decoder, stored
from pytest_loaderperf.data.encoded.header import header_of, is_picture
from pytest_loaderperf.errors import DataError
from tests.data.encoded.encode import EACH, SAVED, encoded, image_of, smooth

MODES = ["RGB", "RGBA", "L", "I;16"]


@pytest.fixture(params=["simplejpeg", "Pillow"], autouse=True)
def jpegs(request, monkeypatch):
    """What decodes JPEGs: both give the same pixels."""
    if request.param == "Pillow":
        monkeypatch.setattr(decoder_module, "turbo", lambda: None)
    else:
        pytest.importorskip("simplejpeg")
    return request.param


def by_pillow(data, mode):
    """What Pillow makes of ``data``, but for 16 bits, which it cuts off instead of scaling them."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "I;16":
        deep = np.asarray(image)
        if mode == "I;16":
            return deep
        image = Image.fromarray((deep >> 8).astype(np.uint8))
    if "transparency" in image.info and mode != "RGBA":
        image = image.convert("RGBA").convert("RGB")
    if mode == "I;16":
        return np.asarray(image.convert("L")).astype(np.uint16) * 257
    return np.asarray(image.convert(mode))


@pytest.mark.parametrize("kind, saved", EACH)
def test_each_kind_and_mode_becomes_what_pillow_makes_of_it(kind, saved):
    data = encoded(image_of(saved), kind)
    for mode in MODES:
        pixels = Decoder(mode).decode(data)
        assert pixels.dtype == (np.uint16 if mode == "I;16" else np.uint8)
        np.testing.assert_array_equal(pixels, by_pillow(data, mode), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saved", ["P", "L", "RGB"])
def test_transparent_colours_become_alpha_or_are_dropped_without_a_warning(saved, mode):
    image = image_of(saved)
    transparent = {"P": bytes(range(17)), "L": 128, "RGB": image.getpixel((3, 3)) if saved == "RGB" else None}[saved]
    data = encoded(image, transparency=transparent)
    np.testing.assert_array_equal(Decoder(mode).decode(data), by_pillow(data, mode))


def test_16_bits_keep_their_upper_half_and_8_bits_fill_16():
    deep = np.array([[0, 255, 256, 32_768, 65_535]], np.uint16)
    data = encoded(Image.fromarray(deep))
    assert Decoder("L").decode(data).tolist() == [[0, 0, 1, 128, 255]]
    assert Decoder("I;16").decode(data).tolist() == deep.tolist()
    shallow = encoded(Image.fromarray(np.array([[0, 1, 255]], np.uint8)))
    assert Decoder("I;16").decode(shallow).tolist() == [[0, 257, 65_535]]


def test_a_transparent_value_of_16_bits_becomes_alpha():
    data = encoded(Image.fromarray(np.array([[7, 300]], np.uint16)), transparency=300)
    assert Decoder("RGBA").decode(data)[..., 3].tolist() == [[255, 0]]


def png(depth, colours, line, transparent):
    """A PNG of two pixels, which Pillow does not write with so few or so many bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = struct.pack(">IIBBBBB", 2, 1, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", start), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + line)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("depth, line", [(2, b"\x40"), (4, b"\x10"), (1, b"\x80")])
def test_a_transparent_grey_of_a_few_bits_becomes_alpha(depth, line):
    data = png(depth, 0, line, b"\0\1")
    assert Decoder("L").decode(data).tolist() == [[255 // (2**depth - 1), 0]]
    assert Decoder("RGBA").decode(data)[..., 3].tolist() == [[0, 255]]


def test_a_transparent_colour_of_16_bits_is_refused_only_as_alpha():
    data = png(16, 2, bytes(range(12)), bytes(range(6)))
    assert Decoder("RGB").decode(data).tolist() == [[[0, 2, 4], [6, 8, 10]]]
    with pytest.raises(DataError) as caught:
        Decoder("RGBA").decode(data)
    assert str(caught.value) == (
        "has a transparent colour of 16 bits; expected an alpha channel for mode='RGBA'. Convert it, or choose another "
        "mode."
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_orientation_of_exif_is_applied(kind, orientation):
    """Also where the picture is resized: as if the upright one had been."""
    data = encoded(image_of("RGB"), kind, orientation)
    upright = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG")
    assert header_of(data).size == header_of(upright).size
    for size, fit in product([None, (30, 22)], ["crop", "stretch", "pad"]):
        expected = Decoder(size=size, fit=fit).decode(upright).astype(int)
        assert np.abs(Decoder(size=size, fit=fit).decode(data) - expected).max() <= (0 if size is None else 1), fit


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\0\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0"],
)
def test_exif_that_cannot_be_parsed_counts_as_none(exif):
    data = encoded(image_of("RGB"), "JPEG")
    damaged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]
    assert header_of(damaged).orientation == 1


def test_an_orientation_after_the_pixels_of_a_png_counts():
    data = encoded(image_of("RGB"))
    exif = encoded(image_of("RGB"), "PNG", 6)
    start = exif.index(b"eXIf") - 4
    chunk = exif[start : start + 12 + struct.unpack_from(">I", exif, start)[0]]
    late = data[:-12] + chunk + data[-12:]
    assert header_of(late).orientation == 6
    np.testing.assert_array_equal(Decoder().decode(late), by_pillow(exif, "RGB"))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SAVED)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.one_of(st.none(), st.integers(1, 40), st.tuples(st.integers(1, 40), st.integers(1, 40))),
    st.sampled_from(["crop", "stretch", "pad"]),
    st.sampled_from(MODES),
)
@example("JPEG", (1, 4), 1, "pad", "RGB")  # a row of pixels, of which less than one is left at half the size
def test_any_size_becomes_the_size_that_is_asked_for(kind, shape, size, fit, mode):
    height, width = shape
    image = Image.fromarray(np.full((height, width, 3), 200, np.uint8))
    data, decoder = encoded(image, kind), Decoder(mode, size, fit)
    pixels = decoder.decode(data)
    wanted = (height, width) if size is None else size if isinstance(size, tuple) else (size, size)
    assert pixels.shape[:2] == wanted == decoder.shape_of(header_of(data))[:2]
    wide = 200 * (257 if mode == "I;16" else 1)
    colours = pixels[..., :3] if mode == "RGBA" else pixels
    most = max(1, height / wanted[0], width / wanted[1])
    inside = (max(1, round(height / most)), max(1, round(width / most))) if fit == "pad" else wanted
    assert np.abs(colours[: inside[0], : inside[1]].astype(int) - wide).max() <= wide // 50
    assert not pixels[inside[0] :].any()
    assert not pixels[:, inside[1] :].any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("height, width", [(100, 130), (301, 260), (40, 500)])
def test_a_crop_is_the_middle_at_the_scale_that_covers(kind, height, width):
    data = encoded(Image.fromarray(smooth(height, width)), kind)
    image = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.fit(image, (48, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(Decoder(size=(32, 48)).decode(data) - expected).mean() < 1.5


def test_a_picture_is_decoded_to_the_array_that_is_given():
    data, out = encoded(image_of("RGB"), "JPEG"), np.zeros((2, 24, 40, 3), np.uint8)
    Decoder().decode_into(data, out[1])
    np.testing.assert_array_equal(out[1], by_pillow(data, "RGB"))
    assert not out[0].any()
    turned = np.zeros((3, 40, 24), np.uint8).transpose(2, 1, 0)  # of another order in memory
    Decoder().decode_into(encoded(image_of("RGB", 24, 40), "JPEG"), turned)
    np.testing.assert_array_equal(turned, out[1])


def test_an_array_that_does_not_fit_is_an_error():
    with pytest.raises(DataError) as caught:
        Decoder().decode_into(encoded(image_of("RGB")), np.zeros((24, 40), np.uint8))
    assert str(caught.value) == "expected an array of shape (24, 40, 3) and uint8, got (24, 40) and uint8."


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("saved", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_was_cut_is_an_error(saved, progressive, size):
    data = encoded(image_of(saved, 120, 160), "JPEG", progressive=progressive)
    for cut in (data[: len(data) // 2], data[:-40], data[: len(data) // 2] + bytes(len(data) // 2)):
        with pytest.raises(DataError, match=r"is damaged: .*(truncated|header)"):
            Decoder(size=size).decode(cut)


def test_a_jpeg_that_was_cut_and_closed_is_an_error(jpegs):
    """Pillow alone does not tell: it fills up with grey."""
    if jpegs == "Pillow":
        pytest.skip("libjpeg's warnings do not come through Pillow")
    data = encoded(image_of("RGB", 120, 160), "JPEG")
    with pytest.raises(DataError, match="is damaged"):
        Decoder().decode(data[: len(data) // 2] + b"\xff\xd9")


def test_a_jpeg_with_bytes_after_its_end_is_good():
    data = encoded(image_of("RGB"), "JPEG")
    np.testing.assert_array_equal(Decoder().decode(data + b"more"), Decoder().decode(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "JPEG"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_picture_that_was_cut_is_an_error(kind, share):
    data = encoded(Image.effect_noise((64, 64), 60).convert("RGB" if kind != "GIF" else "L"), kind)
    with pytest.raises(DataError):
        Decoder().decode(data[: int(len(data) * share)])


def test_a_png_is_checked_by_its_checksums():
    data = bytearray(encoded(image_of("RGB"), compress_level=0))  # where no flipped bit breaks the compression
    at = data.index(b"IDAT") + 60
    data[at] ^= 1
    start = data.index(b"IDAT") - 4
    length = struct.unpack_from(">I", data, start)[0]
    with pytest.raises(DataError) as caught:
        Decoder().decode(bytes(data))
    assert str(caught.value) == (
        f"is damaged: expected the checksum of the chunk 'IDAT' at byte {start}, got another. "
        "Get it again, or leave it out."
    )
    data[start + 8 + length : start + 12 + length] = struct.pack(">I", zlib.crc32(data[start + 4 : start + 8 + length]))
    assert header_of(bytes(data)).size == (24, 40)


NONE = "expected a PNG, JPEG, WebP, BMP or GIF, got data that begin with %r. Convert it, or leave it out."


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "is empty (0 bytes)"),
        (b"<html>\n", NONE % b"<html>\n"),
        (b"RIFF\0\0\0\0WAVE", NONE % b"RIFF\0\0\0\0"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a pointer of Git LFS, not a PNG, JPEG, WebP, BMP or GIF. Fetch the file: git lfs pull",
        ),
        (
            b"\xff\xd8\xff\xe0",
            "is damaged: expected a header, got the end of the data after 4 bytes. Get it again, or leave it out.",
        ),
    ],
)
def test_what_is_no_picture_is_told(data, text):
    with pytest.raises(DataError) as caught:
        Decoder().decode(data)
    assert str(caught.value) == text


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.filterwarnings("error")
def test_a_picture_of_more_bytes_than_the_budget_is_not_decoded(kind, monkeypatch):
    data = encoded(image_of("L"), kind)
    monkeypatch.setattr(decoder_module, "pillow_image", None)
    with pytest.raises(DataError) as caught:
        Decoder(size=4, most_nbytes=24 * 40 * 4 - 1).decode(data)
    assert str(caught.value) == (
        "has 24 x 40 pixels, which take 3,840 bytes; expected at most 3,839. "
        "Give a larger most_nbytes, or leave it out."
    )


def test_a_header_of_a_picture_of_gigabytes_costs_nothing():
    head = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    with pytest.raises(DataError, match="4,611,686,018,427,387,904 bytes; expected at most 1,073,741,824"):
        Decoder(size=224).decode(bomb)


def test_the_limit_of_pillow_for_the_whole_process_is_neither_used_nor_changed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert Decoder().decode(encoded(image_of("RGB"))).shape == (24, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_the_first_picture_of_several_counts():
    frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 200)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert (Decoder("L").decode(data) == 40).all()


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"mode": "BGR"}, "mode: expected one of 'RGB', 'RGBA', 'L', 'I;16', got 'BGR'."),
        ({"fit": "cut"}, "fit: expected one of 'crop', 'stretch', 'pad', got 'cut'."),
        (
            {"size": (0, 3)},
            (
                "size: expected a number of pixels, or height and width as a tuple, got (0, 3). "
                "Give one such as 224 or (224, 320); None keeps each picture's own."
            ),
        ),
        ({"most_nbytes": 0}, "most_nbytes: expected an integer of at least 1, got 0."),
    ],
)
def test_options_that_there_are_not_are_refused(wrong, text):
    with pytest.raises(DataError) as caught:
        Decoder(**wrong)
    assert str(caught.value) == text


@pytest.mark.parametrize("kind, saved", EACH)
def test_pixels_as_they_are_stored(kind, saved):
    data = encoded(image_of(saved), kind)
    np.testing.assert_array_equal(stored(data, 1 << 20), np.asarray(Image.open(io.BytesIO(data))))
    assert is_picture(data)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(EACH), st.integers(0, 10**9), st.integers(1, 255))
def test_a_flipped_byte_gives_pixels_or_an_error_of_ours(kind_and_mode, where, bits):
    kind, saved = kind_and_mode
    data = bytearray(encoded(image_of(saved), kind))
    data[where % len(data)] ^= bits
    try:
        pixels = Decoder(most_nbytes=1 << 22).decode(bytes(data))
    except DataError:
        return
    if kind == "PNG" and where % len(data) < len(data) - 12:
        np.testing.assert_array_equal(pixels, Decoder().decode(encoded(image_of(saved), kind)))
