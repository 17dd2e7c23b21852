"""What importing the package does to the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.models import REPO

# without torch, the import ends where torch would start its threads
IMPORT = """
import os, sys
sys.modules["torch"] = None
try:
    import sor_ppa
except ImportError:
    print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_as_the_user_says_or_shortly(own: dict[str, str], expected: str) -> None:
    others = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=REPO, env=others | own, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [expected]
