#!/usr/bin/env python
"""Rank photos without training, then make data, train, evaluate and draw. ``make demo`` runs this.

Every step is a command that you can run yourself. It is printed before it runs, and its full output goes to a
log. A step whose result exists is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from sor_ppa.data.synthetic.dataset import MANIFEST
from sor_ppa.layers.precision import fast_bfloat16

REPO = Path(__file__).resolve().parents[1]
CONFIG = "configs/sor/demo.yaml"
SHOWN = 0.5  # confidence of the detections in the contact sheet; the scores count all
# of scikit-image: public domain or CC0
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png")
PROGRESS = re.compile(r"eta: (\S+) +iter: (\d+) +total_loss: (\S+)")


def say(text: str) -> None:
    """A line for the reader."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(command: list[str], log: Path) -> None:
    """Run a command, show how far it is, keep everything it prints.

    Args:
        command: arguments after the interpreter.
        log: file for its output.

    Raises:
        SystemExit: if it fails, with its last lines and the log's name.
    """
    say(f"    python {' '.join(command)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        shown = 0.0
        for line in process.stdout:
            file.write(line)
            lines.append(line)
            found = PROGRESS.search(line)
            if found and time.monotonic() - shown > 15:
                shown = time.monotonic()
                eta, iteration, loss = found.groups()
                say(f"    iteration {iteration}, loss {loss}, {eta} to go")
    if process.wait() != 0:
        say("".join(lines[-15:]))
        sys.exit(f"error: the step above failed (exit status {process.returncode}); its log is {log}")


def fingerprint(paths: list[Path], text: str) -> str:
    """A hash of what a result depends on."""
    digest = hashlib.sha256(text.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_sheet(output: Path, datasets: Path, rows: int) -> Path:
    """A contact sheet of held-out pictures: input, truth, prediction.

    Args:
        output: folder of the trained model.
        datasets: root of the datasets.
        rows: pictures; the first of the split with at least three ranked objects, not the best.

    Returns:
        The file written.
    """
    from detectron2.data import DatasetCatalog

    from sor_ppa.data.builtin import register_all
    from sor_ppa.evaluation.ground_truth import truth_from_dict
    from sor_ppa.predictor import SORPredictor
    from sor_ppa.visualization import contact_sheet, draw_ranked
    from sor_ppa.visualization.files import read_image

    register_all(datasets)
    dicts = DatasetCatalog.get("synthetic_sor_test")
    chosen = [d for d in dicts if sum(a["gt_rank"] >= 0 for a in d["annotations"]) >= 3][:rows]
    options = ["MODEL.WEIGHTS", str(output / "model_final.pth")]
    predictor = SORPredictor.from_config_file(REPO / CONFIG, options, min_score=SHOWN)
    pictures = [read_image(d["file_name"]) for d in chosen]
    table = []
    for record, picture, result in zip(chosen, pictures, predictor(pictures), strict=True):
        truth = truth_from_dict(record)
        ranks = truth.dense_ranks
        masks = truth.ranked_masks().astype(bool)
        drawn = draw_ranked(picture[:, :, ::-1], masks, ranks.max() - ranks + 1)
        table.append([picture[:, :, ::-1], drawn, result.draw(picture)])
    names = [Path(d["file_name"]).name for d in chosen]
    sheet = contact_sheet(
        table, ["Input", "Truth", f"Prediction (confidence from {SHOWN})"], row_labels=names
    )
    path = output / "contact_sheet.png"
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[:, :, ::-1]))
    return path


