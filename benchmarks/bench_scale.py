#!/usr/bin/env python
"""Measure ``sor-ppa rank --ray`` and ``sor-ppa evaluate --ray`` on this machine, and predict a cluster.

    rank      images per second against the number of models, and what one image costs in each step: decoding,
              moving its pixels between processes, the model, gathering the results. From these, the speed of
              N nodes is predicted, with the step that limits it.
    evaluate  time and memory against the number of simulated images

``--output`` gets the figures as JSON and a plot. Whatever is predicted is called so.

Examples:
    python benchmarks/bench_scale.py rank --workers 1 2 --cpus 3
    python benchmarks/bench_scale.py rank --gpu-model-seconds 0.02 --gpus-of-node 8 --cpus-of-node 96
    python benchmarks/bench_scale.py evaluate --sizes 1000 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np

from sor_ppa.predictor import SORPredictor


@dataclass(frozen=True)
class Costs:
    """What one image costs.

    Attributes:
        decode: CPU seconds to read and decode it.
        move: CPU seconds to hand its pixels to another process of the node.
        model: seconds of a model, of a GPU if ``gpu``, else of a CPU.
        gather: CPU seconds of the command to collect and write its results.
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


def measure_costs(load: Callable[[], SORPredictor], photos: Sequence[Path], batch: int) -> Costs:
    """Measure the CPU time of each step alone, in one process; the first batch is not counted."""
    import ray
    from pyarrow import Table

    from sor_ppa.scale.ranking import RayOutput, RaySummary, _Gatherer, _RankingActor
    from sor_ppa.scale.reading import read_piece
    from sor_ppa.scale.storage import Folder

    actor, spent = _RankingActor(load, None), dict.fromkeys(("decode", "move", "model", "gather"), 0.0)
    pixel_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        gatherer = _Gatherer(RayOutput(Folder(folder), "parquet", len(photos)), RaySummary())
        for start in range(0, len(photos), batch):
            times = [time.process_time()]
            files = [str(photo) for photo in photos[start : start + batch]]
            rows = list(read_piece({"files": files, "start": 0, "stop": 0, "shard": start}, ""))
            times.append(time.process_time())
            table = ray.get(ray.put(Table.from_pylist(rows)))
            times.append(time.process_time())
            found = actor(table)
            times.append(time.process_time())
            for row in found.to_pylist():
                gatherer.add(row)
            times.append(time.process_time())
            if start:
                spent = {step: spent[step] + own for step, own in zip(spent, np.diff(times), strict=True)}
                pixel_bytes += sum(len(row["pixels"]) for row in rows)
    counted = photos[batch:]
    decode, move, model, gather = (float(seconds) / len(counted) for seconds in spent.values())
    file_bytes = sum(photo.stat().st_size for photo in counted) / len(counted)
    return Costs(decode, move, model, gather, file_bytes, pixel_bytes / len(counted))


