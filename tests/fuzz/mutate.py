"""Damage to files: bytes of any file, values of a JSON document, and values for configuration keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

TOKENS = (
    *(b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x02", b"-1", b"0", b"1e309", b"NaN"),
    *(b"null", b"[]", b"{}", b'"', b"[" * 2000, b"{" * 50, b"9" * 500, b"\r\n", b"../", b"\xf0\x9f\x98\x80"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e-300, 1e300, 2**31, 2**63, 2**64, -(2**63), 10**400),
    *(float("nan"), float("inf"), -float("inf"), "", "a", "1", "../../etc/passwd", "\x00", "x" * 5000),
    *(
        [],
        {},
        [[]],
        [None],
        [0],
        [-1, -1, -1, -1],
        [1, None, 50, 1, 50, 50],
        [[1, 1, 2, 2]],
        {"size": [9, 9]},
    ),
    *({"size": [2**31, 2**31], "counts": "0"}, {"size": [60, 80], "counts": [10**12]}, {"counts": "PPPPPP"}),
)


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """Return a copy with one to six changes: flipped bits, tokens, removed, repeated and moved parts."""
    content = bytearray(data)
    for _ in range(random.randint(1, 6)):
        start = random.randrange(len(content) + 1)
        end = min(len(content), start + random.choice((1, 2, 4, 16, 64, 512)))
        match random.randrange(7):
            case 0 if start < len(content):
                content[start] ^= 1 << random.randrange(8)
            case 1:
                content[start:start] = random.choice(TOKENS)
            case 2:
                content[start : start + random.randint(1, 8)] = random.choice(TOKENS)
            case 3:
                del content[start:end]
            case 4:
                content[start:start] = content[start:end] * random.choice((1, 2, 100))
            case 5:
                content[start:end] = random.randbytes(end - start)
            case _:
                other = random.randrange(len(content) + 1)
                content[other:other] = content[start:end]
    if random.random() < 0.05:
        del content[random.randrange(len(content) + 1) :]
    return bytes(content)


def damaged_json(data: bytes, random: Random) -> bytes:
    """Return a JSON document with one to three values replaced, removed, repeated or nested."""
    document = [json.loads(data)]
    for _ in range(random.randint(1, 3)):
        places = list(_places(document))
        parent, key = random.choice(places)
        match random.randrange(6):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.insert(random.randint(0, len(parent)), parent[key])
            case 2:
                parent[key] = [parent[key]]
            case 3:
                other, name = random.choice(places)
                parent[key] = json.loads(json.dumps(other[name]))
            case _:
                parent[key] = deepcopy(random.choice(VALUES))
    return json.dumps(document[0] if document else None).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value inside a container."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(entries):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)
