"""Conditional DETR: the recorded case ``conditional_detr`` of the published fine-tuning code.

It records one image in evaluation and a padded batch of two in training.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from sor_ppa.checkpoint.siamese_detr import published_to_ours
from sor_ppa.layers.detr.boxes import cxcywh_to_xyxy
from sor_ppa.layers.detr.detections import select_detections
from sor_ppa.layers.detr.losses import name_by_layer, weigh
from sor_ppa.layers.detr.matching import BoxTargets
from sor_ppa.siamese_detr.base import diagnostics

from .published import fixture, image, load_published, make_cfg

NAME = "conditional_detr"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_published(make_cfg("DETRDetector", NUM_CLASSES=91), fixture(NAME))


class Run:
    """One forward pass."""

    def __init__(self, model, images):
        features = self.features = model.extract(images)
        self.encoded = []
        hooks = [
            layer.register_forward_hook(lambda module, given, output: self.encoded.append(output))
            for layer in model.transformer.encoder.layers
        ]
        self.memory = model.transformer.encode(features.maps, features.levels)
        for hook in hooks:
            hook.remove()
        self.decoded = model.decode_memory(self.memory)
        self.predictions = model.predict(self.decoded)


@pytest.fixture(scope="module")
def evaluated(model):
    spec = fixture(NAME).manifest["eval"]
    with torch.no_grad():
        return Run(model.eval(), [image(spec["image_key"], spec["height"], spec["width"])])


def train_images() -> list[torch.Tensor]:
    spec = fixture(NAME).manifest["train"]
    return [image(key, *size) for key, size in zip(spec["image_keys"], spec["sizes"], strict=True)]


def train_targets() -> BoxTargets:
    spec = fixture(NAME).manifest["train"]["targets"]
    return BoxTargets.pad(*([torch.tensor(t[key]) for t in spec] for key in ("boxes", "labels")))


@pytest.fixture(scope="module")
def trained(model):
    run, targets = Run(model.train(), train_images()), train_targets()
    losses, run.matches = model.criterion(run.predictions, targets, targets.mean_count())
    run.losses = name_by_layer(weigh(losses, model.weights))
    model.zero_grad()
    sum(run.losses.values()).backward()
    return run


def check_activations(prefix, run):
    case, memory = fixture(NAME), run.memory
    case.check(f"{prefix}/features", run.features.backbone["res5"])
    case.check(f"{prefix}/pos", memory.levels.unflatten(memory.positions)[0])
    case.check(f"{prefix}/input_proj", run.features.maps[0])
    case.check(f"{prefix}/memory", memory.tokens.transpose(0, 1))
    case.check(f"{prefix}/reference_points", run.decoded.references[0])
    for layer in range(6):
        case.check(f"{prefix}/hs{layer}", run.decoded.hidden[layer])
        case.check(f"{prefix}/logits{layer}", run.predictions.logits[layer])
        case.check(f"{prefix}/boxes{layer}", run.predictions.boxes[layer])
    case.check(f"{prefix}/boxes_last", run.predictions.boxes[-1])


def test_evaluation_activations_equal_the_published(evaluated):
    check_activations("eval", evaluated)


def test_training_activations_of_a_padded_batch_equal_the_published(trained):
    check_activations("train", trained)


def test_every_encoder_layer_equals_the_published(evaluated):
    for layer, output in enumerate(evaluated.encoded):
        fixture(NAME).check(f"eval/encoder_layer{layer}", output.transpose(0, 1))


def test_matching_indices_equal_the_published(trained):
    case, matches = fixture(NAME), trained.matches
    for layer in range(6):
        for index in range(2):
            here = matches.image[layer] == index
            found = torch.stack((matches.query[layer][here], matches.target[layer][here])).numpy()
            np.testing.assert_array_equal(found, case.arrays[f"train/match_layer{layer}_image{index}"])


def test_losses_equal_the_published(trained):
    spec = fixture(NAME).manifest["train"]
    for name, weight in spec["weight_dict"].items():
        assert trained.losses[name].item() == pytest.approx(weight * spec["losses"][name], rel=1e-4), name
    assert set(trained.losses) == set(spec["weight_dict"])
    assert sum(trained.losses.values()).item() == pytest.approx(spec["total_weighted"], rel=1e-4)


def test_diagnostics_equal_the_published(trained):
    losses = fixture(NAME).manifest["train"]["losses"]
    found = diagnostics(trained.predictions.logits, train_targets(), trained.matches)
    assert found["class_error"][-1].item() == pytest.approx(losses["class_error"])
    assert found["cardinality_error"][-1].item() == pytest.approx(losses["cardinality_error"])
    assert found["cardinality_error"][0].item() == pytest.approx(losses["cardinality_error_0"])


def test_gradient_norms_equal_the_published(model, trained):
    ours = dict(model.named_parameters())
    norms = fixture(NAME).manifest["train"]["grad_norms"]
    for published, norm in norms.items():
        gradient = ours[published_to_ours(published)].grad
        if norm is None:
            assert gradient is None, published
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-2, abs=1e-3), published


def test_postprocessing_equals_the_published(evaluated):
    case, spec = fixture(NAME), fixture(NAME).manifest["eval"]
    found = select_detections(evaluated.predictions.logits[-1], evaluated.predictions.boxes[-1], 100)
    height, width = spec["postprocess_target_size"]
    boxes = found.boxes * torch.tensor([width, height, width, height])
    np.testing.assert_allclose(found.scores[0].numpy(), case.arrays["eval/post_scores"].ravel(), atol=1e-5)
    agree = found.labels[0].numpy() == case.arrays["eval/post_labels"].ravel()
    assert agree.mean() > 0.9
    wanted = case.arrays["eval/post_boxes"].reshape(-1, 4)
    np.testing.assert_allclose(boxes[0].numpy()[agree], wanted[agree], atol=0.1)


def test_forward_returns_weighted_losses_of_instances(model):
    samples = []
    spec = fixture(NAME).manifest["train"]
    for picture, target in zip(train_images(), spec["targets"], strict=True):
        height, width = picture.shape[-2:]
        corners = cxcywh_to_xyxy(torch.tensor(target["boxes"]))
        instances = Instances((height, width), gt_classes=torch.tensor(target["labels"]))
        instances.gt_boxes = Boxes(corners * torch.tensor([width, height, width, height]))
        samples.append({"image": picture, "instances": instances})
    total = sum(model.train()(samples).values()).item()
    assert total == pytest.approx(spec["total_weighted"], rel=1e-4)
