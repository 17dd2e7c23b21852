"""The lines of a log."""

from sor_ppa.run_log import summary


def test_the_summary_has_a_line_for_each_measure() -> None:
    assert " ".join(summary({"bbox": {"AP": 12.5, "AP50": 25.0}}).split()) == "box AP / AP50 12.50 / 25.00"
