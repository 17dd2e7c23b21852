"""Members of a zip archive as ``torch.save`` writes it: stored, one after the other, each with its checksum.

Python's ``zipfile`` builds an object for whatever the table of contents claims and does not mind members that
lie over each other, by which a small file becomes a large one. Here every member has a place of its own.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import dataclass, replace
from operator import attrgetter

import torch

from .errors import CheckpointError, shown
from .source import Source

__all__ = ["Archive"]

# One member a storage: a training state of a large detector has some thousands.
_MAX_MEMBERS = 100_000
_MAX_NAME = 1024
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 2**16
_PIECE = 2**24


@dataclass(frozen=True)
class _Member:
    """An entry of the table of contents; ``limit`` is where the next one begins."""

    name: str
    begin: int
    limit: int
    method: int
    packed: int
    size: int
    crc: int


class Archive:
    """A zip archive by its table of contents."""

    def __init__(self, source: Source) -> None:
        """Read the table of contents.

        Raises:
            CheckpointError: if it is damaged, or has members that a torch file never has: links, absolute
                names, two of one name, overlapping ones.
        """
        self.source = source
        self.members = {m.name: m for m in _with_limits(*_entries(source))}

    def read(self, name: str, limit: int) -> bytes:
        """The content of a small member, checked; see ``tensor``."""
        return self.tensor(name, limit).numpy().tobytes()

    def tensor(self, name: str, limit: int) -> torch.Tensor:
        """The content of a member as a tensor (bytes,) uint8 of its own.

        Args:
            name: full name.
            limit: largest size in bytes.

        Raises:
            CheckpointError: if it is missing, compressed, too large or does not agree with its checksum.
        """
        member = self.members.get(name)
        if member is None:
            raise CheckpointError(f"damaged zip archive: no member {shown(name)}")
        if member.method or member.packed != member.size:
            raise CheckpointError(
                f"member {shown(name)} is compressed ({member.packed} to {member.size} bytes), "
                "expected stored members as torch writes them"
            )
        begin = self._content(member)
        if member.size > min(limit, member.limit - begin):
            raise CheckpointError(
                f"member {shown(name)} claims {member.size} bytes, expected at most "
                f"{max(min(limit, member.limit - begin), 0)}"
            )
        content = self.source.tensor(begin, member.size)
        crc = 0
        for i in range(0, member.size, _PIECE):
            crc = zlib.crc32(content[i : i + _PIECE].numpy().data, crc)
        if crc != member.crc:
            raise CheckpointError(f"damaged: member {shown(name)} does not agree with its checksum")
        return content

    def _content(self, member: _Member) -> int:
        """Where the content begins: behind the member's own header, which must be there."""
        header = self.source.read(member.begin, _LOCAL.size)
        magic, _, flags, *_, name_length, extra_length = _LOCAL.unpack(header)
        name_begin = member.begin + _LOCAL.size
        if magic != b"PK\x03\x04" or flags & 1:
            raise CheckpointError(
                f"damaged zip archive: member {shown(member.name)} is not at byte {member.begin}"
            )
        if name_length > _MAX_NAME or _text(self.source.read(name_begin, name_length)) != member.name:
            raise CheckpointError(
                f"damaged zip archive: another name than {shown(member.name)} stands at byte {member.begin}"
            )
        return name_begin + name_length + extra_length


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(f"truncated or damaged zip archive ({what}), expected a torch .pth")


def _text(name: bytes | bytearray) -> str:
    return name.decode("utf-8", "backslashreplace")


def _entries(source: Source) -> tuple[list[_Member], int]:
    """The table of contents, and where it begins."""
    count, begin, end = _table(source)
    if count > _MAX_MEMBERS:
        raise CheckpointError(
            f"a zip archive of {count} members, expected a torch .pth (at most {_MAX_MEMBERS})"
        )
    table = source.read(begin, end - begin)
    members, position = [], 0
    for _ in range(count):
        if position + _ENTRY.size > len(table):
            raise _damaged(f"its table of contents ends before its {count} entries")
        member, position = _entry(table, position)
        members.append(member)
    if position != len(table):
        raise _damaged(f"{len(table) - position} bytes behind the entries of its table of contents")
    return members, begin


