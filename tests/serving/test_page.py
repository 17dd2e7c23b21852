"""The page of ``sor-ppa serve`` in headless Chromium, on a server in a process of its own.

``SCREENSHOTS=docs/images pytest tests/serving/test_page.py -k looks`` writes the pictures of docs/serve.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

pytest.importorskip("playwright", reason="the package playwright is not installed")
from playwright.sync_api import Browser, Route, expect, sync_playwright

from .browser import (
    BOXES,
    CONTRAST,
    HEIGHT,
    PHOTO,
    ROOT,
    WIDTH,
    Server,
    Tab,
    cut_out,
    mask_of,
    rectangles,
    save_masks,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)"
)


def slow(*values: Any) -> Any:
    """Values of a test that the fast suite leaves out."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("photos", numbered=False)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.jpg")
    running = Server(folder)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


OpenTab = Callable[..., Tab]


@pytest.fixture
def open_tab(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenTab]:
    """Opens tabs of one window; at the end checks that nothing failed or was loaded from elsewhere."""
    own_name = re.sub(r"\W+", "-", request.node.name)[5:60].strip("-")
    faults: list[str] = []
    contexts: list[Any] = []

    def open_one(
        masks: Sequence[dict[str, Any]] | None = None, annotator: str = own_name, **options: Any
    ) -> Tab:
        if not contexts:
            save_masks(server, annotator, masks or rectangles())
            contexts.append(browser.new_context(**options))
            contexts[0].add_init_script(f"localStorage.setItem('sor-ppa annotator', '{annotator}')")
            contexts[0].set_default_timeout(15_000)
        page = contexts[0].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
        page.on("request", lambda sent: None if server.address in sent.url else faults.append(sent.url))
        return Tab(page, server, annotator)

    yield open_one
    for context in contexts:
        context.close()
    assert not faults


