"""The list of licenses."""

import re

from tools.list_licenses import REPO, normalized, pinned_names


def test_the_page_lists_only_and_nearly_all_pinned_packages():
    pinned = {normalized(name) for name in pinned_names((REPO / "requirements/pinned.txt").read_text())}
    listed = re.findall(r"^\| (\S+) \| \d", (REPO / "docs/licenses.md").read_text(), re.MULTILINE)
    assert {normalized(name) for name in listed} <= pinned | {"detectron2"}
    assert len(listed) > 0.8 * len(pinned)  # the others are for other systems
