"""The rankers that the server offers: those on this machine, by name."""

from __future__ import annotations

from typing import Any

from ..predictor import SORPredictor
from ..zoo import catalog, installed
from .errors import RequestRefused

__all__ = ["ModelList"]

_TASKS = ("rank", "detect")


class ModelList:
    """Models of the zoo, the training-free one, and the one that the server was started with.

    Args:
        default: name of the last.
        predictor: of the last; its batch size is that of the others.
    """

    def __init__(self, default: str, predictor: SORPredictor) -> None:
        self.default, self._predictor = default, predictor

    def load(self, name: str) -> SORPredictor:
        """Return a new predictor of a model that :meth:`check` accepts."""
        if name == self.default:
            return self._predictor
        return SORPredictor.from_pretrained(name, batch_size=self._predictor.batch_size)

    def check(self, name: str | None) -> str:
        """Return the name of an installed model (None: the default); raise RequestRefused (404) else."""
        if name is None or name == self.default:
            return self.default
        found = next((row for row in self.listed([]) if row["name"] == name), None)
        if found is None:
            raise RequestRefused(404, f"model: expected one of /models, found {name[:60]!r}")
        if not found["installed"]:
            raise RequestRefused(404, f"model: expected an installed one; run: sor-ppa models get {name}")
        return name

    def listed(self, loaded: list[str]) -> list[dict[str, Any]]:
        """Return what is known of each model; ``loaded`` names those in memory."""
        rows = [("contrast", "rank", True, "training-free")]
        rows += [
            (e.name, e.task, bool(installed(e.name)), e.title) for e in catalog().values() if e.task in _TASKS
        ]
        if self.default not in [row[0] for row in rows]:
            rows.insert(0, (self.default, "rank", True, "the model that this server was started with"))
        return [
            {
                "name": name,
                "task": task,
                "installed": here,
                "loaded": name in loaded,
                "default": name == self.default,
                "note": note,
            }
            for name, task, here, note in rows
        ]
