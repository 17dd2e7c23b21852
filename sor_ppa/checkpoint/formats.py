"""What a file is, told from its first bytes; its name plays no part."""

from __future__ import annotations

import re
from enum import Enum

from .errors import CheckpointError, shown
from .source import EXPECTED, Source

__all__ = ["Format", "detect_format"]

_HEAD = 512
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
# Pickles of protocol 0 and 1: a dict, a list, or a call.
_TEXT_PICKLE = re.compile(rb"\(dp|\(lp|\}q|\]q|c[\w.]+\n[\w.]+\n")
_FOREIGN = (
    (b"version https://git-lfs", "a git-lfs pointer (run `git lfs pull`)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy .npy array"),
    (b"\x1f\x8b", "a gzip archive (unpack it)"),
    (b"BZh", "a bzip2 archive (unpack it)"),
    (b"\xfd7zXZ", "an xz archive (unpack it)"),
    (b"7z\xbc\xaf", "a 7-zip archive (unpack it)"),
    (b"Rar!", "a rar archive (unpack it)"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
)


class Format(Enum):
    """Formats that can be read."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch zip"
    TORCH_LEGACY = "torch before 1.6"
    PICKLE = "pickle of arrays"


def detect_format(source: Source) -> Format:
    """Tell the format of a weight file by its content.

    Args:
        source: the file.

    Returns:
        The format; the file is not yet known to be whole.

    Raises:
        CheckpointError: if it is something else.
    """
    head = bytes(source.read(0, min(_HEAD, source.size)))
    if not head:
        raise CheckpointError(f"is empty, {EXPECTED}")
    found = _known(head)
    if found is None:
        raise CheckpointError(f"is {_foreign(head)}, {EXPECTED}")
    return found


def _known(head: bytes) -> Format | None:
    if head.startswith(b"PK\x03\x04"):
        return Format.TORCH_ZIP
    if head.startswith(_LEGACY_TORCH):
        return Format.TORCH_LEGACY
    # Eight bytes of header length, of which no real header uses more than five, and a JSON object.
    if len(head) > 8 and head[8:9] == b"{" and head[5:8] == b"\0\0\0":
        return Format.SAFETENSORS
    if len(head) > 1 and head[0] == 0x80 and head[1] <= 5:
        return Format.PICKLE
    return Format.PICKLE if _TEXT_PICKLE.match(head) else None


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head)


def _foreign(head: bytes) -> str:
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive (torch wrote those before 0.1.10; load and save it with a newer torch)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body", b"<error")):
        return "a web page, probably the error page of a download"
    if head[:4] == b"PK\x05\x06":
        return "an empty zip archive"
    if _is_text(head):
        return f"text that begins {shown(head[:40].decode('ascii'))}"
    if not any(head):
        return "a file of zeros (an interrupted download?)"
    return f"of an unknown format that begins with bytes {head[:8].hex(' ')}"