def write_photos(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG photos of synthetic scenes, ``side`` pixels wide and three quarters of it high."""
    from sor_ppa.data.synthetic import SyntheticSpec

    height = side * 3 // 4
    spec = SyntheticSpec({"train": 20, "val": 1, "test": 1}, (height, side, height, side))
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
    speeds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        photos = write_photos(Path(name, "photos"), options.images, options.side)
        ray.init(address="local", num_cpus=options.cpus, include_dashboard=False)
        alone = ray.remote(num_cpus=1)(measure_costs)  # with the threads of an actor
        costs = ray.get(alone.remote(load, photos[: options.alone], options.batch))
        for actors in options.workers:
            pieces, _ = find_pieces([str(photos[0].parent)], options.batch)
            output = Path(name, f"ranked{actors}")
            rank_on_ray(
                load,
                pieces,
                Folder(str(output)),
                "parquet",
                ray.cluster_resources(),
                batch_size=options.batch,
                actors=actors,
            )
            speeds[actors] = final_speed(
                [file.stat().st_mtime for file in output.iterdir()], actors, options.batch
            )
        ray.shutdown()
    cores = os.cpu_count() or 1
    measured = {"images_per_second": speeds, "cores": cores, "costs": asdict(costs)}
    here = {n: min(n / costs.model, predict_rates(costs, 1, 0, cores, math.inf)["CPUs"]) for n in speeds}
    kinds = {f"{options.cpus_of_node} CPUs a node": costs}
    if options.gpu_model_seconds:
        gpu = replace(costs, model=options.gpu_model_seconds, gpu=True)
        kinds[f"{options.gpus_of_node} GPUs and {options.cpus_of_node} CPUs a node"] = gpu
    machine = options.gpus_of_node, options.cpus_of_node, options.network
    predicted = {
        kind: {
            nodes: bottleneck(predict_rates(own, nodes, *machine)) for nodes in (1, 2, 4, 8, 16, 32, 64, 128)
        }
        for kind, own in kinds.items()
    }
    return {"measured": measured, "predicted_here": here, "predicted": predicted, "options": vars(options)}


def final_speed(times: Sequence[float], actors: int, images: int) -> float:
    """Return the images per second in the second half of a run, when all models are at work.

    Args:
        times: in seconds at which a shard was written.
        actors: models, which finish about as many shards together.
        images: of a shard.
    """
    shards = len(times) // 2 // actors * actors
    ordered = sorted(times)
    return shards * images / (ordered[-1] - ordered[-1 - shards])


def plot_ranking(found: dict[str, Any], path: Path) -> None:
    """Draw what was measured and what is predicted beside each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for label, speeds, style in (
        ("measured", found["measured"]["images_per_second"], "o-"),
        ("predicted", found["predicted_here"], "k:"),
    ):
        left.plot(list(speeds), list(speeds.values()), style, label=label)
    title = f"this machine, {found['measured']['cores']} cores"
    left.set(title=title, xlabel="models", ylabel="images/s", ylim=0, xticks=list(speeds))
    left.legend(fontsize=8)
    for kind, rates in found["predicted"].items():
        right.loglog(list(rates), [rate for _, rate in rates.values()], "o:", label=kind)
        before = ""
        for nodes, (step, rate) in rates.items():
            if step != before:
                right.annotate(step, (nodes, rate), (4, -11), textcoords="offset points", fontsize=8)
            before = step
    right.set(title="predicted clusters, and what limits them", xlabel="nodes", ylabel="images/s")
    right.margins(y=0.15)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=80)


@contextmanager
def watched() -> Iterator[tuple[dict[str, float], dict[int, float]]]:
    """Give the most memory that is in use at a time, in MB, and the CPU seconds that each process takes.

    ``object_store`` is memory that processes share, ``driver`` what this process has besides, ``worker`` what
    one process of Ray has that runs tasks, ``workers`` what all of those have, and ``total`` the memory of
    this process and all below it. Pages of several processes count in each in proportion.
    """
    found = dict.fromkeys(("driver", "worker", "workers", "object_store", "total"), 0.0)
    before = {pid: _cpu_seconds(pid) for pid in _descendants()}
    seconds: dict[int, float] = {}
    done = Event()

    def watch() -> None:
        while not done.wait(2):
            own = {pid: _memory(pid) for pid in _descendants()}
            for pid in own:  # 0 if the process has just ended
                seconds[pid] = max(seconds.get(pid, 0), _cpu_seconds(pid) - before.get(pid, 0))
            workers = [own[pid][0] for pid in own if _is_worker(pid)]
            shared = sum(shared for _, shared in own.values())
            total = sum(private for private, _ in own.values()) + shared
            now = own[os.getpid()][0], max(workers, default=0), sum(workers), shared, total
            found.update({key: max(found[key], value) for key, value in zip(found, now, strict=True)})

    thread = Thread(target=watch)
    thread.start()
    try:
        yield found, seconds
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


