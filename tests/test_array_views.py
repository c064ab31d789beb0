"""Arrays as users have them: every public function takes views, and gives what a copy gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import warpkit
from warpkit import viz
from warpkit.api import Model
from warpkit.checks import InputError, check_image, check_points, usable_array
from warpkit.coherent import Guides
from warpkit.image.foreground import Hints, find_object
from warpkit.image.match import similarity_at
from warpkit.io.rle import encode_rle
from warpkit.propagate import (
    EditConfig,
    EditTracker,
    LabelConfig,
    LabelPropagator,
    PointConfig,
    PointTracker,
    colormap_layer,
    composite,
    warp_edit,
    warp_labels,
)
from warpkit.propagate.cuts import CutFinder
from warpkit.types import DescriptorMap
from warpkit.warp import blend

HEIGHT, WIDTH = 40, 56
rng = np.random.default_rng(3)
SOURCE = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
TARGET = np.roll(SOURCE, 4, axis=1)
LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[8:30, 10:40] = 3
POINTS = np.array([[12.0, 9.0], [30.5, 20.0], [20.0, 25.25]], np.float32)
LAYER = np.dstack([TARGET, (LABELS > 0) * np.uint8(255)])


def mirrored(array: np.ndarray) -> np.ndarray:
    """A view of negative strides along every axis."""
    flip = (slice(None, None, -1),) * array.ndim
    return array[flip].copy()[flip]


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.copy()
    view.setflags(write=False)
    return view


def spread(array: np.ndarray) -> np.ndarray:
    """Every second element of a larger array."""
    wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    view = wide[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def mapped(array: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def swapped(array: np.ndarray) -> np.ndarray:
    """Of the other byte order; bytes and bools have none."""
    return array.astype(array.dtype.newbyteorder())


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "mirrored": mirrored,
    "read_only": read_only,
    "spread": spread,
    "fortran": np.asfortranarray,
    "swapped": swapped,
    "tensor": lambda array: torch.from_numpy(array.copy()),
    "transposed tensor": lambda array: torch.from_numpy(array.T.copy()).permute(
        *reversed(range(array.ndim))
    ),
}
Give = Callable[[np.ndarray], Any]


class Cells:
    """Descriptors are the mean colours of cells of 8 x 8 pixels; takes no view itself."""

    name = "cells"

    def describe(self, images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        planes = [torch.from_numpy(image).permute(2, 0, 1).float() + 1 for image in images]
        cells = [F.avg_pool2d(one, 8) for one in planes]
        return [DescriptorMap.covering(one, height=HEIGHT, width=WIDTH) for one in cells]


def results(frames: Any) -> list[Any]:
    return [
        part
        for f in frames
        for part in (f.labels, f.edited, None if f.points is None else f.points.xy)
    ]


def propagated(model: Model, give: Give, **settings: Any) -> list[Any]:
    return results(
        model.propagate(
            (give(image) for image in (SOURCE, TARGET, SOURCE)),
            labels=give(LABELS),
            annotations={2: give(LABELS)},
            points=give(POINTS),
            settings=warpkit.PropagateSettings(**settings),
        )
    )


def edited(model: Model, give: Give, mode: Any) -> list[Any]:
    layer = warpkit.EditLayer.from_rgba(give(LAYER))
    settings = warpkit.PropagateSettings(edit_mode=mode)
    images = [give(SOURCE), give(TARGET)]
    return results(model.propagate(images, labels=give(LABELS), edit=layer, settings=settings))


def tracked(model: Model, give: Give) -> list[Any]:
    first, second = model.describe([SOURCE, TARGET])
    layer = warpkit.EditLayer(give(warpkit.EditLayer.from_rgba(LAYER).premultiplied))
    tracker = EditTracker(give(SOURCE), give(LABELS), first, layer, config=EditConfig())
    stepped = tracker.step(give(TARGET), give(LABELS), second).premultiplied
    masks = {"first_mask": give(LABELS > 0), "frame_mask": give(LABELS > 0)}
    return [stepped, warp_edit(layer, first, second, mode="backward-warp", **masks).premultiplied]


def label_propagation(model: Model, give: Give) -> list[Any]:
    first, second = model.describe([SOURCE, TARGET])
    propagator = LabelPropagator(LabelConfig(), [3])
    propagator.annotate(first, give(LABELS), give(SOURCE))
    carried = warp_labels(give(LABELS), [3], first, second)
    return [propagator.step(second, give(TARGET)).labels, carried.labels]


def points_followed(model: Model, give: Give) -> list[Any]:
    first, second = model.describe([SOURCE, TARGET])
    tracker = PointTracker(PointConfig(), 3)
    tracker.join(np.arange(3), give(POINTS), first, give(SOURCE))
    now = tracker.step(second, give(TARGET))
    tracker.restore(now, give(SOURCE))
    return [now.xy, tracker.step(first, give(SOURCE)).xy]


def written(give: Give, folder: Path) -> list[Any]:
    warpkit.write_image(folder / "i.png", give(SOURCE))
    warpkit.write_image(folder / "a.png", give(LAYER))
    warpkit.write_labels(folder / "l.png", give(LABELS))
    size = {"height": HEIGHT, "width": WIDTH}
    (folder / "v.mkv").unlink(missing_ok=True)
    with warpkit.VideoWriter(folder / "v.mkv", **size, frame_rate=24, codec="ffv1") as video:
        video.write(give(SOURCE))
        video.write(give(TARGET))
    return [
        warpkit.read_image(folder / "i.png"),
        warpkit.read_rgba(folder / "a.png"),
        warpkit.read_labels(folder / "l.png"),
        *(frame.image for frame in warpkit.open_frames(folder / "v.mkv")),
    ]


def drawn(give: Give) -> list[Any]:
    seen = give(np.array([True, False, True]))
    return [
        viz.overlay_labels(give(SOURCE), give(LABELS)),
        viz.over_checkerboard(give(LAYER)),
        viz.draw_matches(give(SOURCE), give(TARGET), give(POINTS), give(POINTS), seen),
        viz.draw_points(give(SOURCE), give(POINTS), seen),
        viz.source_colors(give(SOURCE), give(LABELS > 0)),
        viz.heat(give(LABELS.astype(np.float32)), give(LABELS > 0)),
        viz.add_scale(give(SOURCE), low=0, high=1),
        viz.mark_point(give(SOURCE), give(POINTS[0])),
        viz.panel([("one", give(SOURCE)), ("two", give(LAYER))], height=80),
    ]


def mixed(give: Give) -> list[Any]:
    finder = CutFinder(threshold=0.35, before=give(SOURCE))
    layer = colormap_layer(give(LABELS > 0))
    changed = np.where(LABELS[..., None] > 0, 255 - SOURCE, SOURCE)
    return [
        *(
            blend(give(SOURCE), give(TARGET), give(LABELS > 0), mode=m)
            for m in ("feather", "poisson")
        ),
        composite(give(SOURCE), layer),
        warpkit.EditLayer.from_edited_frame(give(SOURCE), give(changed)).premultiplied,
        np.array(finder.next(give(TARGET))),
        find_object(give(changed), Hints((6, 4, 44, 34))).mask,
    ]


def matched(model: Model, give: Give) -> list[Any]:
    masks = {"source_mask": give(LABELS > 0), "target_mask": give(LABELS)}
    settings = warpkit.WarpSettings(field="nearest", blend="feather")
    warped = model.warp(give(SOURCE), give(TARGET), **masks, settings=settings)
    found = model.match(give(SOURCE), give(TARGET), give(POINTS), **masks)
    pairs = give(np.stack([POINTS, POINTS], axis=1))
    guides = Guides.of(pairs, source=(HEIGHT, WIDTH), target=(HEIGHT, WIDTH))
    point = similarity_at(give(SOURCE), give(TARGET), give(POINTS[0]), describer=model)
    return [warped.composite, found.target_xy.numpy(), guides.target_xy.numpy(), point.map]


TABLE: dict[str, Callable[[Model, Give, Path], list[Any]]] = {
    "Model.match and Model.warp": lambda model, give, _: matched(model, give),
    "Model.propagate": lambda model, give, _: propagated(model, give),
    "edits tracked": lambda model, give, _: edited(model, give, "track"),
    "edits gathered": lambda model, give, _: edited(model, give, "backward-warp"),
    "EditTracker": lambda model, give, _: tracked(model, give),
    "LabelPropagator": lambda model, give, _: label_propagation(model, give),
    "PointTracker": lambda model, give, _: points_followed(model, give),
    "files": lambda _, give, folder: written(give, folder),
    "viz": lambda _, give, __: drawn(give),
    "layers and blends": lambda _, give, __: mixed(give),
}


@pytest.mark.parametrize("name", TABLE)
def test_views_give_what_copies_give(name: str, tmp_path: Path) -> None:
    model = Model(Cells())
    expected = TABLE[name](model, np.copy, tmp_path)
    kinds = {**KINDS, "mapped": lambda array: mapped(array, tmp_path)}
    for kind, give in kinds.items():
        got = TABLE[name](model, give, tmp_path)
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=kind)


def test_a_model_describes_views(model: Model) -> None:
    expected = model.describe([SOURCE])[0].data
    for kind in ("mirrored", "read_only", "transposed tensor"):
        torch.testing.assert_close(model.describe([KINDS[kind](SOURCE)])[0].data, expected)


def test_run_length_encoding_of_views() -> None:
    for kind in (mirrored, read_only, spread, np.asfortranarray):
        assert encode_rle(kind(LABELS > 0)) == encode_rle(LABELS > 0)


def test_a_usable_array_is_not_copied() -> None:
    assert check_image(SOURCE) is SOURCE
    assert usable_array("text") == "text"
    flipped = check_image(SOURCE[..., ::-1])
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped[..., ::-1], SOURCE)
    big = np.arange(6, dtype=">u2").reshape(2, 3)
    assert usable_array(big).dtype == np.dtype(np.uint16)
    assert usable_array(big).tolist() == big.tolist()


def test_channels_first_is_refused() -> None:
    for image in (torch.zeros(3, 40, 56, dtype=torch.uint8), SOURCE.transpose(2, 0, 1)):
        with pytest.raises(InputError, match=r"got uint8 \(3, 40, 56\)"):
            check_image(image)


def test_numbers_of_half_the_bits_are_numbers() -> None:
    points = torch.tensor([[3.0, 4.5]], dtype=torch.bfloat16)
    np.testing.assert_array_equal(check_points(points, height=9, width=9), [[3.0, 4.5]])
    with pytest.raises(InputError, match="must be a uint8 RGB array"):
        check_image(torch.zeros(4, 4, 3, dtype=torch.bfloat16))