def rank_photos(folder: Path, log: Path) -> None:
    """Rank photos that scikit-image and scikit-learn carry, and put the drawings on one sheet."""
    import sklearn.datasets
    from skimage.data import data_dir

    from sor_ppa.visualization import contact_sheet
    from sor_ppa.visualization.files import read_image, write_image

    carried = [Path(data_dir) / f"{name}" for name in PHOTOS]
    carried.append(Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg")
    files = [str(path) for path in carried if path.is_file()]
    run(["-m", "sor_ppa", "rank", *files, "--model", "contrast", "--output", str(folder)], log)
    drawn = [read_image(folder / f"{Path(file).stem}_ranked.jpg")[:, :, ::-1] for file in files]
    half = -(-len(drawn) // 2)
    rows = [drawn[:half], drawn[half:]]
    write_image(folder / "sheet.jpg", contact_sheet([row for row in rows if row], [""] * half))
    say(f"    {folder / 'sheet.jpg'}")


def report(metrics: dict) -> None:
    """The final table; what is undefined is a dash."""
    ranking, boxes, masks = (metrics["results"][k] for k in ("sor", "bbox", "segm"))

    def number(value: float | None, width: int, digits: int = 3) -> str:
        return "-".rjust(width) if value is None else f"{value:{width}.{digits}f}"

    say(f"\nHeld-out split, {metrics['images']} images")
    say(f"  {'':34}{'model':>9}{'shuffled ranks':>17}")
    for name, title in (("SA-SOR", "SA-SOR (irsr), -1 to 1"), ("SOR", "SOR (assr), 0 to 1")):
        say(f"  {title:34}{number(ranking[name], 9)}{number(ranking[f'{name}-shuffled'], 17)}")
    say(f"  {'images used by SOR':34}{number(ranking['SOR-images'], 9, 0)}")
    say(f"  {'MAE (assr), lower is better':34}{number(ranking['MAE'], 9)}")
    say(f"  {'box AP / AP50':34}{number(boxes['AP'], 9, 1)} / {number(boxes['AP50'], 1, 1)}")
    say(f"  {'mask AP / AP50':34}{number(masks['AP'], 9, 1)} / {number(masks['AP50'], 1, 1)}")


def main() -> None:
    """Make, train, evaluate, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--output", default="output/demo", help="folder of all results (default: %(default)s)"
    )
    parser.add_argument("--count", nargs=3, default=["2400", "50", "200"], help="images of train, val, test")
    parser.add_argument("--size", default="160x208", help="height x width of the images")
    parser.add_argument("--rows", type=int, default=6, help="rows of the contact sheet")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs for train_net.py")
    args = parser.parse_args()
    output, start = Path(args.output), time.monotonic()
    datasets = output / "datasets"

    say("[1/4] Ranking photos without training")
    rank_photos(output / "photos", output / "logs" / "photos.log")

    say("[2/4] Making a synthetic salient object ranking dataset")
    data = ["tools/make_synthetic.py", "--overwrite", "--output", f"{datasets}/synthetic_sor"]
    run([*data, "--count", *args.count, "--size", args.size], output / "logs" / "data.log")

    say("[3/4] Training CenterMask with the PPA ranking branch, then scoring the held-out split")
    command = ["train_net.py", "--config-file", CONFIG, "DATASETS.ROOT", str(datasets)]
    fast = not torch.cuda.is_available() and fast_bfloat16(torch.device("cpu"))
    half = ["SOLVER.AMP.ENABLED", "True"] if fast else []
    command += ["OUTPUT_DIR", str(output), *half, *args.opts]
    results = output / "inference" / "synthetic_sor_test" / "sor_metrics.json"
    stamp = output / "trained.sha256"
    made = [REPO / CONFIG, datasets / "synthetic_sor" / MANIFEST]
    wanted = fingerprint(made, " ".join([*command, *args.count, args.size]))
    weights = output / "model_final.pth"
    if not (results.exists() and weights.exists() and stamp.exists() and stamp.read_text() == wanted):
        run(command, output / "logs" / "train.log")
        stamp.write_text(wanted)
    else:
        say(f"    done before: {weights}")

    say("[4/4] Drawing held-out pictures")
    sheet = output / "contact_sheet.png"
    if not sheet.exists() or sheet.stat().st_mtime < weights.stat().st_mtime:
        make_sheet(output, datasets, args.rows)
    report(json.loads(results.read_text()))
    say(
        f"\nPhotos:   {output / 'photos'}\nPictures: {sheet}\nWeights:  {weights}\nMetrics:  {results}\n"
        f"Per image, predictions: {results.parent}\nLogs:     {output / 'logs'}\n"
        f"Time:     {(time.monotonic() - start) / 60:.1f} minutes\n"
        f"\nThe network that was trained here knows made-up scenes only. For your own photos:\n"
        "    .venv/bin/sor-ppa rank PHOTOS\n"
        "ranks without training; .venv/bin/sor-ppa models lists trained rankers that you can fetch."
    )


if __name__ == "__main__":
    main()