def test_uploaded_photo_is_ranked(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    photo = cv2.imencode(".png", data.coffee()[100:300, 150:400, ::-1])[1].tobytes()
    tab.page.set_input_files("#files", {"name": "cup.png", "mimeType": "image/png", "buffer": photo})
    expect(tab.page.locator("[aria-current] .mark.ranked")).to_be_visible(timeout=30_000)
    document = server.document(tab.annotator, "cup.png")
    assert len(tab.order) == len(document["objects"]) > 0
    assert (document["width"], document["height"]) == (250, 200)


@pytest.mark.slow
def test_file_that_is_no_photo_is_refused_in_a_sentence(open_tab: OpenTab) -> None:
    page = open_tab().page
    page.set_input_files("#files", {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#note.error")).to_contain_text("broken.png: ")


@pytest.mark.slow
@pytest.mark.parametrize("event", ["drop", "paste"])
def test_dropped_and_pasted_photos_are_added(open_tab: OpenTab, event: str) -> None:
    page = open_tab().page
    picture = cv2.imencode(".png", data.coffee()[: 90 + len(event), :120])[1].tolist()
    page.evaluate(
        """([event, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], `${event}.png`, { type: 'image/png' }));
          const kind = event === 'drop' ? DragEvent : ClipboardEvent;
          const given = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new kind(event, given));
        }""",
        [event, np.ravel(picture).tolist()],
    )
    expect(page.locator(f"#gallery [title='{event}.png'] .mark.ranked")).to_be_visible(timeout=30_000)


@pytest.mark.slow
def test_ranking_of_all_photos_can_be_canceled(open_tab: OpenTab) -> None:
    page = open_tab().page
    page.click("#rank-all")
    expect(page.locator("#job-text")).to_have_text(re.compile(r"Ranking 1 of \d"))
    page.click("#job-cancel")
    expect(page.locator("#job")).to_be_hidden()
    expect(page.locator("#rank-all")).to_have_text(re.compile(r"Rank \d new"))


def test_hover_shows_rank_and_confidence(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.mouse.move(*tab.place(100, 100))
    expect(tab.page.locator("#tooltip")).to_have_text("Rank 1 · object A · 80% confident")


@pytest.mark.slow
def test_click_on_the_photo_selects(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.click(500, 150)
    expect(tab.page.locator("#list li.selected")).to_have_attribute("data-row", "o3")


@pytest.mark.slow
def test_objects_below_the_confidence_can_be_rejected(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.locator("#threshold").fill("0.5")
    assert tab.order == ["o1", "o2"]
    tab.page.click("#reject-hidden")
    tab.page.locator("#threshold").fill("0")
    expect(tab.page.locator('[data-row="o3"]')).to_have_class("rejected")


@pytest.mark.parametrize("pointer", ["mouse", slow("finger")])
def test_drag_reorders(open_tab: OpenTab, server: Server, pointer: str) -> None:
    tab = open_tab(has_touch=pointer == "finger")
    grip = tab.page.locator('[data-row="o3"] .grip').bounding_box()
    first = tab.page.locator('[data-row="o1"]').bounding_box()
    assert grip is not None
    assert first is not None
    x, y, end = grip["x"] + 8, grip["y"] + 8, first["y"] + 2
    if pointer == "finger":
        session = tab.page.context.new_cdp_session(tab.page)
        for kind, at in (("touchStart", y), ("touchMove", y - 40), ("touchMove", end), ("touchEnd", None)):
            points = [] if at is None else [{"x": x, "y": at}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    else:
        tab.drag((x, y), (x, end))
    assert tab.order == ["o3", "o1", "o2"]
    tab.wait_until_saved()
    assert server.ranks(tab.annotator) == {"o3": 1, "o1": 2, "o2": 3}


def test_keyboard_reorders_and_undoes(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.page.locator('[data-row="o2"] .title').focus()
    for key, order in (
        ("ArrowUp", ["o2", "o1", "o3"]),
        ("3", ["o1", "o3", "o2"]),
        ("Control+z", ["o2", "o1", "o3"]),
        ("Control+z", ["o1", "o2", "o3"]),
        ("Control+Shift+z", ["o2", "o1", "o3"]),
    ):
        tab.page.keyboard.press(key)
        assert tab.order == order
    tab.wait_until_saved()
    assert server.ranks(tab.annotator) == {"o2": 1, "o1": 2, "o3": 3}


def test_change_that_is_undone_at_once_counts_as_saved(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.select("o2")
    tab.page.evaluate(
        """() => {
          for (const [key, ctrlKey] of [['ArrowUp', false], ['z', true]]) {
            document.body.dispatchEvent(new KeyboardEvent('keydown', { key, ctrlKey, bubbles: true }));
          }
        }"""
    )
    tab.wait_until_saved()
    assert tab.order == ["o1", "o2", "o3"]


@pytest.mark.slow
def test_objects_may_have_any_id(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    document = server.document(tab.annotator)
    document["objects"][1]["id"] = 'a"]\\'
    server.request(f"api/photos/{PHOTO}/annotation?annotator={tab.annotator}", "PUT", document)
    tab.page.reload()
    tab.page.locator("#list .title").nth(1).focus()
    tab.page.keyboard.press("ArrowUp")
    assert tab.order == ['a"]\\', "o1", "o3"]


@pytest.mark.slow
def test_ties_share_a_rank(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.select("o2")
    tab.page.click("text=Tie with above")
    tab.wait_until_saved()
    assert server.ranks(tab.annotator) == {"o1": 1, "o2": 1, "o3": 2}
    tab.page.click("text=Split tie")
    tab.wait_until_saved()
    assert server.ranks(tab.annotator) == {"o1": 1, "o2": 2, "o3": 3}


@pytest.mark.slow
def test_states_and_deletion_are_saved(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    for identifier, label in (("o1", "Not salient"), ("o2", "Delete")):
        tab.select(identifier)
        tab.page.click(f".actions >> text={label}")
    tab.wait_until_saved()
    objects = server.document(tab.annotator)["objects"]
    assert [(o["id"], o["rank"], o["salient"]) for o in objects] == [("o3", 1, True), ("o1", None, False)]


def test_clicks_repaint_a_mask(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    before = mask_of(server.document(tab.annotator)["objects"][0])
    tab.select("o1")
    tab.page.click("text=Edit by clicks")
    tab.click(235, 200)
    expect(tab.page.locator("#tool .positive")).to_have_count(1)
    tab.page.keyboard.down("Shift")
    tab.click(75, 75)
    expect(tab.page.locator("#tool .negative")).to_have_count(1)
    tab.wait_until_saved()
    after = mask_of(server.document(tab.annotator)["objects"][0])
    assert after[200, 235] > before[200, 235]
    assert after[75, 75] < before[75, 75]


@pytest.mark.slow
def test_outline_adds_an_object(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.page.keyboard.press("p")
    for x, y in ((420, 20), (580, 20), (580, 100)):
        tab.click(x, y)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#list [data-row]")).to_have_count(4)
    tab.wait_until_saved()
    added = server.document(tab.annotator)["objects"][3]
    assert (added["rank"], added["state"], added["score"]) == (4, "accepted", None)
    assert mask_of(added).sum() == pytest.approx(160 * 80 / 2, rel=0.05)


@pytest.mark.slow
def test_points_of_an_outline_move(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.select("o2")
    tab.page.keyboard.press("o")
    _, _, right, bottom = BOXES[1]
    tab.drag(tab.place(right, bottom), tab.place(right + 30, bottom + 40))
    expect(tab.page.locator("#undo")).to_be_enabled()
    tab.wait_until_saved()
    grown = mask_of(server.document(tab.annotator)["objects"][1])
    assert grown[bottom + 10, right]


def test_reload_shows_the_last_change(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.select("o3")
    tab.page.keyboard.press("1")
    tab.page.reload()  # at once: the change is sent while the page closes
    tab.page.wait_for_selector("#list [data-row]")
    assert tab.order == ["o3", "o1", "o2"]


@pytest.mark.parametrize("meanwhile", ["reload", slow("wait")])
def test_a_save_without_an_answer_is_no_conflict(open_tab: OpenTab, server: Server, meanwhile: str) -> None:
    tab = open_tab()
    saves = []

    def lose_answer(route: Route) -> None:
        if route.request.method == "PUT" and not saves:
            saves.append(route.fetch().status)
            if meanwhile == "wait":
                route.abort()
        else:
            route.continue_()

    tab.page.route("**/annotation*", lose_answer)
    tab.select("o3")
    with tab.page.expect_request(lambda sent: sent.method == "PUT"):
        tab.page.keyboard.press("1")
    tab.page.keyboard.press("2")
    while not saves:
        tab.page.wait_for_timeout(20)
    if meanwhile == "reload":
        tab.page.reload()
        tab.page.wait_for_selector("#list [data-row]")
    expect(tab.page.locator("#conflict")).to_be_hidden()
    tab.wait_until_saved()
    assert tab.order == list(server.ranks(tab.annotator)) == ["o1", "o3", "o2"]


@pytest.mark.parametrize("answer", ["mine", slow("theirs")])
def test_two_tabs_ask_before_they_overwrite(open_tab: OpenTab, server: Server, answer: str) -> None:
    first, second = open_tab(), open_tab()
    first.select("o2")
    first.page.keyboard.press("ArrowUp")
    first.wait_until_saved()
    second.select("o2")
    second.page.keyboard.press("Delete")
    expect(second.page.locator("#conflict")).to_be_visible()
    assert list(server.ranks(first.annotator)) == ["o2", "o1", "o3"]
    second.page.click(f"#conflict button[value={answer}]")
    second.wait_until_saved()
    expected = {"mine": ["o1", "o3"], "theirs": ["o2", "o1", "o3"]}[answer]
    assert second.order == list(server.ranks(first.annotator)) == expected


@pytest.mark.slow
def test_changes_survive_a_killed_server(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    server.kill()
    tab.select("o3")
    tab.page.keyboard.press("1")
    expect(tab.page.locator("#status")).to_have_attribute("data-status", "offline")
    tab.page.close()  # now the change is in the storage of the browser alone
    server.start()
    tab = open_tab()
    tab.wait_until_saved()
    assert tab.order == list(server.ranks(tab.annotator)) == ["o3", "o1", "o2"]


@pytest.mark.slow
def test_changes_are_sent_when_the_network_is_back(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    tab.page.context.set_offline(True)
    tab.select("o2")
    tab.page.keyboard.press("1")
    expect(tab.page.locator("#status")).to_have_attribute("data-status", "offline")
    tab.page.context.set_offline(False)
    tab.wait_until_saved()
    assert list(server.ranks(tab.annotator)) == ["o2", "o1", "o3"]


@pytest.mark.slow
def test_views_of_the_photo(open_tab: OpenTab) -> None:
    page = open_tab().page
    page.click("#modes >> text=Saliency")
    kind = "async (image) => (await fetch(image.getAttribute('href'))).headers.get('content-type')"
    assert page.locator("#saliency").evaluate(kind) == "image/png"
    page.click("#modes >> text=Crop")
    page.select_option("#aspect", "1:1")
    expect(page.locator("#crop-note")).to_have_text(re.compile("400 . 400, keeps [12] of 3 objects"))
    page.click("text=Download")
    with page.expect_download() as download:
        page.click("#download-picture")
    assert Image.open(download.value.path()).size == (WIDTH, HEIGHT)


def test_agreement_and_consensus(open_tab: OpenTab, server: Server) -> None:
    tab = open_tab()
    save_masks(server, "somebody", rectangles())
    tab.page.click("#agreement-button")
    expect(tab.page.locator("#agreement-table h3").first).to_have_text(PHOTO)
    expect(tab.page.locator("#agreement-table table").first).to_contain_text("somebodythe others")
    tab.page.keyboard.press("Escape")
    tab.page.click("[data-opens=dataset]")
    tab.page.click("#consensus")
    expect(tab.page.locator("#consensus-result")).to_contain_text("annotations/rank_train.json")


@pytest.mark.slow
def test_corrections_train_a_model(open_tab: OpenTab, server: Server, tmp_path: Path) -> None:
    tab = open_tab()
    tab.select("o3")
    tab.page.keyboard.press("1")
    tab.wait_until_saved()
    tab.page.click("[data-opens=dataset]")
    tab.page.click("#consensus")
    expect(tab.page.locator("#consensus-result")).to_contain_text("Wrote")
    mine = f"mine_train=coco:{server.folder / 'annotations/rank_train.json'}"
    run("-m", "sor_ppa", "data", "check", mine)
    data_keys = ("DATASETS.OWN", f"('{mine}',)", "DATASETS.TRAIN", "('mine_train',)", "DATASETS.TEST", "()")
    steps = ("SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0")
    device = ("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path))
    run("train_net.py", "--config-file", "configs/sor/demo.yaml", *data_keys, *steps, *device)
    assert (tmp_path / "model_final.pth").is_file()


def run(*words: str) -> None:
    """Run a command of the project, which must succeed."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["labelstudio", "cvat"])
def test_exported_file_is_imported_unchanged(open_tab: OpenTab, form: str) -> None:
    page = open_tab().page
    page.click("[data-opens=dataset]")
    with page.expect_download() as download:
        page.click(f"#dataset a[href*={form}]")
    page.select_option("#import-format", form)
    page.set_input_files("#import-file", download.value.path())
    expect(page.locator("#import-result")).to_have_text(
        re.compile(r"Imported 0, unchanged [1-9]\d*, .* 0\.$")
    )


def test_every_control_has_a_name(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.select("o2")
    tree = tab.page.context.new_cdp_session(tab.page).send("Accessibility.getFullAXTree")
    roles = {"button", "link", "textbox", "slider", "combobox", "DisclosureTriangle", "dialog", "image"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree["nodes"]
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert len(found) > 30
    assert [role for role, name in found if not name.strip()] == []


# A box around an object of the photo, points on it, points beside it.
CUP = ((165, 10, 445, 290), ((300, 40), (300, 150)), ((360, 280),))
SAUCER = ((75, 60, 490, 390), ((120, 200), (440, 220), (280, 360)), ((300, 150), (300, 60)))
SPOON = ((315, 60, 430, 330), ((360, 280), (385, 215), (415, 100)), ((300, 150), (440, 240)))


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [(390, 844, "dark"), slow(390, 844, "light"), slow(1280, 800, "light"), slow(1280, 800, "dark")],
)
def test_looks(open_tab: OpenTab, server: Server, width: int, height: int, scheme: str) -> None:
    """Text is readable and nothing is cut off at the side. Pictures are written on request."""
    masks = [cut_out(server, *clicks) for clicks in (CUP, SAUCER, SPOON)]
    view = {"viewport": {"width": width, "height": height}, "device_scale_factor": 1 if width > 500 else 2}
    tab = open_tab(masks, "Ada", color_scheme=scheme, **view)
    tab.select("o3")
    if scheme == "dark":  # with a tool
        tab.page.keyboard.press("e")
        tab.click(385, 215)
        expect(tab.page.locator("#tool .positive")).to_have_count(1)
        tab.wait_until_saved()
    tab.page.evaluate("document.querySelector('main').scrollTop = 0")
    contrast, text = tab.page.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    assert tab.page.evaluate("document.querySelector('main').scrollWidth") <= width
    if "SCREENSHOTS" in os.environ:
        file = Path(os.environ["SCREENSHOTS"]) / f"serve_{width}_{scheme}.jpg"
        tab.page.screenshot(path=file, quality=85)
