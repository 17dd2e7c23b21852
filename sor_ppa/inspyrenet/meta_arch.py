"""InSPyReNet as a detectron2 meta-architecture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from .blending import predict_blended
from .layers import resize
from .losses import pyramid_losses
from .network import InSPyReNetNetwork, build_encoder
from .preprocess import dynamic_size, resize_image
from .solver import build_inspyrenet_optimizer

__all__ = ["InSPyReNet"]


@META_ARCH_REGISTRY.register()
class InSPyReNet(nn.Module):
    """Salient object detection at any resolution.

    Inputs are detectron2's list of dicts. Training: ``image`` (3, H, W), 0 ... 255 in ``INPUT.FORMAT``
    order, and ``saliency`` (1, H, W) in [0, 1], all of one size. Inference: ``image`` at any size, and
    optionally ``height`` and ``width`` of the answer. An image is resized by the configured rule; where
    the mapper has done that already it also gives ``image_lr``, the image at ``BASE_SIZE`` squared.
    Answers are ``{"saliency": (height, width) float32 in [0, 1]}``, and no answer depends on its
    neighbours in the batch.
    """

    checkpoint_system = "inspyrenet"
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
            pixel_mean: of each channel, 0 ... 255.
            pixel_std: of each channel.
            base_size: side in pixels of static and low-resolution inputs.
            dynamic: resize by :func:`dynamic_size`; False: to ``base_size`` squared.
            max_short_side: limit of the dynamic rule in pixels.
            threshold: blend where both sides exceed it, in pixels; 0: a single pass always.
            normalize: stretch each map to [0, 1].
        """
        super().__init__()
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
        """Arguments from ``MODEL.INSPYRENET`` and ``MODEL.PIXEL_*``.

        Raises:
            ValueError: a choice that does not exist.
        """
        node = cfg.MODEL.INSPYRENET
        for key, choices in (("RESIZE", ("static", "dynamic")), ("NORM", ("BN", "SyncBN"))):
            if node[key] not in choices:
                expected = " or ".join(map(repr, choices))
                raise ValueError(f"MODEL.INSPYRENET.{key}: expected {expected}, found {node[key]!r}")
        if node.BASE_SIZE <= 0 or node.BASE_SIZE % 32:
            raise ValueError(f"MODEL.INSPYRENET.BASE_SIZE: expected a multiple of 32, found {node.BASE_SIZE}")
        encoder = build_encoder(node.BACKBONE)
        network = InSPyReNetNetwork(
            encoder,
            depth=node.DEPTH,
            base_size=(node.BASE_SIZE, node.BASE_SIZE),
            tile=None if node.TILE < 0 else node.TILE,
        )
        if node.BACKBONE_WEIGHTS:
            load_backbone(network, node.BACKBONE_WEIGHTS)
        if node.NORM == "SyncBN":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return {
            "network": network,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "base_size": node.BASE_SIZE,
            "dynamic": node.RESIZE == "dynamic",
            "max_short_side": node.MAX_SHORT_SIDE,
            "threshold": node.THRESHOLD,
            "normalize": node.NORMALIZE,
        }

    @staticmethod
    def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """The published optimiser, for the trainer."""
        return build_inspyrenet_optimizer(cfg, model)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.pixel_mean.device

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (height, width) at which an image of this size enters the network."""
        if not self.dynamic:
            return self.base_size, self.base_size
        return dynamic_size(height, width, self.max_short_side)

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Losses in training, saliency maps in inference; see the class."""
        if self.training:
            return self.losses(batched_inputs)
        return self.inference(batched_inputs)

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Losses of a batch of images of one size.

        Raises:
            ValueError: images without a mask.
        """
        for item in batched_inputs:
            if "saliency" not in item:
                name = item.get("file_name", "image")
                raise ValueError(f"{name}: field saliency: found none, expected a mask (1, H, W) in training")
        images = torch.stack([self._normalised(item["image"]) for item in batched_inputs])
        masks = torch.stack([item["saliency"].to(self.device, torch.float32) for item in batched_inputs])
        return pyramid_losses(self.network(images), masks)

    @torch.no_grad()
    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Saliency maps; images that enter the network at one size share a pass."""
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        passes = [self._passes(item) for item in batched_inputs]
        for index, (high, low) in enumerate(passes):
            groups[tuple(high.shape), low is None].append(index)
        maps: dict[int, Tensor] = {}
        for rows in groups.values():
            high = torch.stack([self._normalised(passes[row][0]) for row in rows])
            lows = [low for row in rows if (low := passes[row][1]) is not None]
            low = torch.stack([self._normalised(image) for image in lows]) if lows else None
            maps.update(zip(rows, self.predict(high, low), strict=True))
        results = []
        for index, item in enumerate(batched_inputs):
            height = int(item.get("height", item["image"].shape[-2]))
            width = int(item.get("width", item["image"].shape[-1]))
            saliency = resize(maps[index][None].float(), (height, width), align_corners=True)[0, 0]
            results.append({"saliency": saliency.clamp(0, 1)})
        return results

    def predict(self, images: Tensor, low: Tensor | None = None) -> Tensor:
        """Saliency of network inputs.

        Args:
            images: (B, 3, H, W), normalised.
            low: (B, 3, base_size, base_size), normalised, the same images; given: blend.

        Returns:
            (B, 1, h, w) in [0, 1], h x w about H x W.
        """
        if low is None:
            logits = self.network(images).saliency[-1]
        else:
            logits = predict_blended(self.network, self.network(low).saliency[-1], images).saliency[-1]
        probability = logits.float().sigmoid()
        if not self.normalize:
            return probability
        least = probability.amin((1, 2, 3), keepdim=True)
        most = probability.amax((1, 2, 3), keepdim=True)
        return (probability - least) / (most - least + 1e-8)

    def _passes(self, item: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The image of the main pass and, where a blend is due, that of the low-resolution pass."""
        image = item["image"]
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"{item.get('file_name', 'image')}: expected shape (3, H, W), found {tuple(image.shape)}"
            )
        size = self.network_size(
            int(item.get("height", image.shape[-2])), int(item.get("width", image.shape[-1]))
        )
        base = (self.base_size, self.base_size)
        low = item.get("image_lr")
        if not self.threshold:
            return resize_image(image, size), None
        if low is None:
            low = resize_image(image, base)
        if min(size) <= self.threshold:
            return low, None
        return resize_image(image, size), low

    def _normalised(self, image: Tensor) -> Tensor:
        return (image.to(self.device, torch.float32) - self.pixel_mean) / self.pixel_std


def load_backbone(network: InSPyReNetNetwork, path: str) -> None:
    """Load a file of encoder weights into a network; parts that only a classifier has are left out.

    Raises:
        CheckpointError: the file does not hold this encoder.
    """
    from ..checkpoint import CheckpointError, read_weights
    from ..checkpoint.inspyrenet import backbone_weights

    weights = backbone_weights(read_weights(path))
    try:
        outcome = network.backbone.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes
        raise CheckpointError(f"not the weights of this encoder: {error}", path) from None
    # Norms of the side outputs are new in this encoder.
    missing = [name for name in outcome.missing_keys if not name.startswith("norm")]
    if missing or outcome.unexpected_keys:
        raise CheckpointError(
            f"not the weights of this encoder: {len(missing)} parameters missing, "
            f"{len(outcome.unexpected_keys)} unknown (first: {(missing + outcome.unexpected_keys)[0]})",
            path,
        )
