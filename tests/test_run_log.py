"""The lines of a log."""

import argparse
import logging
from pathlib import Path

import pytest

from sor_ppa.run_log import start_run, summary
from tests.models import make_cfg


def test_the_summary_has_a_line_for_each_measure() -> None:
    assert " ".join(summary({"bbox": {"AP": 12.5, "AP50": 25.0}}).split()) == "box AP / AP50 12.50 / 25.00"


def test_a_second_run_in_a_process_logs_each_line_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = argparse.Namespace(config_file="", eval_only=False)
    for name in ("first", "second", "first"):
        start_run(make_cfg(OUTPUT_DIR=str(tmp_path / name)), args)
        logging.getLogger("sor_ppa").info("line of %s", name)
    assert capsys.readouterr().out.count("line of second") == 1
    assert (tmp_path / "first/log.txt").read_text().count("line of") == 2
    assert (tmp_path / "second/log.txt").read_text().count("line of") == 1
