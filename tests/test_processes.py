"""Processes that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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


FORK_SERVER = f"""
import multiprocessing, runpy, sys, time

def child():
    runpy.run_path({str(REPO / "sor_ppa/processes.py")!r})["exit_with_parent"]()
    time.sleep(0.2)

if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_a_process_of_a_fork_server_goes_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FORK_SERVER)
    assert subprocess.run([sys.executable, str(tmp_path / "script.py")], check=False).returncode == 0
