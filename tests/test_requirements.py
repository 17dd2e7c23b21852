import pytest
import torch

from sor_ppa._requirements import MISSING, check_requirements, check_torch


def test_missing_module_is_one_line_that_says_what_to_run():
    with pytest.raises(ImportError, match=r"^run this$") as caught:
        check_requirements({"no_module_of_this_name": "run this"})
    assert caught.value.name == "no_module_of_this_name"


def test_remedies_are_one_line_each():
    assert all("\n" not in remedy and "run `python" in remedy for remedy in MISSING.values())


def test_this_environment_has_what_is_needed():
    check_requirements()
    check_torch(torch.__version__)


@pytest.mark.parametrize("version", ["2.9.1+cpu", "2.5", "1.13.0"])
def test_older_torch_is_one_line_that_says_what_to_run(version):
    with pytest.raises(
        ImportError, match=rf"^sor_ppa needs torch >= 2.10 .* found {version.replace('+', '.')}: run `"
    ):
        check_torch(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.10.0a0+git1", "2.11.0+cu128", "3.0"])
def test_newer_torch_is_accepted(version):
    check_torch(version)
