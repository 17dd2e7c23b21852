"""Issues of a dataset: the first one raises when reading, all are collected when checking."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


_LONGEST = 1000  # characters of a message


class DatasetError(ValueError):
    """A dataset cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a dataset."""

    kind: str  # short class of the issue, such as ``missing-image``
    file: str
    record: str = ""  # "" for a whole file
    field: str = ""  # "" for a whole record
    detail: str = ""  # what was expected and what was found
    serious: bool = True  # False for something unusual that can be used as it is

    def __str__(self) -> str:
        record = f": record {self.record}" if self.record else ""
        field = f": field {self.field}" if self.field else ""
        line = f"{self.file}{record}{field}: {self.detail}"
        line = line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


class IssueLog:
    """Issues that a reader finds.

    Args:
        collect: keep them all; else the first fault raises, and parts that are left out are logged.
        max_unreadable: share of the images that may be missing or broken; they are left out and logged.
    """

    def __init__(self, collect: bool = False, max_unreadable: float = 0.0) -> None:
        self.collect = collect
        self.max_unreadable = max_unreadable
        self.issues: list[Issue] = []
        self.left_out: dict[str, list[Issue]] = {}

    def at(self, file: str | Path, record: str = "") -> Place:
        """Return the place of a file's record, on which issues are reported."""
        return Place(str(file), record, self)

    def log_left_out(self) -> None:
        """Log one warning for each kind of part that was left out."""
        for kind, (first, *others) in self.left_out.items():
            more = f" (and {len(others)} more like it)" if others else ""
            logger.warning("%s: %s%s", kind, first, more)
        self.left_out.clear()


@dataclass(frozen=True, slots=True)
class Place:
    """A record of a file; its methods report issues there."""

    file: str
    record: str
    log: IssueLog

    def fault(self, kind: str, field: str, detail: str) -> None:
        """Report an issue that prevents the use of the dataset.

        Raises:
            DatasetError: unless issues are collected.
        """
        issue = Issue(kind, self.file, self.record, field, detail)
        if not self.log.collect:
            raise DatasetError(str(issue))
        self.log.issues.append(issue)

    def omit(self, kind: str, field: str, detail: str) -> None:
        """Report an object or a part of a mask that is left out; reading goes on."""
        issue = Issue(kind, self.file, self.record, field, detail)
        group = self.log.issues if self.log.collect else self.log.left_out.setdefault(kind, [])
        group.append(issue)

    def note(self, kind: str, field: str, detail: str) -> None:
        """Report something unusual that can be used; dropped unless issues are collected."""
        if self.log.collect:
            self.log.issues.append(Issue(kind, self.file, self.record, field, detail, serious=False))


def short_repr(value: object) -> str:
    """Return a value on one line of at most 60 characters, for messages."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # deeply nested lists; integers of thousands of digits
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def expected(what: str, found: object) -> str:
    """Return "expected ..., found ..." with the value shortened."""
    return f"expected {what}, found {short_repr(found)}"
