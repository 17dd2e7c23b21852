"""Edits that let detectron2 0.6 run on current numpy, Pillow, Python and torch, without compiled code.

Every edit names a file of the `detectron2` package, the text that must be there, its replacement and the
number of occurrences. A source archive with other contents is refused before anything is written.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class BuildError(Exception):
    """A wheel that cannot be built; one line for the user."""


class Edit(NamedTuple):
    """One checked substitution.

    Attributes:
        path: file, relative to the `detectron2` package.
        old: text to replace. Where it starts or ends with a letter, digit or underscore it matches whole
            names only: `np.int` leaves `np.int64` alone.
        new: text put in its place.
        times: how often `old` must occur.
    """

    path: str
    old: str
    new: str
    times: int


_ALIAS = "numpy 1.24 removed the aliases of Python's own types"
_ABSENT = "the compiled extension is not part of this build"
_IMPORT, _INSTEAD = "from detectron2 import _C", "from detectron2.uncompiled import _C"

# Reason -> edits. The reasons go into the wheel's description.
EDITS: Mapping[str, tuple[Edit, ...]] = {
    _ALIAS: (
        Edit("data/build.py", "np.int", "int", 2),
        Edit("data/datasets/pascal_voc.py", "np.str", "str", 1),
        Edit("evaluation/pascal_voc_evaluation.py", "np.bool", "bool", 2),
        Edit("evaluation/sem_seg_evaluation.py", "np.int", "int", 2),
        Edit("evaluation/sem_seg_evaluation.py", "np.float", "float", 5),
        Edit("structures/masks.py", "np.bool", "bool", 3),
        Edit("utils/video_visualizer.py", "np.bool", "bool", 1),
        Edit("utils/visualizer.py", "np.bool", "bool", 3),
    ),
    "numpy 2 raises where copy=False cannot be kept": (
        Edit("layers/mask_ops.py", "np.array(mask, copy=False)", "np.asarray(mask)", 1),
    ),
    "Pillow 10 removed Image.LINEAR": (
        Edit("data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", 1),
    ),
    "Python 3.11 samples from sequences only": (
        Edit(
            "data/common.py",
            "self._rng.sample(self._fallback_candidates, k=1)",
            "self._rng.sample(list(self._fallback_candidates), k=1)",
            1,
        ),
    ),
    "setuptools 82 removed pkg_resources": (
        Edit("model_zoo/model_zoo.py", "import pkg_resources\n", "", 1),
        Edit(
            "model_zoo/model_zoo.py",
            'pkg_resources.resource_filename(\n        "detectron2.model_zoo", '
            'os.path.join("configs", config_path)\n    )',
            'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
            1,
        ),
    ),
    "torch 2 ends the schedulers' private base class, torch.cuda.amp, typed storages and bare meshgrid": (
        Edit(
            "utils/comm.py",
            "    storage = torch.ByteStorage.from_buffer(buffer)\n"
            "    tensor = torch.ByteTensor(storage).to(device=device)\n",
            "    tensor = torch.frombuffer(bytearray(buffer), dtype=torch.uint8).to(device=device)\n",
            1,
        ),
        Edit("engine/hooks.py", "lr_scheduler._LRScheduler", "lr_scheduler.LRScheduler", 2),
        Edit("engine/train_loop.py", "from torch.cuda.amp import", "from torch.amp import", 2),
        Edit("engine/train_loop.py", "with autocast():", 'with autocast("cuda"):', 1),
        Edit(
            "modeling/anchor_generator.py",
            "torch.meshgrid(shifts_y, shifts_x)",
            'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
            1,
        ),
        Edit(
            "projects/panoptic_deeplab/post_processing.py",
            "torch.arange(width, dtype=offsets.dtype, device=offsets.device),\n",
            'torch.arange(width, dtype=offsets.dtype, device=offsets.device),\n        indexing="ij",\n',
            1,
        ),
    ),
    "torch no longer ships caffe2; without it the rest of detectron2.export still works": (
        Edit(
            "export/__init__.py",
            "from .api import *\n",
            "try:\n    from .api import *\nexcept ImportError as error:\n"
            '    if (error.name or "").split(".")[0] not in ("caffe2", "onnx"):\n        raise\n',
            1,
        ),
    ),
    _ABSENT: (
        Edit("layers/rotated_boxes.py", _IMPORT, _INSTEAD, 1),
        Edit("layers/roi_align_rotated.py", _IMPORT, _INSTEAD, 1),
        Edit("layers/deform_conv.py", _IMPORT, _INSTEAD, 1),
        Edit("evaluation/fast_eval_api.py", _IMPORT, _INSTEAD, 1),
        Edit(
            "layers/nms.py",
            "from torchvision.ops import nms  # BC-compat\n",
            "from torchvision.ops import nms  # BC-compat\n\nfrom detectron2.uncompiled import _C\n",
            1,
        ),
        Edit("layers/nms.py", "torch.ops.detectron2.nms_rotated(", "_C.nms_rotated(", 1),
    ),
    "deformable convolution comes from torchvision, on any device": (
        Edit(
            "layers/deform_conv.py",
            "deform_conv = _DeformConv.apply\n",
            '''
def deform_conv(
    input, offset, weight, stride=1, padding=0, dilation=1, groups=1, deformable_groups=1, im2col_step=64
):
    """torchvision's kernel; it reads both numbers of groups off the shapes of weight and offset."""
    if input is not None and input.dim() != 4:
        raise ValueError("Expected 4D tensor as input, got {}D tensor instead.".format(input.dim()))
    return deform_conv2d(
        input, offset, weight, stride=_pair(stride), padding=_pair(padding), dilation=_pair(dilation)
    )


