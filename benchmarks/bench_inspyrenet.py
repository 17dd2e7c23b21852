#!/usr/bin/env python
"""Measure time and memory of InSPyReNet inference, ours and optionally the published code's.

``--reference`` names a checkout of the published code (it also needs the packages kornia and easydict). Both
get the same weights and input, the runs alternate, and the fastest of ``--repeats`` is reported.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sor_ppa.cpu_inference import tune_for_inference
from sor_ppa.inspyrenet.network import InSPyReNetNetwork, build_encoder, predict_blended

NAMES = {"res2net50": "InSPyReNet_Res2Net50", "swin_b": "InSPyReNet_SwinB"}


def spread_attention(network: InSPyReNetNetwork, images: Tensor) -> None:
    """Scale the saliency heads of a random network so that its maps have edges, as those of a trained one.

    The share of an image near edges decides how many tiles of a high-resolution pass are skipped.
    """
    with torch.no_grad():
        for name in ("attention2", "attention1", "attention0"):
            attention = getattr(network, name)
            for branch in (attention.conv_key, attention.conv_value):
                branch[0].conv.weight.div_(attention.grid[0] * attention.grid[1])
        network.decoder.conv5.conv.weight.mul_(5 / network(images).saliency[0].std())


def measure(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the best (CPU seconds, wall seconds) of each run; runs alternate."""
    best = {name: (float("inf"), float("inf")) for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            found = time.process_time() - cpu, time.perf_counter() - wall
            if turn:  # the first turn is a warm-up
                best[name] = min(best[name][0], found[0]), min(best[name][1], found[1])
    return best


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reference", help="checkout of the published code")
    parser.add_argument("--backbone", choices=sorted(NAMES), default="res2net50")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 384), metavar=("H", "W"))
    parser.add_argument("--blend", action="store_true", help="blend with a pass at 384 x 384")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("ours", "published"), help="measure one (for its peak memory)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    network = InSPyReNetNetwork(build_encoder(args.backbone)).eval()
    low = torch.nn.functional.interpolate(torch.randn(1, 3, 12, 12), (384, 384), mode="bicubic")
    high = torch.nn.functional.interpolate(low, tuple(args.size), mode="bicubic")
    spread_attention(network, low)
    runs: dict[str, Callable[[], object]] = {}
    if args.reference:
        sys.path.insert(0, args.reference)
        from lib import InSPyReNet as published

        threshold = 1 if args.blend else None
        theirs = getattr(published, NAMES[args.backbone])(64, False, [384, 384], threshold=threshold)
        theirs.load_state_dict(network.state_dict(), strict=False)
        theirs.eval()
        runs["published"] = lambda: theirs({"image": high, "image_resized": low})["pred"]
    fast = tune_for_inference(network)

    def ours() -> Tensor:
        if not args.blend:
            return fast(high).saliency[-1].sigmoid()
        return predict_blended(fast, fast(low).saliency[-1], high).saliency[-1].sigmoid()  # type: ignore[arg-type]

    runs["ours"] = ours
    if args.only:
        runs = {args.only: runs[args.only]}
    with torch.inference_mode():
        if len(runs) == 2:
            map_ = ours()
            map_ = (map_ - map_.min()) / (map_.max() - map_.min() + 1e-8)
            difference = (map_ - runs["published"]()).abs()  # type: ignore[operator]
            share = (difference > 1e-3).float().mean()
            sys.stdout.write(
                f"largest difference {difference.max():.1e}, beyond 1e-3: {share:.1e} of pixels\n"
            )
        best = measure(runs, args.repeats)
    for name, (cpu, wall) in best.items():
        sys.stdout.write(f"{name:10s} {cpu:8.3f} s CPU {wall:8.3f} s\n")
    if len(best) == 2:
        sys.stdout.write(f"ratio {best['published'][0] / best['ours'][0]:.2f}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(f"peak memory of this process {peak:.2f} GiB\n")


if __name__ == "__main__":
    main()