def _memory(pid: int) -> tuple[float, float]:
    """Return the memory of a process in MB: its own, and what it shares as an object store."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
        return sizes["Pss:"] - sizes["Pss_Shmem:"], sizes["Pss_Shmem:"]
    return 0.0, 0.0


def _cpu_seconds(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().startswith("ray::")
    return False


def write_simulation(folder: Path, count: int) -> None:
    """Write Parquet truth and predictions of photos of 240 x 320 pixels with two objects each.

    Their masks are ellipses, drawn from 2,000, so the scores mean nothing.
    """
    from pyarrow import Table, parquet

    from sor_ppa.data.masks import encode_mask

    generator = np.random.default_rng(0)
    codes = []
    for _ in range(2000):
        mask = np.zeros((240, 320), np.uint8)
        center, axes = generator.integers((50, 40), (270, 200)), generator.integers(10, 80, 2)
        cv2.ellipse(mask, center.tolist(), axes.tolist(), float(generator.integers(180)), 0, 360, 1, -1)
        codes.append(encode_mask(mask)["counts"])
    for kind in ("truth", "found"):
        (folder / kind).mkdir(parents=True)
    for start in range(0, count, 50_000):
        names = [f"{i:08d}.jpg" for i in range(start, min(start + 50_000, count)) for _ in range(2)]
        common = {"image": names, "height": [240] * len(names), "width": [320] * len(names)}
        own: dict[str, dict[str, Any]] = {
            "truth": {"gt_rank": [1, 0] * (len(names) // 2), "crowd": [False] * len(names)},
            "found": {"rank": [1, 2] * (len(names) // 2), "score": [0.9] * len(names)},
        }
        for kind, columns in own.items():
            masks = [codes[i] for i in generator.integers(len(codes), size=len(names))]
            table = Table.from_pydict({**common, "segmentation": masks, **columns})
            parquet.write_table(table, folder / kind / f"{start:08d}.parquet")


def bench_evaluation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure time and memory against the number of images; return one dict a size."""
    import ray

    from sor_ppa.scale.evaluation import score_parquet

    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # its memory is not that of the driver
                pool.submit(write_simulation, Path(name), size).result()
            ray.init(
                address="local",
                num_cpus=options.cpus,
                include_dashboard=False,
                object_store_memory=options.object_store << 20,
            )
            with watched() as (memory, cpu):
                start = time.perf_counter()
                outcome = score_parquet(f"{name}/found", f"{name}/truth", ray.cluster_resources())
                seconds = time.perf_counter() - start
            ray.shutdown()
        means = {metric: next(iter(e.values()))["value"] for metric, e in outcome.scorer.result().items()}
        times = {"seconds": seconds, "cpu_seconds": sum(cpu.values())}
        rows.append({"images": outcome.scored, **times, "mb": memory, **means})
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
        sys.stdout.flush()
    return rows


def plot_evaluation(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time and memory against the number of images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    images = [row["images"] for row in rows]
    for key in ("seconds", "cpu_seconds"):
        left.loglog(images, [row[key] for row in rows], "o-", label=key.replace("_", " "))
    left.set(title="time", xlabel="images", ylabel="s")
    left.legend(fontsize=8)
    for key in ("total", "object_store", "driver", "worker"):
        right.semilogx(images, [row["mb"][key] for row in rows], "o-", label=key.replace("_", " "))
    right.set(title="most memory at a time", xlabel="images", ylabel="MB", ylim=0)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("what", choices=("rank", "evaluate"))
    add = parser.add_argument
    add("--output", type=Path, default=Path("output/scale"), metavar="DIR")
    add("--cpus", type=int, default=os.cpu_count(), help="that Ray may use; one more than models at least")
    add("--images", type=int, default=96)
    add("--alone", type=int, default=20, help="images whose steps are measured alone (default: 20)")
    add("--batch", type=int, default=4, help="images that a model takes together (default: 4)")
    add("--side", type=int, default=640, help="width of the photos in pixels (default: 640)")
    add("--workers", type=int, nargs="+", default=[1], help="numbers of models")
    add("--model", default="contrast")
    add("--opts", nargs="+", default=[], metavar="KEY VALUE", help="of the model")
    add("--gpu-model-seconds", type=float, default=0, help="of an image on a GPU, known from elsewhere")
    add("--gpus-of-node", type=int, default=8)
    add("--cpus-of-node", type=int, default=64)
    add("--network", type=float, default=1.25e9, help="bytes per second into a node (default: 10 Gbit/s)")
    add("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="images to evaluate")
    add("--object-store", type=int, default=1024, help="of evaluate, in MB (default: 1024)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options.output.mkdir(parents=True, exist_ok=True)
    found: Any
    if options.what == "rank":
        found = bench_ranking(options)
        plot_ranking(found, options.output / "rank.png")
        for kind, rates in found["predicted"].items():
            for nodes, (step, rate) in rates.items():
                text = f"predicted: {nodes:3d} nodes, {kind}: {rate:9.1f} images/s"
                sys.stdout.write(f"{text}, limited by {step}\n")
        sys.stdout.write(f"predicted here: {json.dumps(found['predicted_here'])}\n")
        sys.stdout.write(f"measured: {json.dumps(found['measured'])}\n")
    else:
        found = bench_evaluation(options)
        plot_evaluation(found, options.output / "evaluate.png")
    (options.output / f"{options.what}.json").write_text(json.dumps(found, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
