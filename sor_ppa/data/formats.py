"""The formats that can be read, by name."""

from __future__ import annotations

from .assr import ASSR
from .coco import COCO, SEQRANK
from .irsr import IRSR, SIFR
from .painted import PAINTED
from .reader import Format

FORMATS: dict[str, Format] = {
    "assr": ASSR,
    "irsr": IRSR,
    "sifr": SIFR,
    "seqrank": SEQRANK,
    "coco": COCO,
    "painted": PAINTED,
}
