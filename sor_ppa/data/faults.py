"""Faults found in a dataset: raised one at a time when reading, collected when checking."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DatasetError", "Fault", "FaultSink"]

logger = logging.getLogger(__name__)


class DatasetError(ValueError):
    """A dataset cannot be used as it stands; the message is one line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a dataset.

    Attributes:
        kind: short class of the fault, such as ``missing-image``.
        file: the file it is in.
        record: which record of the file ("" when it concerns the whole file).
        field: which field of the record ("" when it concerns the whole record).
        detail: what was found and what was expected.
        serious: false for what is unusual but usable.
    """

    kind: str
    file: str
    record: str = ""
    field: str = ""
    detail: str = ""
    serious: bool = True

    def __str__(self) -> str:
        place = self.file
        if self.record:
            place += f": record {self.record}"
        if self.field:
            place += f": field {self.field}"
        return f"{place}: {self.detail}" if self.detail else place


class FaultSink:
    """Decides what a reader does with a fault.

    Args:
        collect: keep every fault and go on (the caller leaves the faulty part out);
            otherwise the first serious fault raises.
    """

    def __init__(self, collect: bool = False) -> None:
        self.collect = collect
        self.faults: list[Fault] = []
        self._mild: Counter[str] = Counter()
        self._first: dict[str, Fault] = {}

    def serious(
        self, kind: str, file: str | Path, record: str = "", field: str = "", detail: str = ""
    ) -> None:
        """Report a fault that makes the dataset unusable.

        Raises:
            DatasetError: unless faults are being collected.
        """
        fault = Fault(kind, str(file), record, field, detail)
        if not self.collect:
            raise DatasetError(str(fault))
        self.faults.append(fault)

    def mild(self, kind: str, file: str | Path, record: str = "", field: str = "", detail: str = "") -> None:
        """Report a fault that costs one object or less; reading goes on without that part."""
        fault = Fault(kind, str(file), record, field, detail)
        if self.collect:
            self.faults.append(fault)
            return
        self._mild[kind] += 1
        self._first.setdefault(kind, fault)

    def note(self, kind: str, file: str | Path, record: str = "", field: str = "", detail: str = "") -> None:
        """Report something unusual but usable; kept only while collecting."""
        if self.collect:
            self.faults.append(Fault(kind, str(file), record, field, detail, serious=False))

    def summarise(self) -> None:
        """Log one line for each kind of mild fault that was passed over."""
        for kind, count in self._mild.items():
            more = "" if count == 1 else f" (and {count - 1} more like it)"
            logger.warning("%s: %s%s", kind, self._first[kind], more)
        self._mild.clear()
        self._first.clear()