''',
            1,
        ),
        Edit(
            "layers/deform_conv.py",
            "modulated_deform_conv = _ModulatedDeformConv.apply\n",
            '''
def modulated_deform_conv(
    input, offset, mask, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, deformable_groups=1
):
    """torchvision's kernel; it reads both numbers of groups off the shapes of weight and offset."""
    return deform_conv2d(
        input,
        offset,
        weight,
        bias,
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
        mask=mask,
    )


''',
            1,
        ),
    ),
    "COCO AP comes from pycocotools where the compiled evaluation is asked for": (
        Edit(
            "evaluation/coco_evaluation.py",
            "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
            "",
            1,
        ),
        Edit(
            "evaluation/coco_evaluation.py",
            "        self._use_fast_impl = use_fast_impl\n",
            "        if use_fast_impl:\n"
            '            self._logger.info("No compiled COCOeval in this build: using pycocotools.")\n'
            "        self._use_fast_impl = False\n",
            1,
        ),
        Edit("evaluation/coco_evaluation.py", "COCOeval_opt if use_fast_impl else COCOeval", "COCOeval", 1),
    ),
}

# Files that the archive does not have.
ADDITIONS: Mapping[str, str] = {
    "uncompiled.py": '''\
"""Stands where the compiled extension `detectron2._C` would be imported; see this package's description."""


class _Uncompiled:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(
            "detectron2._C.{} is compiled code, which this pure-Python build of detectron2 leaves out: "
            "install upstream detectron2 to use it (python tools/install_detectron2.py --from-git --force)"
            .format(name)
        )


_C = _Uncompiled()
''',
}

NOTICE = "\n# Changed from the published file by sor_ppa's tools/install_detectron2.py.\n"


def apply_edits(
    package: Path,
    edits: Mapping[str, Iterable[Edit]] = EDITS,
    additions: Mapping[str, str] = ADDITIONS,
) -> None:
    """Edit the files of a package in place and end each changed file with a notice.

    Args:
        package: the `detectron2` folder.
        edits: reason -> substitutions, applied in order.
        additions: path relative to the package -> text of a new file.

    Raises:
        BuildError: a file is missing, or the text of an edit does not occur as often as expected. Nothing
            is written then.
    """
    changed: dict[Path, str] = {}
    for edit in (edit for group in edits.values() for edit in group):
        path = package / edit.path
        if not path.is_file():
            raise BuildError(f"detectron2/{edit.path}: expected in the source archive, found no such file")
        text = changed[path] if path in changed else path.read_text("utf-8")
        changed[path], found = _whole(edit.old).subn(lambda _, new=edit.new: new, text)  # type: ignore[misc]
        if found != edit.times:
            raise BuildError(
                f"detectron2/{edit.path}: expected {edit.old.strip()!r} {edit.times} times, found {found}"
            )
    for path, text in changed.items():
        path.write_text(text + NOTICE, "utf-8")
    for name, text in additions.items():
        (package / name).write_text(text, "utf-8")


def _whole(old: str) -> re.Pattern[str]:
    before = r"(?<!\w)" if re.match(r"\w", old[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", old[-1]) else ""
    return re.compile(before + re.escape(old) + after)
