"""``sor-ppa video``: rank the objects of a video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..pretrained import find_pretrained
from ..saliency_predictor import SaliencyPredictor
from ..video import cut_out_video, key_frames, rank_frames, rank_video, read_frames
from ..visualization.files import write_image
from ._model import add_model_arguments, load_predictor
from ._progress import count_progress

_EPILOG = """\
examples:
  sor-ppa video clip.mp4                           clip_ranked.mp4, .jsonl and .attention.png
  sor-ppa video clip.mp4 --output out.webm
  sor-ppa video clip.mp4 --summary frames/         the frames at which the most salient object changes
  sor-ppa video clip.mp4 --cut-out --output cut.webm --model transparent-background
  sor-ppa video /dev/video0 --output seen.mkv      a webcam; Ctrl-C ends and finishes the file
  sor-ppa video "dshow:video=NAME" ...             on Windows; avfoundation:0 on macOS

Objects keep their number, and badges are smoothed over time. Time stamps, size, bit rate and sound are as in
the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command."""
    parser.epilog = _EPILOG
    parser.add_argument("input", metavar="INPUT", help="a video file, a device or a stream address")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: INPUT_ranked, same container")
    parser.add_argument("--summary", type=Path, metavar="DIR", help="write key frames instead of a video")
    parser.add_argument(
        "--cut-out",
        action="store_true",
        help="transparent background, with a saliency model: .webm, .mov, .mkv",
    )
    parser.add_argument("--top", type=int, default=1, metavar="N", help="objects that a summary follows")
    parser.add_argument("--no-plot", action="store_true", help="no plot of attention over time")
    add_model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the sub-command and return its exit status."""
    source = Path(options.input)
    if options.cut_out:
        return _cut_out(options)
    predictor = load_predictor(options)
    if options.summary:
        frames = key_frames(rank_frames(read_frames(options.input), predictor), top=options.top)
        options.summary.mkdir(parents=True, exist_ok=True)
        count = 0
        for frame in frames:
            count += 1
            write_image(options.summary / f"{source.stem}_{frame.index:06d}.jpg", frame.result.draw())
            sys.stdout.write(f"{frame.seconds:.2f} s: frame {frame.index}\n")
        return 0 if count else 1
    if not options.output and not source.is_file():
        raise ValueError(
            f"{options.input}: expected a file, or --output for a device or stream, found neither"
        )
    output = options.output or source.with_name(f"{source.stem}_ranked{source.suffix}")
    if output.resolve() == source.resolve():
        raise ValueError(f"{output}: is the input; choose another --output")
    with count_progress(unit="frame") as progress:
        count = rank_video(options.input, output, predictor, plot=not options.no_plot, progress=progress)
    sys.stdout.write(f"{output}: {count} frames\n")
    return 0


def _cut_out(options: argparse.Namespace) -> int:
    if not options.model or not options.output:
        raise ValueError("--cut-out: expected --model with a saliency model and --output, found one missing")
    cfg, _ = find_pretrained(options.model, options.config_file, options.opts)
    count = cut_out_video(options.input, options.output, SaliencyPredictor(cfg))
    sys.stdout.write(f"{options.output}: {count} frames\n")
    return 0
