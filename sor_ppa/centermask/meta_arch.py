"""The meta-architecture: detectron2's two-stage model with batch-independent inference."""

from __future__ import annotations

from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor

from ..layers.batching import round_up, same_size_groups, without_padding

__all__ = ["SalientObjectRanker"]


@META_ARCH_REGISTRY.register()
class SalientObjectRanker(GeneralizedRCNN):
    """A detector with a ranking branch; parameter names and training are those of ``GeneralizedRCNN``.

    In inference, only images of the same padded size form a batch: any further padding would change an
    image's features through the convolutions. So the answer for an image does not depend on its batch.
    """

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        """Return the predictions for images of any sizes.

        Args:
            batched_inputs: per image ``image`` (3, H, W), and optionally ``height`` and ``width``
                of the output in pixels.
            detected_instances: per image, boxes to segment and rank instead of detecting.
            do_postprocess: scale to the output size and paste the masks.

        Returns:
            Per image ``{"instances": Instances}``, or ``Instances`` without post-processing.
        """
        step = max(self.backbone.size_divisibility, 1)
        sizes = [
            (round_up(height, step), round_up(width, step))
            for height, width in (item["image"].shape[-2:] for item in batched_inputs)
        ]
        results: list = [None] * len(batched_inputs)
        for rows in same_size_groups(sizes, self.device):
            given = [detected_instances[i] for i in rows] if detected_instances is not None else None
            part = super().inference([batched_inputs[i] for i in rows], given, do_postprocess)
            for i, result in zip(rows, part, strict=True):
                results[i] = result
        return results

    def detect(self, batched_inputs: list[dict]) -> tuple[dict[str, Tensor], list[Instances]]:
        """Return features and detections, before segmentation and ranking.

        Args:
            batched_inputs: images ``image`` (3, H, W) of one padded size.

        Returns:
            Features by name, (B, C, H, W), and per image ``pred_boxes``, ``scores`` and ``pred_classes`` in
            pixels of the network's input: what ``roi_heads.forward_with_given_boxes`` takes.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        return features, self.roi_heads.detect(features, proposals)

    def infer_flat(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the predictions for a batch as flat tensors, in a form for export.

        Args:
            images: (B, 3, H, W) float32 in 0..255, padded at the right and the bottom with anything to
                multiples of ``backbone.size_divisibility``.
            sizes: (B, 2) int64 height and width without padding.

        Returns:
            See :func:`~sor_ppa.ranking.flat.flat_predictions`.
        """
        images = without_padding((images - self.pixel_mean) / self.pixel_std, sizes)
        return self.roi_heads.infer_flat(self.backbone(images), sizes, self.proposal_generator)
