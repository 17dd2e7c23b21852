"""``python -m tests.fuzz``: run many cases, print the counts and every finding."""

from __future__ import annotations

import argparse
import sys
import time

from .runner import fuzz
from .targets import TARGETS


def main() -> int:
    """Run the command; the exit status is 1 if there is any finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="in all (default: 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="targets whose names contain it")
    options = parser.parse_args()
    start = time.monotonic()
    findings = fuzz(options.cases, options.seed, options.only)
    for text in findings.found:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{'target':18}{'read':>8}{'refused':>9}{'found':>7}\n")
    for name in [name for name in TARGETS if options.only in name]:
        read, refused, found = (findings.counts[name, kind] for kind in ("read", "refused", "found"))
        sys.stdout.write(f"{name:18}{read:8}{refused:9}{found:7}\n")
    total, minutes = sum(findings.counts.values()), (time.monotonic() - start) / 60
    sys.stdout.write(f"{total} cases in {minutes:.1f} minutes, {len(findings.found)} findings\n")
    return bool(findings.found)


if __name__ == "__main__":
    sys.exit(main())
