"""Refusals that clients see."""

from __future__ import annotations

from typing import Any

__all__ = ["RequestRefused"]


class RequestRefused(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        sentence: what was expected and found.
        retry_after: seconds after which another try may succeed.
        more: further fields of the JSON answer.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(sentence)
        self.status = status
        self.content = {"error": sentence, **more}
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
