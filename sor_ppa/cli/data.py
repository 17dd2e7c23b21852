"""``sor-ppa data``: fetch, check, show, measure, convert and label ranking datasets."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from tqdm import tqdm

from ..atomic import write_json
from ..composing import SceneMaterial, Scores, scene_scores
from ..config import load_config
from ..data.builtin import DatasetSource, datasets_root, register_all, source_of
from ..data.check import check_dataset
from ..data.export import WRITERS, write_png, write_records
from ..data.images import decoded_image
from ..data.issues import DatasetError, Issue
from ..data.own import register_own
from ..data.record import ImageRecord
from ..data.shards import write_shards
from ..data.stats import measure, plot
from ..labeling import LabelCounts, label_photos
from ..training_pictures import write_training_pictures
from ..visualization import draw_ranked
from ..visualization.files import expand_inputs, result_names
from ..zoo.datasets import DATASETS, get_dataset
from ._model import add_model_arguments, load_predictor
from ._progress import download_progress

_EPILOG = """\
examples:
  sor-ppa data get assr                              fetch ASSR, unpack it into datasets/ASSR
  sor-ppa data list
  sor-ppa data check assr_train
  sor-ppa data show synthetic_sor_test --count 12 --output pictures
  sor-ppa data stats irsr_train --output statistics
  sor-ppa data convert assr_train --to coco --output datasets/my_assr
  sor-ppa data convert assr_test --to parquet --output truth.parquet
  sor-ppa data shards assr_train --output shards     tar files for training on several machines
  sor-ppa data label photos/ --output datasets/mine  labels from a ranker, ready for training:
  sor-ppa train --config-file configs/sor/ppa.yaml DATASETS.TRAIN "('mine_train',)"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--root", default="", help="folder of the datasets (default: DETECTRON2_DATASETS)")
    named = argparse.ArgumentParser(add_help=False, parents=[root])
    named.add_argument("name", help="registered name, such as assr_train, or NAME=FORMAT:PATH")

    listing = actions.add_parser(
        "list", parents=[root], help="list the datasets and whether their files exist"
    )
    listing.set_defaults(act=_list_datasets)

    checking = actions.add_parser("check", parents=[named], help="validate a dataset; one line per issue")
    checking.set_defaults(act=_check_dataset)
    checking.add_argument("--fast", action="store_true", help="do not decode the images")
    checking.add_argument("--limit", type=int, default=50, help="lines for each kind of issue (default: 50)")

    what = "write images with masks and ranks drawn on them"
    showing = actions.add_parser("show", parents=[named], help=what)
    showing.set_defaults(act=_show_dataset)
    showing.add_argument("--output", type=Path, required=True, help="folder for the images")
    showing.add_argument("--count", type=int, default=16, help="number of images (default: 16)")
    showing.add_argument("--seed", type=int, help="choose at random (default: the first ones)")
    showing.add_argument("--rankless", action="store_true", help="draw objects without a rank, too")
    what = "draw training samples of the model of --config-file, for ranking, detection and saliency sets"
    showing.add_argument("--augmented", action="store_true", help=what)
    showing.add_argument("--config-file", default="", metavar="FILE", help="model of --augmented")
    showing.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration keys")

    measuring = actions.add_parser("stats", parents=[named], help="count, measure and plot")
    measuring.set_defaults(act=_measure_dataset)
    measuring.add_argument("--output", type=Path, help="folder for a PNG and a JSON file")

    converting = actions.add_parser("convert", parents=[named], help="write a dataset in another format")
    converting.set_defaults(act=_convert_dataset)
    what = "format (default: coco); parquet: ground truth for sor-ppa evaluate --ray"
    converting.add_argument("--to", choices=[*WRITERS, "parquet"], default="coco", help=what)
    what = "folder of the dataset to write; a file for --to parquet"
    converting.add_argument("--output", required=True, help=what)
    converting.add_argument("--split", help="split to write (default: as read)")
    how = ("symlink", "hardlink", "copy", "none")
    converting.add_argument(
        "--images", choices=how, default="symlink", help="how to place images (default: symlink)"
    )
    converting.add_argument(
        "--ranked-only", action="store_true", help="leave out crowds and objects without a rank"
    )

    sharding = actions.add_parser("shards", parents=[named], help="write a dataset as WebDataset tar files")
    sharding.set_defaults(act=_shard_dataset)
    sharding.add_argument("--output", type=Path, required=True, help="folder for tar files and their index")
    sharding.add_argument("--split", help="split to write (default: as read)")
    sharding.add_argument("--images-per-shard", type=int, default=1000, metavar="N", help="default: 1000")
    what = "where the tar files will be, if not beside the index, such as s3://bucket/folder"
    sharding.add_argument("--url", default="", help=what)

    getting = actions.add_parser("get", parents=[root], help="fetch a published dataset")
    getting.set_defaults(act=_fetch_dataset)
    getting.add_argument("name", choices=sorted(DATASETS))
    getting.add_argument("--file", type=Path, help="the archive, downloaded by hand")

    labeling = actions.add_parser("label", help="make a dataset from photos with a ranker as teacher")
    labeling.set_defaults(act=_label_dataset)
    labeling.add_argument("input", nargs="+", metavar="PHOTOS", help="photos, folders, globs or .txt lists")
    labeling.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the dataset")
    labeling.add_argument("--split", default="train", help="name of the split (default: train)")
    labeling.add_argument(
        "--agreement", type=float, default=0.5, metavar="IOU", help="overlap of the views (default: 0.5)"
    )
    labeling.add_argument(
        "--scenes",
        type=int,
        default=0,
        metavar="N",
        help="also make N scenes of objects cut out of the photos, as the split scenes (teacher: contrast)",
    )
    labeling.add_argument("--images", choices=("symlink", "hardlink", "copy"), default="symlink")
    add_model_arguments(labeling)
    labeling.set_defaults(confidence_threshold=0.5)  # doubtful objects spoil labels


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status; 1: the check found faults."""
    root = getattr(options, "root", "")
    register_all(root)
    if "=" in getattr(options, "name", ""):
        options.name = register_own(options.name, root)
    status: int = options.act(options)
    return status


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _list_datasets(options: argparse.Namespace) -> int:
    for name, source in sorted(DatasetCatalog.data.items()):
        if isinstance(source, DatasetSource):
            state = "complete"
            if source.missing:
                state = "folder exists" if source.path.is_dir() else "missing"
            _say(f"{name:24s} {source.kind:8s} {state:13s} {source.path}")
    return 0


def _check_dataset(options: argparse.Namespace) -> int:
    records, issues = check_dataset(source_of(options.name), decode=not options.fast)
    groups: dict[tuple[str, str], list[Issue]] = defaultdict(list)
    for issue in issues:
        groups["fault" if issue.serious else "note", issue.kind].append(issue)
    for (word, kind), group in sorted(groups.items()):
        for issue in group[: options.limit]:
            _say(f"{word}: {kind}: {issue}")
        if len(group) > options.limit:
            _say(f"{word}: {kind}: and {len(group) - options.limit} more")
    ranks = [item.rank for record in records for item in record.objects]
    ranked = sum(rank >= 0 for rank in ranks)
    _say(f"\n{options.name}: {len(records)} usable images, {len(ranks)} objects, {ranked} of them ranked")
    for (word, kind), group in sorted(groups.items()):
        _say(f"  {len(group):6d}  {kind}{' (note)' if word == 'note' else ''}")
    faults = sum(issue.serious for issue in issues)
    _say(f"{faults} faults, {len(issues) - faults} notes")
    return 1 if faults else 0


def _picture(record: ImageRecord) -> np.ndarray:
    """Return the image (H, W, 3), BGR, with its ranked objects drawn on it."""
    image = np.ascontiguousarray(decoded_image(record.file_name)[..., ::-1])
    top = max((item.rank for item in record.objects), default=0)
    ranks = [0 if item.rank < 0 else top - item.rank + 1 for item in record.objects]
    return draw_ranked(image, record.masks(), ranks)[..., ::-1]


def _show_dataset(options: argparse.Namespace) -> int:
    if options.augmented:
        root = ["DATASETS.ROOT", options.root] if options.root else []
        cfg = load_config(options.config_file, [*root, *options.opts])
        count = write_training_pictures(cfg, options.name, options.output, options.count, options.seed)
        _say(f"{options.output}: {count} pictures of {options.name}")
        return 0
    records = source_of(options.name).read(keep_rankless=options.rankless)
    if options.seed is not None:
        records = [records[i] for i in np.random.default_rng(options.seed).permutation(len(records))]
    records = records[: options.count]
    names = result_names([Path(record.file_name) for record in records])
    for record, name in zip(records, names, strict=True):
        write_png(options.output / f"{name}.png", _picture(record))
    _say(f"{options.output}: {len(records)} pictures of {options.name}")
    return 0


def _measure_dataset(options: argparse.Namespace) -> int:
    found = measure(source_of(options.name).read(keep_rankless=True))
    summary = found.summary()
    rows, counts = summary.pop("by_rank"), summary.pop("images_by_ranked_objects")
    for key, value in summary.items():
        _say(f"{key.replace('_', ' '):20s} {value}")
    _say("\nranked objects  images")
    for number, count in counts.items():
        _say(f"{number:>14s}  {count:6d}")
    _say("\n  rank  objects  mean area %  median area %  distance from center")
    for row in rows:
        _say(
            f"{row['rank']:6d}  {row['objects']:7d}  {100 * row['area_mean']:11.2f}"
            f"  {100 * row['area_median']:13.2f}  {row['distance_from_center_mean']:20.3f}"
        )
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        plot(found, options.name, options.output / f"{options.name}.png")
        write_json(options.output / f"{options.name}.json", found.summary(), indent=1)
        _say(f"\n{options.output / options.name}.png")
    return 0


def _convert_dataset(options: argparse.Namespace) -> int:
    if options.to == "parquet":
        from ..evaluation.truth_table import write_truth

        images, count = write_truth(options.name, Path(options.output))
        _say(f"{options.output}: {images} images, {count} objects as parquet")
        return 0
    source, output, kind = source_of(options.name), options.output, options.to
    records = source.read(keep_rankless=not options.ranked_only)
    split = options.split or source.split
    same_folder = os.path.realpath(output) == os.path.realpath(source.path)
    if same_folder and (kind, split) == (source.kind, source.split):
        found = f"{output}, which is {options.name} itself"
        raise DatasetError(f"--output: expected another folder, found {found}")
    write_records(records, output, kind, split, images=options.images, ranked_only=options.ranked_only)
    objects = sum(len(record.objects) for record in records)
    _say(f"{output}: {len(records)} images, {objects} objects as {kind} ({split})")
    return 0


def _shard_dataset(options: argparse.Namespace) -> int:
    source = source_of(options.name)
    records, split = source.read(keep_rankless=True), options.split or source.split
    count = options.images_per_shard
    if count < 1:
        raise ValueError(f"--images-per-shard: expected at least 1, found {count}")
    names = write_shards(records, options.output, split, images_per_shard=count, url=options.url)
    _say(f"{options.output}: {len(records)} images in {len(names)} shards ({split})")
    return 0


def _fetch_dataset(options: argparse.Namespace) -> int:
    root = datasets_root(options.root or None)
    root.mkdir(parents=True, exist_ok=True)
    with download_progress(options.name) as progress:
        folder = get_dataset(options.name, root, archive=options.file, progress=progress)
    _say(f"{folder}: unpacked")
    names = [f"{options.name}_{split}" for split in ("train", "val", "test")]
    return max(_check_dataset(argparse.Namespace(name=name, fast=True, limit=50)) for name in names)


def _compose_scenes(options: argparse.Namespace, score: Scores, material: SceneMaterial) -> None:
    folder = options.output / "images" / "scenes"
    scenes = material.scenes(options.scenes, folder, score)
    records = list(tqdm(scenes, total=options.scenes, unit="scene"))
    write_records(records, options.output, "coco", "scenes", images="none")
    kinds = f"{len(material.objects)} objects, {len(material.backgrounds)} backgrounds"
    _say(f"dataset {options.output.name.lower()}_scenes: {len(records)} scenes made of {kinds}")


def _label_dataset(options: argparse.Namespace) -> int:
    files, faults = expand_inputs(options.input)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    predictor = load_predictor(options)
    score = scene_scores(predictor) if options.scenes else None  # refuses other teachers before the work
    counts = LabelCounts()
    found = label_photos(
        predictor,
        tqdm(files, unit="photo"),
        counts,
        score=options.confidence_threshold,
        overlap=options.agreement,
    )
    material, records = SceneMaterial(), []
    for photo in found:
        if photo.record.objects:
            records.append(photo.record)
        if score is not None:
            material.add(photo)
    if not records:
        raise ValueError(f"expected photos with objects that both views show, found none ({counts})")
    write_records(records, options.output, "coco", options.split, images=options.images)
    name = f"{options.output.name}_{options.split}".lower()
    _say(f"{counts}\ndataset {name} in {options.output}")
    if score is not None:
        _compose_scenes(options, score, material)
    return 1 if faults or counts.unreadable else 0
