"""What pip cannot install for us: said in one line on import, not as a failure deep inside."""

import importlib.util
from collections.abc import Mapping

MISSING: Mapping[str, str] = {
    "detectron2": (
        "sor_ppa needs detectron2, which this Python does not have: run `python tools/install_detectron2.py` "
        "in the sor_ppa checkout, or install upstream's"
    ),
    "cv2": (
        "sor_ppa needs OpenCV, which this Python does not have: run "
        "`python -m pip install opencv-contrib-python-headless`"
    ),
}


def check_requirements(missing: Mapping[str, str] = MISSING) -> None:
    """Raise ImportError with one line of remedy for the first module that cannot be found.

    Args:
        missing: module -> what to say when it is absent.
    """
    for module, remedy in missing.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(remedy, name=module)
