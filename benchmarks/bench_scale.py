#!/usr/bin/env python
"""Measure ``sor-ppa rank --ray`` and ``sor-ppa evaluate --ray`` on this machine, and predict a cluster.

    rank      images per second against the number of models, and what one image costs in each step: decoding,
              moving its pixels between processes, the model, gathering the results. From these, the speed of
              N nodes with G GPUs (or CPU models) is predicted, with the step that limits it.
    evaluate  time and memory against the number of simulated images

``--output`` gets the figures as JSON and a plot. Whatever is predicted is called so.

Examples:
    python benchmarks/bench_scale.py rank --images 200 --workers 1 2 3 --cpus 4
    python benchmarks/bench_scale.py rank --gpu-model-seconds 0.02 --gpus-of-node 8 --cpus-of-node 96
    python benchmarks/bench_scale.py evaluate --largest 100000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from sor_ppa.predictor import SORPredictor

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Costs:
    """What one image costs.

    Attributes:
        decode: seconds of a CPU to read and decode it.
        move: seconds of a CPU to hand its pixels to another process of the node.
        model: seconds of a model, on one GPU if ``gpu``, else on one CPU.
        gather: seconds of the command to collect and write its results.
        file_bytes: of the image file, which come over the network.
        pixel_bytes: of the decoded image, which stay on the node where possible.
        gpu: whether ``model`` is of a GPU.
    """

    decode: float
    move: float
    model: float
    gather: float
    file_bytes: float
    pixel_bytes: float
    gpu: bool = False


def predict_rates(costs: Costs, nodes: int, gpus: int, cpus: int, network: float) -> dict[str, float]:
    """Return the images per second that each step of a cluster allows; the least is the prediction.

    Decoding gets the CPUs that the models leave, and all of its pixels stay on their node. With models on
    CPUs, the CPUs are divided so that decoding and models are equally fast.

    Args:
        costs: of an image.
        nodes: of the cluster.
        gpus: of a node; without ``costs.gpu`` they are not used.
        cpus: of a node.
        network: bytes per second into a node.
    """
    reading = costs.decode + costs.move
    if costs.gpu:
        rates = {"decode": nodes * max(cpus - gpus, 0) / reading, "model": nodes * gpus / costs.model}
    else:
        both = nodes * cpus / (reading + costs.model)
        rates = {"CPUs": both}
    rates["network"] = nodes * network / costs.file_bytes
    rates["gathering"] = 1 / costs.gather
    return rates


def bottleneck(rates: dict[str, float]) -> tuple[str, float]:
    """Return the slowest step and its images per second."""
    name = min(rates, key=lambda step: rates[step])
    return name, rates[name]


def measure_costs(predictor: SORPredictor, photos: Sequence[Path], batch: int) -> Costs:
    """Measure every step alone, in one process on an idle machine."""
    import ray

    from sor_ppa.scale.ranking import RayOutput, RaySummary, _Gatherer, _RankingActor
    from sor_ppa.scale.reading import read_piece
    from sor_ppa.scale.storage import Folder

    piece = {"files": [str(photo) for photo in photos], "start": 0, "stop": 0, "shard": 0}
    start = time.perf_counter()
    rows = list(read_piece(piece, ""))
    decode = time.perf_counter() - start
    start = time.perf_counter()
    tables = [_table(rows[i : i + batch]) for i in range(0, len(rows), batch)]
    for table in tables:
        ray.get(ray.put(table))
    move = time.perf_counter() - start
    actor = _RankingActor(lambda: predictor, None)
    actor(tables[0])  # the first images of a model take longer
    start = time.perf_counter()
    found = [row for table in tables for row in actor(table).to_pylist()]
    model = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        gatherer = _Gatherer(RayOutput(Folder(folder), "parquet", 1), RaySummary())
        start = time.perf_counter()
        for row in found:
            gatherer.add(row)
        gather = time.perf_counter() - start
    file_bytes = sum(photo.stat().st_size for photo in photos) / len(photos)
    pixel_bytes = sum(len(row["pixels"]) for row in rows) / len(photos)
    decode, move, model, gather = (seconds / len(photos) for seconds in (decode, move, model, gather))
    return Costs(decode, move, model, gather, file_bytes, pixel_bytes)


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows))


def write_photos(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG photos of synthetic scenes, ``side`` wide and three quarters of it high."""
    from sor_ppa.data.synthetic import SyntheticSpec

    height = side * 3 // 4
    spec = SyntheticSpec({"train": 20, "val": 1, "test": 1}, (height, height, side, side))
    scenes = [spec.scene("train", i).jpeg for i in range(min(count, 20))]
    folder.mkdir(parents=True)
    files = [folder / f"{i:06d}.jpg" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(scenes[i % len(scenes)])
    return files


def bench_ranking(options: argparse.Namespace) -> dict[str, Any]:
    """Measure speeds and costs and predict clusters; return everything."""
    import ray

    from sor_ppa.scale.ranking import rank_on_ray
    from sor_ppa.scale.sources import find_pieces
    from sor_ppa.scale.storage import Folder

    load = partial(SORPredictor.from_pretrained, options.model, options=options.opts)
    measured: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos = write_photos(root / "photos", options.images, options.side)
        ray.init(address="local", num_cpus=options.cpus, include_dashboard=False)
        costs = measure_costs(load(), photos[: options.alone], 16)
        for actors in options.workers:
            pieces, _ = find_pieces([str(root / "photos")], max(1, options.images // 16))
            warm = find_pieces([str(root / "photos")], 1)[0][: options.cpus]  # starts the processes of Ray
            for run, some in (("warm", warm), ("all", pieces)):
                folder = Folder(str(root / f"{run}{actors}"))
                resources = ray.cluster_resources()
                summary = rank_on_ray(load, some, folder, "parquet", resources, actors=actors)
            measured[actors] = summary.images / summary.seconds
        ray.shutdown()
    if options.gpu_model_seconds:
        costs = Costs(**{**asdict(costs), "model": options.gpu_model_seconds, "gpu": True})
    machine = costs.gpu, options.gpus_of_node, options.cpus_of_node, options.network
    predictions = []
    for nodes in (1, 2, 4, 8, 16, 32, 64):
        rates = predict_rates(costs, nodes, *machine[1:])
        step, rate = bottleneck(rates)
        predictions.append({"nodes": nodes, "images_per_second": rate, "bottleneck": step, "rates": rates})
    return {
        "measured": {
            "images_per_second": measured,
            "cores": os.cpu_count(),
            "side": options.side,
            "costs": asdict(costs),
        },
        "predicted": predictions,
        "node": {"gpus": options.gpus_of_node, "cpus": options.cpus_of_node, "network": options.network},
    }


def plot_ranking(found: dict[str, Any], path: Path) -> None:
    """Draw what was measured and what is predicted beside each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    speeds = found["measured"]["images_per_second"]
    left.plot(list(speeds), list(speeds.values()), "o-")
    left.set(
        title=f"measured, {found['measured']['cores']} cores", xlabel="models", ylabel="images/s", ylim=0
    )
    left.set_xticks(list(speeds))
    rows = found["predicted"]
    nodes = [row["nodes"] for row in rows]
    for step in rows[0]["rates"]:
        right.loglog(nodes, [row["rates"][step] for row in rows], ":", label=f"{step} alone")
    right.loglog(nodes, [row["images_per_second"] for row in rows], "k-", label="prediction")
    node = found["node"]
    right.set(title=f"predicted, {node['gpus']} GPUs and {node['cpus']} CPUs a node", xlabel="nodes")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=80)


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Give a dict that gets ``peak``, the most memory in bytes of this process and all below it.

    Memory that processes share, such as the object store of Ray, counts in each of them in proportion (PSS).
    """
    found, done = {"peak": 0.0}, Event()

    def watch() -> None:
        while not done.wait(0.5):
            found["peak"] = max(found["peak"], float(sum(map(_proportional, _descendants()))))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _descendants() -> list[int]:
    """Return this process and the processes below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def write_simulation(folder: Path, count: int) -> None:
    """Write Parquet truth and predictions of many small images: two objects each, found or not."""
    from pyarrow import Table, parquet
    from pycocotools import mask as mask_util

    generator = np.random.default_rng(0)
    codes = []
    for _ in range(200):
        mask = np.zeros((32, 40), np.uint8, order="F")
        y, x = generator.integers(0, 16), generator.integers(0, 24)
        mask[y : y + generator.integers(4, 16), x : x + generator.integers(4, 16)] = 1
        codes.append(mask_util.encode(mask)["counts"].decode())
    for kind in ("truth", "found"):
        (folder / kind).mkdir(parents=True)
    for start in range(0, count, 50_000):
        names = [f"{i:08d}.jpg" for i in range(start, min(start + 50_000, count)) for _ in range(2)]
        common = {"image": names, "height": [32] * len(names), "width": [40] * len(names)}
        for kind in ("truth", "found"):
            picked = generator.integers(0, len(codes), len(names))
            columns: dict[str, Any] = {**common, "segmentation": [codes[i] for i in picked]}
            if kind == "truth":
                columns |= {"gt_rank": [1, 0] * (len(names) // 2), "crowd": [False] * len(names)}
            else:
                ranks = [1, 2] * (len(names) // 2)
                columns |= {
                    "rank": ranks,
                    "rank_score": [-1.0 * r for r in ranks],
                    "score": [0.9] * len(names),
                }
            parquet.write_table(Table.from_pydict(columns), folder / kind / f"{start:08d}.parquet")


def bench_evaluation(options: argparse.Namespace) -> list[dict[str, float]]:
    """Measure time and memory against the number of images; return one dict a size."""
    import ray

    from sor_ppa.scale.evaluation import score_parquet

    rows = []
    size = 1000
    while size <= options.largest:
        with tempfile.TemporaryDirectory() as name:
            write_simulation(Path(name), size)
            ray.init(
                address="local",
                num_cpus=options.cpus,
                include_dashboard=False,
                object_store_memory=options.object_store << 20,
            )
            with peak_memory() as memory:
                start = time.perf_counter()
                outcome = score_parquet(f"{name}/found", f"{name}/truth", ray.cluster_resources())
                seconds = time.perf_counter() - start
            ray.shutdown()
        means = {metric: next(iter(e.values()))["value"] for metric, e in outcome.scorer.result().items()}
        rows.append(
            {"images": outcome.scored, "seconds": seconds, "peak_mb": memory["peak"] / 2**20, **means}
        )
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
        sys.stdout.flush()
        size *= 10
    return rows


def plot_evaluation(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw time and memory against the number of images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    images = [row["images"] for row in rows]
    for axes, key, label in zip(figure.subplots(1, 2), ("seconds", "peak_mb"), ("s", "MB"), strict=True):
        axes.loglog(images, [row[key] for row in rows], "o-")
        axes.set(xlabel="images", ylabel=label, title="time" if label == "s" else "peak memory")
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("what", choices=("rank", "evaluate"))
    add = parser.add_argument
    add("--output", type=Path, default=Path("output/scale"), metavar="DIR")
    add("--cpus", type=int, default=os.cpu_count(), help="that Ray may use")
    add("--images", type=int, default=200)
    add("--alone", type=int, default=32, help="images whose steps are measured alone")
    add("--side", type=int, default=1024, help="long side of the photos in pixels")
    add("--workers", type=int, nargs="+", default=[1], help="numbers of models")
    add("--model", default="contrast")
    add("--opts", nargs="+", default=[], metavar="KEY VALUE", help="of the model")
    add("--gpu-model-seconds", type=float, default=0, help="of an image on a GPU, measured elsewhere")
    add("--gpus-of-node", type=int, default=8)
    add("--cpus-of-node", type=int, default=64)
    add("--network", type=float, default=1.25e9, help="bytes per second into a node (default: 10 Gbit/s)")
    add("--largest", type=int, default=100_000, help="images to evaluate")
    add("--object-store", type=int, default=1024, help="of evaluate, in MB")
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options.output.mkdir(parents=True, exist_ok=True)
    found: Any
    if options.what == "rank":
        found = bench_ranking(options)
        plot_ranking(found, options.output / "rank.png")
        for row in found["predicted"]:
            text = f"predicted: {row['nodes']:3d} nodes {row['images_per_second']:9.1f} images/s"
            sys.stdout.write(f"{text}, limited by {row['bottleneck']}\n")
        sys.stdout.write(f"measured: {json.dumps(found['measured'])}\n")
    else:
        found = bench_evaluation(options)
        plot_evaluation(found, options.output / "evaluate.png")
    (options.output / f"{options.what}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
