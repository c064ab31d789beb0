"""COCO keypoints: an annotation for each image of each pair.

Keypoint i of the two annotations with one `pair_id` is the same point; across pairs numbers mean
nothing. Convention: as in COCO, boxes and areas count pixels as squares, so a box reaches from the
first pixel's left edge to the last one's right edge; keypoints keep integer pixel centres.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from warpkit.io.whole import write_json
from warpkit.synthesize.mask_trust import TRUST_FACTS
from warpkit.synthesize.records import Record
from warpkit.synthesize.writers.layout import ROLES, image_path
from warpkit.synthesize.writers.target import Place

__all__ = ["CocoKeypointWriter", "run_lengths"]

_VISIBLE = 2


class CocoKeypointWriter:
    """Writes `coco/keypoints_{train,val,test}.json`; file names are relative to the set's folder.

    Args:
        place: see `Place`.
        points: most points a pair; every keypoint list is this long.
        description: of the set.
    """

    def __init__(self, place: Place, *, points: int, description: str) -> None:
        self._place, self._points, self._description = place, points, description
        self._images: dict[str, dict[str, dict[str, Any]]] = {}
        self._annotations: dict[str, list[dict[str, Any]]] = {}
        self._categories: dict[str, int] = {}
        self._count = 0

    def add(self, record: Record) -> None:
        meta = record.meta
        category = self._categories.setdefault(meta["category"], len(self._categories) + 1)
        images = self._images.setdefault(meta["split"], {})
        annotations = self._annotations.setdefault(meta["split"], [])
        for role in ROLES:
            name, end = image_path(record, role), meta[role]
            image = images.setdefault(
                name,
                {
                    "id": len(images) + 1,
                    "file_name": name,
                    "height": end["height"],
                    "width": end["width"],
                },
            )
            mask = np.asarray(Image.open(io.BytesIO(record.files[f"{role}_mask.png"]))) > 0
            x1, y1, x2, y2 = end["box"]
            keypoints = [v for x, y in meta[f"{role}_points"] for v in (x, y, _VISIBLE)]
            missing = self._points - len(meta[f"{role}_points"])
            self._count += 1
            annotations.append(
                {
                    "id": self._count,
                    "image_id": image["id"],
                    "category_id": category,
                    "keypoints": keypoints + [0, 0, 0] * missing,
                    "num_keypoints": len(meta[f"{role}_points"]),
                    "bbox": [x1 - 0.5, y1 - 0.5, x2 - x1 + 1, y2 - y1 + 1],
                    "area": int(mask.sum()),
                    "segmentation": run_lengths(mask),
                    "iscrowd": 0,
                    "pair_id": int(record.id),
                    "role": role,
                    **{key: end[key] for key in TRUST_FACTS if key in end},
                }
            )

    def close(self) -> None:
        for split, images in self._images.items():
            content = {
                "info": {"description": self._description},
                "licenses": [],
                "images": list(images.values()),
                "annotations": self._annotations[split],
                "categories": [
                    {
                        "id": number,
                        "name": name,
                        "supercategory": "object",
                        "keypoints": [f"point {i}" for i in range(self._points)],
                        "skeleton": [],
                    }
                    for name, number in self._categories.items()
                ],
            }
            write_json(self._place(f"coco/keypoints_{split}.json"), content)


def run_lengths(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """COCO's uncompressed run-length code of a mask bool (H, W): runs down the columns, the first
    one of zeros.
    """
    flat = mask.astype(np.int8).flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [len(flat)]])).tolist()
    counts = runs if len(flat) and flat[0] == 0 else [0, *runs]
    return {"size": list(mask.shape), "counts": counts}
