#!/usr/bin/env python
"""Put a server of ``sor-ppa serve`` under load, compare every answer, and watch its memory.

Many clients send pictures of several sizes on the loopback address, each one after the other, and wait when
they are told to (429). Every answer is compared with the one that the predictor gives for the picture alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

SIZES = [(240, 320), (320, 240), (300, 300), (200, 400)]


@dataclass
class LoadReport:
    """What the clients of :func:`send_load` saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    broken: int = 0
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        waits = np.percentile(self.seconds or [0], [50, 95, 99, 100])
        times = ", ".join(f"{n} {s:.2f} s" for n, s in zip(("p50", "p95", "p99", "max"), waits, strict=True))
        memory = " -> ".join(f"{value / 2**20:.0f}" for value in self.memory)
        return (
            f"answers by status: {dict(self.statuses)}, broken connections: {self.broken}, "
            f"wrong answers: {self.wrong}\nlatency of answers: {times}\nresident MB: {memory}"
        )


async def send_load(
    address: str, pictures: Sequence[bytes], expected: Sequence[Any], clients: int, seconds: float
) -> LoadReport:
    """Send pictures from many clients for some time, and return what they saw.

    Args:
        address: of the server, without a path.
        pictures: files; their order is different for each client.
        expected: the JSON answer to each.
        clients: number of connections.
        seconds: after which no client sends again.
    """
    report, end = LoadReport(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)

    async def resident(http: httpx.AsyncClient) -> None:
        text = (await http.get("/metrics")).text
        report.memory.append(float(re.findall(r"^sor_ppa_resident_bytes (\S+)", text, re.M)[0]))

    async def client(number: int) -> None:
        order = random.Random(number)
        async with httpx.AsyncClient(base_url=address, timeout=180, limits=limits) as http:
            while (start := time.monotonic()) < end:
                which = order.randrange(len(pictures))
                try:
                    answer = await http.post(
                        "/rank", content=pictures[which], headers={"Content-Type": "image/png"}
                    )
                except httpx.TransportError:
                    report.broken += 1
                    continue
                report.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    report.seconds.append(time.monotonic() - start)
                    report.wrong += answer.json() != expected[which]
                else:
                    wait = float(answer.headers.get("retry-after", 1)) * order.uniform(0.5, 1)
                    await asyncio.sleep(min(wait, max(end - time.monotonic(), 0)))

    async def watch(http: httpx.AsyncClient) -> None:
        await resident(http)
        for _ in range(4):
            await asyncio.sleep(seconds / 4)
            await resident(http)

    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        await asyncio.gather(watch(http), *(client(number) for number in range(clients)))
        await resident(http)
    return report


def example_picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) of three colored discs on a noisy background."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    for _ in range(3):
        center = [int(rng.integers(side // 5, 4 * side // 5)) for side in (width, height)]
        cv2.circle(picture, center, int(rng.integers(15, 45)), rng.integers(0, 256, 3).tolist(), -1)
    return picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a server in a process of its own, and put it under load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", default="contrast")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="of the model")
    options = parser.parse_args(arguments)
    from sor_ppa import SORPredictor

    arrays = [example_picture(*SIZES[i % len(SIZES)], seed=i) for i in range(12)]
    predictor = SORPredictor.from_pretrained(options.model, options=options.opts)
    expected = [{**json.loads(json.dumps(predictor(a).to_json())), "model": options.model} for a in arrays]
    files = [cv2.imencode(".png", array)[1].tobytes() for array in arrays]
    opts = ["--opts", *options.opts] if options.opts else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sor_ppa", "serve", folder, "--port", "0", "--no-browser"]
        command += ["--model", options.model, *opts]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split("/  ")[0]
            report = asyncio.run(send_load(address, files, expected, options.clients, options.seconds))
        finally:
            server.terminate()
            server.wait(60)
    sys.stdout.write(f"{report}\n")
    if report.wrong or report.broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
