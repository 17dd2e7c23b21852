"""Conditional DETR against the published fine-tuning code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from sor_ppa.checkpoint.siamese_detr import published_to_ours
from sor_ppa.siamese_detr.criterion import Targets
from sor_ppa.siamese_detr.detector import select_top

from .published import fixture, image, load_published, make_cfg

NAME = "conditional_detr"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_published(make_cfg("DETRDetector", NUM_CLASSES=91), fixture(NAME))


@pytest.fixture(scope="module")
def evaluated(model):
    spec = fixture(NAME).manifest["eval"]
    model.eval()
    with torch.no_grad():
        features, maps = model.extract([image(spec["image_key"], spec["height"], spec["width"])])
        encoded = model.transformer.encode(features)
        decoded = model.decode_queries(features)
        return features, maps, encoded, decoded, *model.predict(decoded)


def train_images() -> list[torch.Tensor]:
    spec = fixture(NAME).manifest["train"]
    return [image(key, *size) for key, size in zip(spec["image_keys"], spec["sizes"], strict=True)]


def train_targets() -> Targets:
    spec = fixture(NAME).manifest["train"]["targets"]
    return Targets.pad([torch.tensor(t["boxes"]) for t in spec], [torch.tensor(t["labels"]) for t in spec])


@pytest.fixture(scope="module")
def trained(model):
    model.train()
    features, maps = model.extract(train_images())
    encoded = model.transformer.encode(features)
    decoded = model.decode_queries(features)
    logits, boxes = model.predict(decoded)
    losses, diagnostics = model.losses(logits, boxes, train_targets())
    model.zero_grad()
    sum(losses.values()).backward()
    return features, maps, encoded, decoded, logits, boxes, losses, diagnostics


def check_activations(prefix, features, maps, encoded, decoded, logits, boxes):
    case = fixture(NAME)
    case.check(f"{prefix}/features", maps[0])
    case.check(f"{prefix}/pos", features.positions[0])
    case.check(f"{prefix}/input_proj", features.sources[0])
    case.check(f"{prefix}/memory", encoded.memory.transpose(0, 1))
    case.check(f"{prefix}/reference_points", decoded.references[0])
    for layer in range(6):
        case.check(f"{prefix}/hs{layer}", decoded.hidden[layer])
        case.check(f"{prefix}/logits{layer}", logits[layer])
        case.check(f"{prefix}/boxes{layer}", boxes[layer])
    case.check(f"{prefix}/boxes_last", boxes[-1])


def test_evaluation_activations_equal_the_published(evaluated):
    check_activations("eval", *evaluated)


def test_training_activations_of_a_padded_batch_equal_the_published(trained):
    check_activations("train", *trained[:6])


def test_every_encoder_layer_equals_the_published(model):
    case, spec = fixture(NAME), fixture(NAME).manifest["eval"]
    model.eval()
    outputs = []
    hooks = [
        layer.register_forward_hook(lambda *a: outputs.append(a[2]))
        for layer in model.transformer.encoder.layers
    ]
    with torch.no_grad():
        model.transformer.encode(model.extract([image(spec["image_key"], spec["height"], spec["width"])])[0])
    for hook in hooks:
        hook.remove()
    for layer, output in enumerate(outputs):
        case.check(f"eval/encoder_layer{layer}", output.transpose(0, 1))


def test_matching_indices_equal_the_published(model, trained):
    case = fixture(NAME)
    matches = model.criterion.match(trained[4], trained[5], train_targets())
    for layer in range(6):
        for index in range(2):
            here = matches.image[layer] == index
            found = torch.stack((matches.query[layer][here], matches.target[layer][here])).numpy()
            np.testing.assert_array_equal(found, case.arrays[f"train/match_layer{layer}_image{index}"])


def test_losses_equal_the_published(trained):
    spec = fixture(NAME).manifest["train"]
    for name, weight in spec["weight_dict"].items():
        assert trained[6][name].item() == pytest.approx(weight * spec["losses"][name], rel=1e-4), name
    assert set(trained[6]) == set(spec["weight_dict"])
    assert sum(trained[6].values()).item() == pytest.approx(spec["total_weighted"], rel=1e-4)


def test_diagnostics_equal_the_published(trained):
    losses, diagnostics = fixture(NAME).manifest["train"]["losses"], trained[7]
    assert diagnostics["class_error"][-1].item() == pytest.approx(losses["class_error"])
    assert diagnostics["cardinality_error"][-1].item() == pytest.approx(losses["cardinality_error"])
    assert diagnostics["cardinality_error"][0].item() == pytest.approx(losses["cardinality_error_0"])


def test_gradient_norms_equal_the_published(model, trained):
    ours = dict(model.named_parameters())
    norms = fixture(NAME).manifest["train"]["grad_norms"]
    for published, norm in norms.items():
        gradient = ours[published_to_ours(published)].grad
        if norm is None:
            assert gradient is None, published
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-2, abs=1e-3), published


def test_postprocessing_equals_the_published(model, evaluated):
    case, spec = fixture(NAME), fixture(NAME).manifest["eval"]
    scores, labels, boxes, _ = select_top(evaluated[4][-1], evaluated[5][-1], 100)
    height, width = spec["postprocess_target_size"]
    boxes = boxes * torch.tensor([width, height, width, height])
    np.testing.assert_allclose(scores[0].numpy(), case.arrays["eval/post_scores"].ravel(), atol=1e-5)
    agree = labels[0].numpy() == case.arrays["eval/post_labels"].ravel()
    assert agree.mean() > 0.9
    np.testing.assert_allclose(
        boxes[0].numpy()[agree], case.arrays["eval/post_boxes"].reshape(-1, 4)[agree], atol=0.1
    )


def test_forward_returns_weighted_losses_of_instances(model):
    model.train()
    samples = []
    spec = fixture(NAME).manifest["train"]
    for picture, target in zip(train_images(), spec["targets"], strict=True):
        height, width = picture.shape[-2:]
        cx, cy, w, h = torch.tensor(target["boxes"]).unbind(1)
        corners = torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=1)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(corners * torch.tensor([width, height, width, height]))
        instances.gt_classes = torch.tensor(target["labels"])
        samples.append({"image": picture, "instances": instances})
    assert sum(model(samples).values()).item() == pytest.approx(spec["total_weighted"], rel=1e-4)
