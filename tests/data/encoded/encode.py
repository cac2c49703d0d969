"""Pictures of each kind, mode and orientation, made by Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SAVED = {  # by kind, the modes that Pillow writes
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
}
EACH = [(kind, mode) for kind, modes in SAVED.items() for mode in modes]
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95}}


def smooth(height, width, seed=0):
    """A colour picture (height, width, 3) uint8 without noise, so that decoders may differ by rounding alone."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / (5 + k) + seed) + np.cos(x / (7 + k) - seed) for k in range(3)]
    return np.clip(np.stack(waves, -1) * 60 + 128, 0, 255).astype(np.uint8)


def image_of(mode, height=24, width=40, seed=0):
    """Pillow's image in ``mode``; what has alpha has all of its values."""
    colours = Image.fromarray(smooth(height, width, seed))
    if mode == "I;16":
        return Image.fromarray(
            (np.arange(height * width, dtype=np.uint32) * 65_521 % 65_536).astype(np.uint16).reshape(height, width)
        )
    if mode == "P":
        return colours.quantize(17)
    image = colours.convert({"LA": "L", "RGBA": "RGB"}.get(mode, mode))
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray((np.arange(height * width) % 256).astype(np.uint8).reshape(height, width)))
    return image


def encoded(image, kind="PNG", orientation=None, **more):
    """The bytes of ``image``, with an orientation in its EXIF."""
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more["exif"] = exif.tobytes()
    file = io.BytesIO()
    image.save(file, kind, **LOSSLESS.get(kind, {}), **more)
    return file.getvalue()
