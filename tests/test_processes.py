"""Processes that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.models import REPO

# loaded from its file, which is faster than through the package
CHILD = f"""
import runpy, time
runpy.run_path({str(REPO / "sor_ppa/processes.py")!r})["exit_with_parent"]()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(60)"


def test_a_process_ends_with_its_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        os.kill(parent.pid, signal.SIGKILL)
        # the pipe is closed when the child ends, too, which would otherwise take a minute
        assert subprocess.run(["timeout", "10", "cat"], stdin=parent.stdout, check=False).returncode == 0
