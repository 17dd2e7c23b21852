"""Check on import, in one line, what pip cannot install or has installed too old."""

import importlib.util
import re
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
OLDEST_TORCH = (2, 10)


def check_requirements(missing: Mapping[str, str] = MISSING) -> None:
    """Raise ImportError for the first module that cannot be found; ``missing`` says what to run."""
    for module, remedy in missing.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(remedy, name=module)


def check_torch(version: str) -> None:
    """Raise ImportError in one line if torch is too old to read weight files safely.

    ``torch.load(weights_only=True)`` had holes before 2.6 (CVE-2025-32434) and before 2.10 (CVE-2026-24747).
    """
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(
            f"sor_ppa needs torch >= {oldest} (older ones read weight files unsafely), found {version}: run "
            f"`python -m pip install --upgrade 'torch>={oldest}' torchvision`",
            name="torch",
        )
