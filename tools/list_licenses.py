"""Write ``docs/licenses.md``: the license of every pinned requirement, as its installed metadata says.

Run it in the environment of ``make setup`` after the pins changed:

    python tools/list_licenses.py
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
_PAGE = """\
# Licenses of the dependencies

What `make setup` installs on Linux, with the license that each package names in its metadata.
The page is made by `python tools/list_licenses.py`.

| package | version | license |
|---|---|---|
"""


def normalized(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned_names(text: str) -> list[str]:
    """Return the distributions of a requirements file, in its order."""
    return list(dict.fromkeys(re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)))


def license_of(distribution: Distribution) -> str:
    """Return the license that the metadata of a distribution names, in one line."""
    metadata: Any = distribution.metadata  # a message of the email package
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License :: OSI")]
    text = (metadata.get("License") or "").strip()
    named = metadata.get("License-Expression") or ", ".join(line.split(" :: ")[-1] for line in classifiers)
    return named or ("in its license file" if "\n" in text or not text else text)


def main() -> None:
    """Write the page."""
    installed = {normalized(item.metadata["Name"]): item for item in distributions()}
    rows = []
    for name in [*pinned_names((REPO / "requirements/pinned.txt").read_text()), "detectron2"]:
        item = installed.get(normalized(name))
        if item is not None:  # others are for another system
            rows.append(f"| {name} | {item.version} | {license_of(item)} |\n")
    (REPO / "docs/licenses.md").write_text(_PAGE + "".join(rows))


if __name__ == "__main__":
    main()
