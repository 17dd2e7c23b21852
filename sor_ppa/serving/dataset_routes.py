"""Routes of what is made from documents: agreement, consensus, files of other tools."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter

from .agreement import agreement
from .dataset import edited_documents
from .services import Server

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["dataset"])
Method = Literal["borda", "plackett_luce"]


@router.get("/agreement")
def measure_agreement(server: Server, photo: str | None = None) -> dict[str, Any]:
    """Return how far the annotators agree, on one photo or all."""
    if photo is None:
        return agreement(edited_documents(server.workspace))
    found = server.workspace.photo(photo)
    return agreement([(found, [d for d in server.workspace.documents(found) if d.edited])])


@router.post("/consensus")
def write_consensus(server: Server, method: Method = "borda") -> dict[str, Any]:
    """Write annotations/rank_train.json with the consensus of all annotators."""
    return server.dataset.write(method)
