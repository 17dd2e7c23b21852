"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["joined_cluster"]


@contextmanager
def joined_cluster(address: str) -> Iterator[dict[str, float]]:
    """Give the resources of a cluster, such as ``{"CPU": 8.0, "GPU": 1.0}``; leave it at the end.

    A process that is in a cluster already stays in that one, whatever the address.

    Args:
        address: "local" starts Ray on this machine for as long as the block runs, "auto" joins the cluster
            that this machine is part of, and HOST:PORT joins any other.

    Raises:
        ValueError: another address, Ray is not installed, there is no cluster at the address, or a task of
            the block failed for good.
    """
    if address not in ("local", "auto") and ":" not in address:
        raise ValueError(f"--ray: expected local, auto or HOST:PORT, found {address!r}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data
    except ImportError as error:
        raise ValueError("--ray: expected Ray, found none; run: pip install 'sor_ppa[ray]'") from error
    joined_before = ray.is_initialized()
    if not joined_before:
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())
            hint = "" if address in ("local", "auto") else "; set RAY_AUTH_MODE=token if it asks for one"
            message = f"--ray: expected a cluster at {address}, found none ({reason}){hint}"
            raise ValueError(message) from error
    try:
        yield ray.cluster_resources()
    except ray.exceptions.RayError as error:  # its text is a traceback from the other process
        raise ValueError(f"--ray: a task failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        if not joined_before:
            ray.shutdown()
