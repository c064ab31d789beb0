"""The line that says how good a warp is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from warpkit.coherent import FieldQuality
from warpkit.image.warp import WarpResult
from warpkit.image.warp_words import warp_words
from warpkit.types import Warp


def quality(**changes: Any) -> FieldQuality:
    plain = {
        "cosine": 0.8125,
        "inside": 1.0,
        "consistent": 0.876,
        "inverse_error": 1.0,
        "folds": 0.0,
        "sd_log_j": 0.1,
        "mirrored": False,
        "score_as_is": 0.8,
        "score_mirrored": 0.7,
    }
    return FieldQuality(**(plain | changes))


def warped(found: FieldQuality | None) -> WarpResult:
    rgba = np.zeros((3, 5, 4), np.uint8)
    rgba[0, :, 3] = 255
    field = Warp(
        torch.zeros(3, 5, 2), torch.full((3, 5), 0.5), torch.from_numpy(rgba[..., 3] > 0), 3, 5
    )
    return WarpResult(rgba, rgba[..., :3], field, found)


SAID = "5 pixels warped: 88 % return to their place when warped back, mean cosine 0.81"


@pytest.mark.parametrize(
    ("found", "guides", "words"),
    [
        (quality(), 0, SAID),
        (quality(folds=0.04), 0, SAID),
        (quality(folds=0.25), 0, f"{SAID}, 0.2 % folded"),
        (
            quality(mirrored=True, guide_error=0.5),
            1,
            "5 pixels warped, source mirrored: 88 % return to their place when warped back, mean"
            " cosine 0.81, the guide is met",
        ),
        (quality(guide_error=0.5), 2, f"{SAID}, both guides are met"),
        (quality(guide_error=0.5), 3, f"{SAID}, all 3 guides are met"),
        (
            quality(unmet=(1,), guide_error=9.0),
            2,
            f"{SAID}, guide 2 is not met: it contradicts others",
        ),
        (
            quality(unmet=(0, 2, 3), guide_error=9.0),
            4,
            f"{SAID}, guides 1, 3 and 4 are not met: they contradict others",
        ),
        (None, 0, "5 pixels warped, mean cosine 0.50"),
    ],
)
def test_quality_in_words(found: FieldQuality | None, guides: int, words: str) -> None:
    assert warp_words(warped(found), guides=guides) == words


def test_one_pixel_is_no_pixels() -> None:
    found = warped(None)
    found.warped[0, 1:, 3] = 0
    assert warp_words(found).startswith("1 pixel warped, ")


@pytest.mark.parametrize(
    ("share", "masked", "said"),
    [
        (0.49, False, "only 49 % of the pixels return to their place when warped back"),
        (0.79, True, "only 79 % of the pixels return to their place when warped back"),
        (0.51, False, None),
    ],
)
def test_a_warp_that_does_not_lead_back_is_doubted(
    share: float, masked: bool, said: str | None
) -> None:
    doubt = quality(consistent=share).doubt(masked=masked, guided=False)
    assert doubt == said or (
        said is not None
        and doubt is not None
        and doubt.startswith(f"this warp is likely bad: {said};")
    )
