"""A server in a process of its own, and tabs of a browser that show its page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from playwright.sync_api import Page, expect
from pycocotools import mask as mask_util

ROOT = Path(__file__).parents[2]
PHOTO = "coffee.jpg"
WIDTH, HEIGHT = 600, 400
BOXES = ((60, 60, 220, 340), (260, 80, 400, 320), (440, 120, 560, 300))  # the objects that tests start with


# The lowest contrast of a text with what is behind it (WCAG 2.2, 1.4.3), and that text.
CONTRAST = """() => {
  const rgb = (color) => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d');
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => rgb(color).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const { backgroundColor } = getComputedStyle(each);
      if (rgb(backgroundColor)[3] === 255) return backgroundColor;
    }
    return 'white';
  };
  const shown = { opacityProperty: true, visibilityProperty: true };
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const texts = [...document.querySelectorAll('body *')]
    .filter((node) => hasText(node) && node.checkVisibility(shown) && !node.closest('svg, :disabled'));
  const found = texts.map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim()];
  });
  return found.sort(([a], [b]) => a - b)[0];
}"""


class Server:
    """``sor-ppa serve`` with the training-free ranker."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start()

    def start(self) -> None:
        """Start it, after a kill at the same address."""
        command = [sys.executable, "-m", "sor_ppa", "serve", str(self.folder), "--model", "contrast"]
        command += ["--no-browser", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[0]
        self.port = int(self.address.rstrip("/").rpartition(":")[2])

    def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        self.process.communicate()

    def request(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Return the JSON that it answers."""
        content = None if body is None else json.dumps(body).encode()
        sent = Request(self.address + path, content, {"Content-Type": "application/json"}, method=method)
        with urlopen(sent, timeout=60) as answer:
            return json.load(answer)

    def document(self, annotator: str, photo: str = PHOTO) -> dict[str, Any]:
        """Return what is saved of an annotator."""
        document: dict[str, Any] = self.request(f"api/photos/{photo}/annotation?annotator={annotator}")
        return document

    def ranks(self, annotator: str) -> dict[str, int | None]:
        """Return the saved ranks by the object's id, in the order of the document."""
        return {item["id"]: item["rank"] for item in self.document(annotator)["objects"]}


class Tab:
    """A page with an annotator of its own for each test, who has ranked three boxes."""

    def __init__(self, page: Page, server: Server, annotator: str) -> None:
        self.page, self.server, self.annotator = page, server, annotator
        page.goto(f"{server.address}#{PHOTO}")
        page.wait_for_selector("body[data-ready]")

    @property
    def order(self) -> list[str]:
        """The ids of the listed objects."""
        return [row.get_attribute("data-row") or "" for row in self.page.locator("#list [data-row]").all()]

    def wait_until_saved(self) -> None:
        """Wait until the last change is on the server."""
        expect(self.page.locator("#status")).to_have_attribute("data-status", "saved")

    def select(self, identifier: str) -> None:
        """Select an object in the list."""
        self.page.click(f'[data-row="{identifier}"] .title')

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the window that shows a point of the photo."""
        box = self.page.locator("#photo").bounding_box()
        assert box is not None
        return box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"]

    def click(self, x: float, y: float) -> None:
        """Click on a point of the photo."""
        self.page.mouse.click(*self.place(x, y))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the mouse between two points of the window."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()


def rectangles() -> list[dict[str, Any]]:
    """Return the run lengths of the boxes."""
    masks = np.zeros((HEIGHT, WIDTH, len(BOXES)), np.uint8, order="F")
    for index, (left, top, right, bottom) in enumerate(BOXES):
        masks[top:bottom, left:right, index] = 1
    return [{"size": code["size"], "counts": code["counts"].decode()} for code in mask_util.encode(masks)]


def save_masks(server: Server, annotator: str, masks: Sequence[dict[str, Any]]) -> None:
    """Save masks (COCO run lengths) as objects with the ranks 1, 2, ... that a model proposed."""
    common = {"state": "proposed", "salient": True}
    objects = [
        {"id": f"o{rank}", "mask": mask, "score": 1 - 0.2 * rank, "rank": rank, **common}
        for rank, mask in enumerate(masks, 1)
    ]
    document = {**server.document(annotator), "objects": objects}
    server.request(f"api/photos/{PHOTO}/annotation?annotator={annotator}", "PUT", document)


def mask_of(item: dict[str, Any]) -> np.ndarray:
    """Return the mask (H, W) of an object in a document."""
    mask: np.ndarray = mask_util.decode(item["mask"])
    return mask


def cut_out(server: Server, box: Any, inside: Any, outside: Any) -> dict[str, Any]:
    """Return the mask that the server finds."""
    points = [{"x": x, "y": y, "positive": True} for x, y in inside]
    points += [{"x": x, "y": y, "positive": False} for x, y in outside]
    answer = server.request(f"api/photos/{PHOTO}/segment", "POST", {"points": points, "box": box})
    mask: dict[str, Any] = answer["mask"]
    return mask
