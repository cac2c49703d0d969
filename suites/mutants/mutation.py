"""Damage to a file or to a folder of files, determined by a seed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

_MOST = 4096  # bytes of a block that is moved, repeated or zeroed
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS = (0, 1, -1, 1 << 31, (1 << 31) - 1, 1 << 62, -(1 << 63), 1 << 16, 1 << 24)


def _block(rng: Random, content: bytearray) -> slice:
    start = rng.randrange(len(content))
    return slice(start, start + min(rng.choice((1, 4, 8, 16, 64, 512, _MOST)), len(content) - start))


def _flip(rng: Random, content: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _edge(rng: Random, content: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        content[rng.randrange(len(content))] = rng.choice(_EDGES)


def _word(rng: Random, content: bytearray) -> None:
    width = rng.choice((2, 4, 8))
    start = rng.randrange(max(1, len(content) - width)) // 4 * 4
    new = (rng.choice(_WORDS) % (1 << 8 * width)).to_bytes(width, rng.choice(("little", "big")))
    content[start : start + width] = new[: len(content) - start]


def _cut(rng: Random, content: bytearray) -> None:
    del content[rng.choice((rng.randrange(len(content)), max(0, len(content) - rng.randrange(1, 64)))) :]


def _zero(rng: Random, content: bytearray) -> None:
    block = _block(rng, content)
    content[block] = bytes(block.stop - block.start)


def _swap(rng: Random, content: bytearray) -> None:
    one, other = _block(rng, content), rng.randrange(len(content))
    two = slice(other, other + min(one.stop - one.start, len(content) - other))
    one = slice(one.start, one.start + two.stop - two.start)
    content[one], content[two] = content[two], content[one]


def _repeat(rng: Random, content: bytearray) -> None:
    block = _block(rng, content)
    content[block.stop : block.stop] = content[block] * rng.choice((1, 1, 3))


def _tile(rng: Random, content: bytearray) -> None:
    piece, start = content[_block(rng, content)], rng.randrange(len(content))
    length = min(_MOST, len(content) - start)
    content[start : start + length] = (piece * (length // len(piece) + 1))[:length]


def _drop(rng: Random, content: bytearray) -> None:
    del content[_block(rng, content)]


def _append(rng: Random, content: bytearray) -> None:
    content += rng.choice((bytes(content), rng.randbytes(rng.randrange(1, 64)), bytes(16)))


BYTES: dict[str, Callable[[Random, bytearray], None]] = {
    "flip": _flip,
    "edge": _edge,
    "word": _word,
    "cut": _cut,
    "zero": _zero,
    "swap": _swap,
    "repeat": _repeat,
    "tile": _tile,
    "drop": _drop,
    "append": _append,
}
LINKS = ("itself", "nowhere", "parent", "other", "folder", "pipe", "gone", "device")  # in place of a file
_LINK_SHARE = 12  # one in so many mutations


def mutate(path: Path, rng: Random) -> str:
    """Damage the file at ``path``, or one or two files in the folder there. What was done, in a word or two."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    file = rng.choice(files)
    shown = "" if file == path else f" {file.relative_to(path)}"
    if not rng.randrange(_LINK_SHARE):
        kind = rng.choice(LINKS)
        _replace(file, kind, rng.choice(files))
        return f"link {kind}{shown}"
    content = bytearray(file.read_bytes())
    kinds = rng.choices(list(BYTES), k=rng.choice((1, 1, 1, 2)))
    for kind in kinds:
        if content:
            BYTES[kind](rng, content)
    file.write_bytes(content)
    return "+".join(kinds) + shown


def _replace(file: Path, kind: str, other: Path) -> None:
    moved = file.with_name(f".moved-{file.name}")
    if kind == "gone":
        file.unlink()
    elif kind == "other" and other != file:
        content = other.read_bytes()
        other.unlink()
        shutil.move(file, other)
        file.write_bytes(content)
    else:
        file.rename(moved)
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "folder":
            file.mkdir()
        else:
            places = {"itself": file, "nowhere": file.parent / "nowhere", "parent": file.parent, "device": "/dev/zero"}
            file.symlink_to(places.get(kind, moved))
