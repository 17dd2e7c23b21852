"""What one client, and all clients together, may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of the server, all in one place.

    Attributes:
        body_bytes: of one request.
        held_bytes: of the bodies of all requests at one time.
        pixels: of one picture, by its header and after decoding.
        objects: in one document.
        points: rings and their numbers in one request of mask editing.
        header_seconds: for the arrival of the headers of a request.
        body_seconds: for the arrival of its body.
        answer_seconds: for everything after that.
        idle_seconds: for a connection without a request.
        connections: open at one time.
        requests: in work at one time.
        waiting: pictures that wait for a model.
        models: held in memory.
        batch_seconds: for which a picture waits for others that share its batch.
        threads: for decoding, drawing and mask editing.
    """

    body_bytes: int = 32 * 2**20
    held_bytes: int = 256 * 2**20
    pixels: int = 40_000_000
    objects: int = 200
    points: int = 200_000
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 120.0
    idle_seconds: int = 15
    connections: int = 1000
    requests: int = 300
    waiting: int = 64
    models: int = 2
    batch_seconds: float = 0.005
    threads: int = 4