def _table(source: Source) -> tuple[int, int, int]:
    """Number of entries, begin and end of the table of contents."""
    tail_begin = max(source.size - _END.size - _LONGEST_COMMENT, 0)
    tail = source.read(tail_begin, source.size - tail_begin)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise _damaged("no table of contents at its end")
    _, disk, first_disk, here, count, size, begin, comment = _END.unpack_from(tail, found)
    if found + _END.size + comment != len(tail):
        raise _damaged("other bytes behind its end")
    end = tail_begin + found
    locator = end - _END64_LOCATOR.size
    if locator >= 0 and source.read(locator, 4) == b"PK\x06\x07":
        _, _, end64, _ = _END64_LOCATOR.unpack(source.read(locator, _END64_LOCATOR.size))
        magic, length, *_, here64, count64, size64, begin64 = _END64.unpack(source.read(end64, _END64.size))
        if magic != b"PK\x06\x06" or end64 + 12 + length != locator:
            raise _damaged("its 64-bit end does not lie before its end")
        for small, large, full in (
            (count, count64, 2**16 - 1),
            (here, here64, 2**16 - 1),
            (size, size64, 2**32 - 1),
            (begin, begin64, 2**32 - 1),
        ):
            if small not in (large, full):
                raise _damaged(f"its two ends disagree: {small} and {large}")
        count, here, size, begin, end = count64, here64, size64, begin64, end64
    if disk or first_disk or here != count:
        raise _damaged("it is one of several parts")
    if begin + size != end:
        raise _damaged(f"its table of contents ends at byte {begin + size}, expected {end}")
    return count, begin, end


def _entry(table: bytearray, position: int) -> tuple[_Member, int]:
    fields = _ENTRY.unpack_from(table, position)
    magic, _made_by, _version, flags, method, _time, _date, crc, packed, size = fields[:10]
    name_length, extra_length, comment_length, _disk, _internal, external, begin = fields[10:]
    if magic != b"PK\x01\x02":
        raise _damaged("an entry of its table of contents is none")
    at = position + _ENTRY.size
    end = at + name_length + extra_length + comment_length
    if end > len(table):
        raise _damaged("an entry reaches over the end of its table of contents")
    if name_length > _MAX_NAME:
        raise CheckpointError(f"a zip archive with a name of {name_length} bytes, expected a torch .pth")
    name = _text(table[at : at + name_length])
    extra = table[at + name_length : at + name_length + extra_length]
    size, packed, begin = _large(extra, size, packed, begin)
    if flags & 1:
        raise CheckpointError(f"member {shown(name)} is encrypted, expected a torch .pth")
    if stat.S_ISLNK(external >> 16):
        raise CheckpointError(f"member {shown(name)} is a symbolic link, expected a torch .pth")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
        raise CheckpointError(f"member {shown(name)} lies outside the archive, expected a torch .pth")
    return _Member(name, begin, begin, method, packed, size, crc), end


def _large(extra: bytearray, *values: int) -> list[int]:
    """Values of more than 32 bits: they stand in an extra field of type 1, in the order given."""
    position, wide = 0, b""
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            wide = bytes(extra[position + 4 : position + 4 + length])
        position += 4 + length
    result = []
    for value in values:
        if value == 2**32 - 1:
            if len(wide) < 8:
                raise _damaged("an entry without its 64-bit size")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        result.append(value)
    return result


def _with_limits(members: list[_Member], table: int) -> list[_Member]:
    """Give every member the range up to the next one; refuse two of one name and any that overlap."""
    names: set[str] = set()
    for member in members:
        if member.name in names:
            raise CheckpointError(f"a zip archive with two members {shown(member.name)}, expected one")
        names.add(member.name)
    ordered = sorted(members, key=attrgetter("begin"))
    limits = [*(m.begin for m in ordered[1:]), table]
    for member, limit in zip(ordered, limits, strict=False):
        if member.begin + _LOCAL.size + member.packed > limit:
            raise CheckpointError(
                f"member {shown(member.name)} of {member.packed} bytes at byte {member.begin} reaches over "
                f"byte {limit}, where the next one begins"
            )
    return [replace(m, limit=limit) for m, limit in zip(ordered, limits, strict=False)]
