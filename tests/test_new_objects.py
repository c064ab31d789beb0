"""Masks of later frames that bring a new object and leave out an old one: said at the start."""

from __future__ import annotations

import numpy as np
import pytest

from warpkit.video.inputs import ClipInputs

FIRST = np.zeros((12, 16, 3), np.uint8)


def mask(*ids: int) -> np.ndarray:
    labels = np.zeros((12, 16), np.uint8)
    for number, one in enumerate(ids):
        labels[2 + 3 * number : 4 + 3 * number, 3:9] = one
    return labels


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({0: mask(1), 4: mask(2)}, ["frame 4 brings object 2 and lacks object 1,"]),
        ({0: mask(1, 2), 3: mask(7, 9)}, ["frame 3 brings object 7, 9 and lacks object 1, 2,"]),
        (
            {2: mask(5), 6: mask(5, 1), 9: mask(3)},
            ["frame 9 brings object 3 and lacks object 1, 5"],
        ),
        ({0: mask(1), 4: mask(1, 2)}, []),  # both are there
        ({0: mask(1, 2), 4: mask(2)}, []),  # a correction: one has left the picture
        ({0: mask(1), 4: mask()}, []),
        ({0: mask(1)}, []),
    ],
)
def test_a_mask_that_brings_an_object_and_leaves_one_out(caplog, masks, said):
    ClipInputs.checked(FIRST, labels=None, annotations=masks, edit=None, points=None, mode="label")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(said)
    for line, expected in zip(lines, said, strict=True):
        assert expected in line
        assert line.endswith("counts as absent from that frame: draw it in as well if it is there")
