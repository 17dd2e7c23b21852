import pytest

from sor_ppa._requirements import MISSING, check_requirements


def test_missing_module_is_one_line_that_says_what_to_run():
    with pytest.raises(ImportError, match=r"^run this$") as caught:
        check_requirements({"no_module_of_this_name": "run this"})
    assert caught.value.name == "no_module_of_this_name"


def test_remedies_are_one_line_each():
    assert all("\n" not in remedy and "run `python" in remedy for remedy in MISSING.values())


def test_this_environment_has_what_is_needed():
    check_requirements()
