"""Package definition; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The requirements listed in requirements/<name>.txt."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def version() -> str:
    """The version that the package states, read without importing it."""
    text = (ROOT / "sor_ppa" / "__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]  # type: ignore[index]


setup(
    name="sor_ppa",
    version=version(),
    description="Salient object ranking as a detectron2 plugin",
    long_description=(ROOT / "README.md").read_text("utf-8") if (ROOT / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["sor_ppa", "sor_ppa.*"]),
    include_package_data=True,
    # detectron2 is on no package index, so it cannot be listed: sor_ppa says on import what to run.
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in ("opencv", "demo", "export", "dev")},
    entry_points={"console_scripts": ["sor-eval = sor_ppa.evaluation.__main__:main"]},
)
