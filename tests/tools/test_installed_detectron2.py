"""What must hold in any detectron2 the package runs on, and what our own build does beyond upstream's."""

import importlib.metadata
import os

import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data.common import MapDataset
from detectron2.data.transforms import ExtentTransform
from detectron2.engine.hooks import LRScheduler
from detectron2.layers import DeformConv, ModulatedDeformConv, ROIAlignRotated
from detectron2.layers.mask_ops import paste_mask_in_image_old
from detectron2.structures import BitMasks, PolygonMasks, RotatedBoxes, pairwise_iou_rotated
from torch.nn import functional

ours = pytest.mark.skipif(
    "+pure." not in importlib.metadata.version("detectron2"), reason="upstream's detectron2 is installed"
)
SQUARE = [np.array([1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0])]


def test_model_zoo_files_are_there():
    config = get_cfg()
    config.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
    assert config.MODEL.MASK_ON


def test_unknown_model_zoo_file_is_refused():
    with pytest.raises(RuntimeError, match="not available in Model Zoo"):
        model_zoo.get_config_file("none.yaml")


def test_polygon_masks():
    assert PolygonMasks([SQUARE, []]).nonempty().tolist() == [True, False]
    assert BitMasks.from_polygon_masks([SQUARE, []], 12, 12).tensor.sum(dim=(1, 2)).tolist() == [64, 0]


def test_extent_transform_has_a_default_interpolation():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(ExtentTransform((0, 0, 8, 8), (8, 8)).apply_image(image), image)


def test_old_mask_pasting():
    mask = paste_mask_in_image_old(torch.ones(4, 4), torch.tensor([2.0, 2.0, 5.0, 5.0]), 10, 10, 0.5)
    assert mask.sum() == 16


def test_record_that_cannot_be_mapped_is_replaced():
    data = MapDataset(["good", "bad"], lambda record: None if record == "bad" else record)
    assert data[0] == data[1] == "good"


def test_state_of_torch_schedulers_is_kept():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    hook = LRScheduler(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2))
    hook.trainer = type("Trainer", (), {"optimizer": optimizer})()
    hook.before_train()
    assert hook.state_dict()["step_size"] == 2


def test_export_is_there_without_caffe2():
    from detectron2.export import TracingAdapter, scripting_with_instances

    assert TracingAdapter
    assert scripting_with_instances


@ours
@pytest.mark.parametrize(("groups", "offset_groups"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolution_by_whole_pixels_is_a_shifted_one(
    groups: int, offset_groups: int, modulated: bool
):
    torch.manual_seed(0)
    kind = ModulatedDeformConv if modulated else DeformConv
    layer = kind(4, 6, 3, padding=1, groups=groups, deformable_groups=offset_groups)
    image = torch.randn(2, 4, 9, 9)
    offset = torch.tensor([1.0, -2.0]).repeat(9 * offset_groups).view(1, -1, 1, 1).expand(2, -1, 9, 9)
    mask = torch.full((2, 9 * offset_groups, 9, 9), 0.5)
    result = layer(image, offset.contiguous(), *([mask] if modulated else []))
    expected = functional.conv2d(image, layer.weight, padding=1, groups=groups) * (0.5 if modulated else 1.0)
    torch.testing.assert_close(result[:, :, 1:7, 3:8], expected[:, :, 2:8, 1:6])


@ours
@pytest.mark.parametrize(
    "use",
    [
        lambda boxes: pairwise_iou_rotated(boxes, boxes),
        lambda boxes: ROIAlignRotated((7, 7), 1.0, 0)(torch.rand(1, 3, 9, 9), torch.rand(1, 6)),
    ],
)
def test_compiled_code_that_is_absent_says_so_where_it_is_used(use):
    with pytest.raises(
        NotImplementedError, match=r"compiled code.*install_detectron2\.py --from-git"
    ) as caught:
        use(RotatedBoxes(torch.rand(2, 5)))
    assert "\n" not in str(caught.value)


@ours
def test_compiled_module_is_absent_for_those_who_ask():
    with pytest.raises(ImportError):
        __import__("detectron2._C")


@ours
def test_coco_evaluator_falls_back_to_pycocotools(tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import COCOEvaluator

    name = f"empty_{os.getpid()}"
    DatasetCatalog.register(name, lambda: [{"file_name": "a", "image_id": 0, "height": 4, "width": 4}])
    MetadataCatalog.get(name).set(thing_classes=["a"], json_file=str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": [], "info": {}}')
    try:
        assert COCOEvaluator(name, ("bbox",), distributed=False)._use_fast_impl is False
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
