"""The ranked objects of an image, as :class:`sor_ppa.SORPredictor` returns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from detectron2.structures import Instances
from numpy.typing import NDArray

from .data.masks import encode_mask, mask_to_polygons
from .visualization import RankStyle, draw_ranked
from .visualization.detections import draw_detections
from .visualization.rank_maps import paint

__all__ = ["RankedImage", "RankedObject"]


@dataclass(frozen=True, eq=False, repr=False)
class RankedObject:
    """One object of an image.

    Attributes:
        rank: 1 = most salient, without gaps; None if the model gave no rank.
        rank_score: orders all objects of the image, ranked or not; higher = more salient.
        score: confidence of the detection, in [0, 1].
        box: left, top, right, bottom in pixels of the image.
        mask: (H, W) bool, at the size of the image.
        class_id: number of the class, from 0.
        class_name: name of the class; its number as text if the model has no names.
        rank_probabilities: of the places 1, 2, ... among all detections of the model; what is missing to 1
            belongs to later places. Here and below None if the model has no ranking branch.
        expected_rank: mean of the place, from 1.
        first_probability: of being the most salient object.
    """

    rank: int | None
    rank_score: float
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]
    class_id: int = 0
    class_name: str = "0"
    rank_probabilities: tuple[float, ...] | None = None
    expected_rank: float | None = None
    first_probability: float | None = None

    def __repr__(self) -> str:
        box = ", ".join(f"{side:.0f}" for side in self.box)
        return f"RankedObject(rank={self.rank}, {self.class_name}, score={self.score:.2f}, box=({box}))"

    def to_json(self, masks: Literal["rle", "polygons"] = "rle") -> dict[str, Any]:
        """Return what ``json.dump`` takes.

        Args:
            masks: "rle" (COCO's compressed run lengths) or "polygons" (COCO's, along the edges of pixels).
        """
        places: dict[str, Any] = {}
        if self.rank_probabilities is not None:
            places["rank_probabilities"] = [_finite(v, 4) for v in self.rank_probabilities]
            places["expected_rank"] = _finite(self.expected_rank, 4)
            places["first_probability"] = _finite(self.first_probability, 4)
        return {
            "rank": self.rank,
            "rank_score": _finite(self.rank_score),
            "score": _finite(self.score),
            **places,
            "class": self.class_name,
            "box": [round(v, 2) for v in self.box],
            "area": int(np.count_nonzero(self.mask)),
            "segmentation": encode_mask(self.mask) if masks == "rle" else mask_to_polygons(self.mask),
        }


@dataclass(frozen=True, eq=False, repr=False)
class RankedImage:
    """The ranked objects of one image.

    Attributes:
        file: path of the image; None if it was no file.
        height, width: of the image in pixels.
        objects: ranked ones first, from rank 1 on, then the others by ``rank_score``.
        instances: detectron2's ``Instances`` of the same objects in the same order, on the CPU.
        image_bgr: (H, W, 3) uint8, the image itself.
        ranking: whether the model ranks; a plain detector does not.
    """

    file: str | None
    height: int
    width: int
    objects: tuple[RankedObject, ...]
    instances: Instances
    image_bgr: NDArray[np.uint8] = field(repr=False)
    ranking: bool = True

    def __repr__(self) -> str:
        ranked = sum(o.rank is not None for o in self.objects)
        size = f"{self.height} x {self.width}"
        return f"RankedImage({self.file or 'array'}, {size}, {len(self.objects)} objects, {ranked} ranked)"

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, in the order of ``objects``."""
        return self.instances.pred_masks.numpy()

    @property
    def ranks(self) -> NDArray[np.int64]:
        """(N,) ranks in the order of ``objects``: 1 = most salient, 0 = not ranked."""
        return np.array([o.rank or 0 for o in self.objects], np.int64)

    def confident(self, score: float) -> RankedImage:
        """Return the result without objects of a lower confidence; ranks have no gaps."""
        kept = [i for i, o in enumerate(self.objects) if o.score >= score]
        ranked = int((self.ranks[kept] > 0).sum())
        objects = [
            replace(self.objects[i], rank=place + 1 if place < ranked else None)
            for place, i in enumerate(kept)
        ]
        return replace(self, objects=tuple(objects), instances=self.instances[kept])

    def saliency_map(self, painter: str = "assr") -> NDArray[np.uint8]:
        """Paint the ranked objects into a gray map (H, W) uint8, 0 = background.

        Args:
            painter: a rule of ``visualization.rank_maps.PAINTERS``. "assr" paints the five most salient
                objects with 255, 229, 204, 178 and 153.
        """
        ranks = self.ranks
        ranked = ranks > 0
        return paint(self.masks[ranked], -ranks[ranked].astype(np.float64), painter=painter)

    def draw(
        self,
        image_bgr: NDArray[np.uint8] | None = None,
        *,
        scores: bool = False,
        style: RankStyle | None = None,
    ) -> NDArray[np.uint8]:
        """Draw masks, outlines and rank badges on the image; return (H, W, 3) uint8 RGB.

        Objects of a plain detector get boxes, class names and confidences instead of badges. ``style`` says
        which objects are left out.

        Args:
            image_bgr: (H, W, 3) uint8 to draw on instead of the image itself.
            scores: write the confidences below the badges.
            style: how to draw.
        """
        image = (self.image_bgr if image_bgr is None else image_bgr)[:, :, ::-1]
        style = style or RankStyle()
        found = np.array([o.score for o in self.objects], np.float64)
        kept = np.flatnonzero(found >= style.confident * found.max(initial=0))[: style.most]
        masks, notes = self.masks[kept], found[kept]
        if self.ranking:
            return draw_ranked(image, masks, self.ranks[kept], scores=notes if scores else None, style=style)
        objects = [self.objects[i] for i in kept]
        boxes = np.array([o.box for o in objects]).reshape(-1, 4)
        labels = [f"{o.class_name} {o.score:.2f}" for o in objects]
        boxes_alone = all(np.count_nonzero(m) == _pixels(o.box) for m, o in zip(masks, objects, strict=True))
        classes = [o.class_id for o in objects]
        return draw_detections(image, boxes, None if boxes_alone else masks, classes, labels)

    def to_json(self, masks: Literal["rle", "polygons"] = "rle") -> dict[str, Any]:
        """Return what ``json.dump`` takes, rank 1 first; ``masks`` as for :meth:`RankedObject.to_json`."""
        objects = [o.to_json(masks) for o in self.objects]
        return {"file": self.file, "height": self.height, "width": self.width, "objects": objects}

    def to_coco(self, image_id: int, category_id: int | Sequence[int] = 1) -> list[dict[str, Any]]:
        """Return COCO annotations of the ranked objects.

        ``rank`` is 1 for the most salient object, so the file that they go into needs
        ``"info": {"rank_order": "lower is more salient"}`` to be read as a dataset of this package.

        Args:
            image_id: of the image.
            category_id: of all objects, or of each class in the order of its number.

        Returns:
            One dict per ranked object, without ``id``, which must be unique in the file.
        """
        annotations = []
        for found in self.objects[: np.count_nonzero(self.ranks)]:  # ranked ones come first
            left, top, right, bottom = found.box
            written = found.to_json()
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": category_id
                    if isinstance(category_id, int)
                    else category_id[found.class_id],
                    "bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
                    "iscrowd": 0,
                    **{key: written[key] for key in ("segmentation", "area", "score", "rank")},
                }
            )
        return annotations

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with ``rank`` (0 = none), ``rank_score``, ``class_name`` as data.

        Raises:
            ImportError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            expected = "expected the package supervision, found none (pip install supervision)"
            raise ImportError(f"RankedImage.to_supervision: {expected}") from None
        return supervision.Detections(
            xyxy=self.instances.pred_boxes.tensor.numpy(),
            mask=self.masks,
            confidence=self.instances.scores.numpy(),
            class_id=np.array([o.class_id for o in self.objects], np.int64),
            data={
                "rank": self.ranks,
                "rank_score": np.array([o.rank_score for o in self.objects], np.float32),
                "class_name": np.array([o.class_name for o in self.objects], dtype=np.str_),
            },
        )


def _pixels(box: Sequence[float]) -> int:
    """Return the number of pixels whose center lies in a box."""
    left, top, right, bottom = (int(np.ceil(side - 0.5)) for side in box)
    return (right - left) * (bottom - top)


def _finite(value: float | None, digits: int = 6) -> float | None:
    """JSON has no NaN and no infinity."""
    return round(value, digits) if value is not None and np.isfinite(value) else None
