"""InSPyReNet as a detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ..checkpoint import CheckpointError, read_weights
from ..checkpoint.inspyrenet import backbone_weights
from ..layers.batching import same_size_groups
from .layers import resize
from .losses import pyramid_losses
from .network import InSPyReNetNetwork, SaliencyPyramid, build_encoder, predict_blended
from .preprocess import dynamic_size, resize_antialiased

__all__ = ["InSPyReNet"]


@META_ARCH_REGISTRY.register()
class InSPyReNet(nn.Module):
    """Salient object detection at any resolution.

    Inputs are detectron2's list of dicts. Training: ``image`` (3, H, W), 0 ... 255 in ``INPUT.FORMAT`` order,
    and ``saliency`` (1, H, W) in [0, 1], all of one size. Inference: ``image`` of any size, and optionally
    the ``height`` and ``width`` of the result. Each result is ``{"saliency": (height, width) float32 in
    [0, 1]}``; results do not depend on other images of the batch.
    """

    checkpoint_system = "inspyrenet"
    #: sides of images in an exported graph are multiples of it, in pixels
    export_divisibility = 32
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        network: InSPyReNetNetwork,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        base_size: int = 384,
        dynamic: bool = True,
        max_short_side: int = 1280,
        threshold: int = 512,
        normalize: bool = True,
    ) -> None:
        """
        Args:
            network: the network.
            pixel_mean, pixel_std: of each channel, 0 ... 255.
            base_size: side in pixels of static and low-resolution inputs, a multiple of 32.
            dynamic: resize by :func:`dynamic_size`; False: to ``base_size`` squared.
            max_short_side: limit of the dynamic rule in pixels.
            threshold: blend if both sides exceed it, in pixels; 0: always a single pass.
            normalize: stretch each map to [0, 1].
        """
        super().__init__()
        assert base_size % 32 == 0
        self.network = network
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.base_size = base_size
        self.dynamic = dynamic
        self.max_short_side = max_short_side
        self.threshold = threshold
        self.normalize = normalize

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments from ``MODEL.INSPYRENET`` and ``MODEL.PIXEL_*``."""
        node = cfg.MODEL.INSPYRENET
        network = InSPyReNetNetwork(
            build_encoder(node.BACKBONE),
            depth=node.DEPTH,
            base_size=(node.BASE_SIZE, node.BASE_SIZE),
            tile=None if node.TILE < 0 else node.TILE,
        )
        if node.BACKBONE_WEIGHTS:
            load_backbone(network, node.BACKBONE_WEIGHTS)
        return {
            "network": network,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **cls.inference_options(cfg),
        }

    @staticmethod
    def inference_options(cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments that say how images pass the network."""
        node = cfg.MODEL.INSPYRENET
        return {
            "base_size": node.BASE_SIZE,
            "dynamic": node.RESIZE == "dynamic",
            "max_short_side": node.MAX_SHORT_SIDE,
            "threshold": node.THRESHOLD,
            "normalize": node.NORMALIZE,
        }

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Return the encoder at ``SOLVER.BASE_LR``, the rest at ``DECODER_LR_FACTOR`` times that rate."""
        encoder = [p for p in self.network.backbone.parameters() if p.requires_grad]
        known = {id(parameter) for parameter in encoder}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        rate = cfg.SOLVER.BASE_LR
        groups = [(encoder, rate), (rest, rate * cfg.MODEL.INSPYRENET.DECODER_LR_FACTOR)]
        return [{"params": parameters, "lr": lr} for parameters, lr in groups if parameters]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Return losses in training, saliency maps in inference; see the class."""
        return self.losses(batched_inputs) if self.training else self.inference(batched_inputs)

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Compute the losses of a batch of images of one size."""
        images = self._stack([item["image"] for item in batched_inputs])
        masks = torch.stack([item["saliency"].to(self.device, torch.float32) for item in batched_inputs])
        return pyramid_losses(self.network(images), masks)

    @torch.no_grad()
    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Compute saliency maps; images with the same network size share a pass."""
        passes = [self._passes(item) for item in batched_inputs]
        maps: dict[int, Tensor] = {}
        for blend in (False, True):
            chosen = [index for index, (_, low) in enumerate(passes) if (low is not None) == blend]
            sizes = [(passes[index][0].shape[-2], passes[index][0].shape[-1]) for index in chosen]
            for group in same_size_groups(sizes, self.device):
                rows = [chosen[position] for position in group]
                high, low = zip(*(passes[row] for row in rows), strict=True)
                images, small = self._stack(high), self._stack(low) if blend else None
                maps.update(zip(rows, self.predict(images, small), strict=True))
        results = []
        for index, item in enumerate(batched_inputs):
            height = int(item.get("height", item["image"].shape[-2]))
            width = int(item.get("width", item["image"].shape[-1]))
            saliency = resize(maps[index][None].float(), (height, width), align_corners=True)[0, 0]
            results.append({"saliency": saliency.clamp(0, 1)})
        return results

    def predict(self, images: Tensor, low: Tensor | None = None) -> Tensor:
        """Compute the saliency of network inputs.

        Args:
            images: (B, 3, H, W), normalized.
            low: (B, 3, base_size, base_size), normalized, the same images; if given, blend.

        Returns:
            (B, 1, h, w) in [0, 1], h x w about H x W.
        """
        if low is None:
            return self._probability(self.network(images))
        return self._probability(predict_blended(self.network, self.network(low).saliency[-1], images))

    def infer_flat(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Compute saliency and its pyramid, in a form for export.

        Args:
            images: (B, 3, H, W) float32 in 0..255, without padding; sides are multiples of 32.
            sizes: (B, 2) int64, each (H, W).

        Returns:
            ``saliency`` (B, 1, H, W) in [0, 1] of a single pass; for a blend, the logits ``coarse`` of d3
            (B, 1, H / 8, W / 8) and the Laplacians ``details2``, ``details1`` and ``details0`` (B, 1, H, W).
        """
        pyramid = self.network(self.normalized(images))
        names = [f"details{level}" for level in (2, 1, 0)]
        parts = {"coarse": pyramid.saliency[0], **dict(zip(names, pyramid.laplacian, strict=True))}
        return {"saliency": self._probability(pyramid), **parts}

    def _probability(self, pyramid: SaliencyPyramid) -> Tensor:
        probability = pyramid.saliency[-1].float().sigmoid()
        if not self.normalize:
            return probability
        least = probability.amin((1, 2, 3), keepdim=True)
        most = probability.amax((1, 2, 3), keepdim=True)
        return (probability - least) / (most - least + 1e-8)

    def _passes(self, item: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Return the image of the main pass and, for a blend, that of the low-resolution pass."""
        image = item["image"]
        base = (self.base_size, self.base_size)
        size = base
        if self.dynamic:
            height, width = item.get("height", image.shape[-2]), item.get("width", image.shape[-1])
            size = dynamic_size(int(height), int(width), self.max_short_side)
        if not self.threshold:
            return resize_antialiased(image, size), None
        low = resize_antialiased(image, base)
        return (low, None) if min(size) <= self.threshold else (resize_antialiased(image, size), low)

    def _stack(self, images: Sequence[Tensor]) -> Tensor:
        return torch.stack([self.normalized(image) for image in images])

    def normalized(self, image: Tensor) -> Tensor:
        """Return an image (3, H, W), 0 ... 255, as the network takes it."""
        return (image.to(self.device, torch.float32) - self.pixel_mean) / self.pixel_std


def load_backbone(network: nn.Module, path: str) -> None:
    """Load a file of encoder weights into a network; ignore the parts of the classifier.

    Raises:
        CheckpointError: the file does not hold this encoder.
    """
    backbone = network.get_submodule("backbone")
    try:
        outcome = backbone.load_state_dict(backbone_weights(read_weights(path)), strict=False)
    except RuntimeError as error:  # shapes
        raise CheckpointError(f"not the weights of this encoder: {error}", path) from None
    # The norms of the side outputs are not part of a classifier.
    missing = [name for name in outcome.missing_keys if not name.startswith("norm")]
    if wrong := missing + outcome.unexpected_keys:
        reason = f"{len(wrong)} parameters missing or unknown, such as {wrong[0]}"
        raise CheckpointError(f"not the weights of this encoder: {reason}", path)
