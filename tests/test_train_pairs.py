"""Labels of training pairs are exact: what one view shows at a label, the other shows at its."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from warpkit.checks import InputError
from warpkit.coords import pixel_grid, sample_bilinear
from warpkit.train import pairs as module
from warpkit.train import views
from warpkit.train.images import ImageStore
from warpkit.train.pairs import ContourPairs, KeypointPairs, PairBatch, WarpPairs, join
from warpkit.warp.known import KnownWarpConfig

PARTS = ["beak", "left eye", "right eye"]


@pytest.fixture
def plain_colours(monkeypatch):
    """Views without photometric jitter, so that colours can be compared."""
    for part in (module, views):
        monkeypatch.setattr(part, "photometric_jitter", lambda images, **_: images)


def store_of(images: list[Tensor], labels: list[int], contours=None) -> ImageStore:
    """A store of float images (3, h, w) in [0, 255], each of its own size."""
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    for i, image in enumerate(images):
        pixels[i, :, : image.shape[1], : image.shape[2]] = image.round().to(torch.uint8)
    return ImageStore(
        pixels,
        torch.tensor([list(image.shape[1:]) for image in images]),
        torch.tensor(labels),
        ("cup", "jug"),
        tuple(contours or [None] * len(images)),
    )


def ramp(height: int, width: int, scale: float = 2.0) -> Tensor:
    """Red is x, green is y, times `scale`."""
    grid = pixel_grid(height=height, width=width).permute(2, 0, 1) * scale
    return torch.cat([grid, torch.zeros(1, height, width)])


def colours(images: Tensor, xy: Tensor) -> Tensor:
    """Colours in 0..255 at points: (B, P, 3)."""
    return torch.stack(
        [sample_bilinear(image * 255, points) for image, points in zip(images, xy, strict=True)]
    )


def test_known_warps_are_labelled_exactly(plain_colours):
    store = store_of([ramp(90, 120), ramp(120, 80)], [0, 1])
    source = WarpPairs(store, KnownWarpConfig(flip=0.5), points=64)
    batch = source.draw(12, size=48, generator=torch.Generator().manual_seed(0))
    assert batch.source.shape == batch.target.shape == (12, 3, 48, 48)
    assert batch.source_xy.shape == (12, 64, 2)
    here, there = colours(batch.source, batch.source_xy), colours(batch.target, batch.target_xy)
    # Within half a pixel of the views' border the source is clamped to its last centre.
    inner = batch.valid & ((batch.source_xy >= 0) & (batch.source_xy <= 47)).all(-1)
    assert int(inner.sum()) > 200
    # Two levels a pixel: a quarter of a level is an eighth of a stored pixel.
    assert float((here - there).abs()[inner].max()) < 0.25
    assert bool((batch.target_xy == batch.target_xy.round()).all())


def test_a_dot_lands_at_its_label_in_both_views(plain_colours):
    image = torch.zeros(3, 80, 80)
    grid = pixel_grid(height=80, width=80)
    dot = torch.tensor([37.0, 44.0])
    image[0] = 255 * torch.exp(-((grid - dot) ** 2).sum(-1) / 18)
    source = WarpPairs(store_of([image], [0]), KnownWarpConfig(flip=0.5), points=20000)
    batch = source.draw(6, size=64, generator=torch.Generator().manual_seed(1))
    for row in range(6):
        # The label nearest to the target's dot leads to the source's dot.
        target, found = centroid(batch.target[row, 0]), centroid(batch.source[row, 0])
        away = (batch.target_xy[row] - target).norm(dim=1).masked_fill(~batch.valid[row], 1e9)
        nearest = int(away.argmin())
        assert float(away[nearest]) < 0.75
        assert float((batch.source_xy[row, nearest] - found).norm()) < 2


def centroid(values: Tensor) -> Tensor:
    """Centre of the bright spot in an image (H, W)."""
    weight = values.clamp(min=0.2 * float(values.max())) - 0.2 * values.max()
    grid = pixel_grid(height=values.shape[0], width=values.shape[1])
    return (grid * weight[..., None]).sum((0, 1)) / weight.sum()


def test_draws_depend_on_the_generator_alone():
    store = store_of([ramp(40, 50), ramp(50, 40)], [0, 1])
    source = WarpPairs(store, KnownWarpConfig(), points=8)

    def draw(seed: int) -> PairBatch:
        return source.draw(3, size=16, generator=torch.Generator().manual_seed(seed))

    first = draw(0)
    torch.manual_seed(5)
    again = draw(0)
    for name in ("source", "target", "source_xy", "target_xy", "valid"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.target, draw(1).target)


# Keypoints


def write_birds(root: Path, sizes: list[tuple[int, int]], species: list[int]) -> None:
    """Pictures with a red, a green and a blue dot at beak, left eye and right eye."""
    items = []
    for i, ((height, width), kind) in enumerate(zip(sizes, species, strict=True)):
        points = torch.tensor([[0.5, 0.7], [0.35, 0.35], [0.65, 0.35]])
        points = points * torch.tensor([width, height]) + i
        grid = pixel_grid(height=height, width=width)
        image = torch.stack(
            [
                torch.exp(-((grid - point) ** 2).sum(-1) / (0.001 * height * width))
                for point in points
            ],
            dim=-1,
        )
        Image.fromarray((image * 255).round().numpy().astype(np.uint8)).save(root / f"{i}.png")
        items.append(
            {
                "file": f"{i}.png",
                "species": kind,
                "w": width,
                "h": height,
                "box": [0.25 * width, 0.25 * height, 0.75 * width, 0.8 * height],
                "kps": points.tolist(),
                "vis": [1, 1, i != 1],
            }
        )
    (root / "birds.json").write_text(json.dumps({"parts": PARTS, "items": items}), "utf-8")


def test_keypoints_are_labelled_exactly_and_mirrored_views_swap_sides(plain_colours, tmp_path):
    write_birds(tmp_path, [(100, 140), (120, 90), (90, 90), (90, 130)], [0, 0, 1, 1])
    source = KeypointPairs(tmp_path, groups=[0, 1], device="cpu", side=96)
    batch = source.draw(24, size=80, generator=torch.Generator().manual_seed(0))
    assert batch.valid.shape == (24, 3)
    swapped = 0
    for images, xy in ((batch.source, batch.source_xy), (batch.target, batch.target_xy)):
        for image, points, valid in zip(images, xy, batch.valid, strict=True):
            shown = sample_bilinear(image, points).argmax(1)
            for part in range(3):
                if not valid[part]:
                    continue
                spot = image[shown[part]]
                # No other dot is near: the spot of that colour is centred on the label.
                assert float((centroid(spot) - points[part]).norm()) < 1.0
            if valid.all():
                assert shown[0] == 0
                assert sorted(shown.tolist()) == [0, 1, 2]
                swapped += int(shown[1] == 2)
                # Whatever is called left is left: relabelling undoes the mirror.
                (left, right) = points[1] - points[0], points[2] - points[0]
                assert float(left[0] * right[1] - left[1] * right[0]) > 0
    assert swapped > 5


def test_an_invisible_keypoint_is_no_label(plain_colours, tmp_path):
    write_birds(tmp_path, [(100, 140), (120, 90)], [3, 3])
    source = KeypointPairs(tmp_path, groups=[3], device="cpu", side=96)
    batch = source.draw(8, size=64, generator=torch.Generator().manual_seed(0))
    # Picture 1 hides one eye, and every pair shows both pictures.
    assert int(batch.valid.sum(1).max()) <= 2
    assert bool(batch.valid.any())


def test_pictures_alone_in_their_group_are_left_out(tmp_path):
    write_birds(tmp_path, [(90, 90)] * 4, [0, 0, 1, 2])
    source = KeypointPairs(tmp_path, groups=[0, 1], device="cpu", side=32)
    assert source.group.tolist() == [0, 0]
    source.draw(20, size=16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"has no two images of one species of \[1, 2\]"):
        KeypointPairs(tmp_path, groups=[1, 2], device="cpu")


def test_a_keypoint_folder_needs_one_index(tmp_path):
    with pytest.raises(InputError, match="must hold one JSON index, found 0"):
        KeypointPairs(tmp_path, groups=[0], device="cpu")


def test_mirrored_parts():
    parts = ["beak", "left eye", "tail", "right eye", "right_leg", "left_leg"]
    assert module._mirrored_parts(parts, Path("x.json")) == [0, 3, 2, 1, 5, 4]
    # Only whole words name a side.
    parts = ["Right cleft", "Left cleft", "bright spot"]
    assert module._mirrored_parts(parts, Path("x.json")) == [1, 0, 2]
    with pytest.raises(InputError, match=r"x.json: part 'left eye' has no mirrored partner 'right"):
        module._mirrored_parts(["left eye"], Path("x.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop("parts"), "must hold a JSON object with the lists items and parts"),
        (lambda i: i["parts"].pop(), "part 'left eye' has no mirrored partner 'right eye'"),
        (lambda i: i["items"][1].pop("species"), "every item needs a 'species'"),
        (lambda i: i["items"][1].pop("file"), "an item of 'items' has no 'file'"),
        (lambda i: i["items"][1].pop("box"), "the item of 1.png has no 'box'"),
        (lambda i: i["items"][1].update(w="wide"), "'w' of 1.png must be numbers"),
        (lambda i: i["items"][1].update(h=0), "'w' and 'h' of 1.png must be positive, got 90 and"),
        (lambda i: i["items"][1].update(vis=[1, 1]), r"'vis' of 1.png must be finite .* \(3,\)"),
        (lambda i: i["items"][1].update(kps=[[1], [2, 3], [4, 5]]), "'kps' of 1.png must be num"),
        (lambda i: i["items"][1].update(file="9.png"), "9.png: no such file"),
        (lambda i: i["items"][1].update(file="birds.json"), "birds.json: not an image that can be"),
    ],
)
def test_a_broken_keypoint_index_is_refused(tmp_path, change, message):
    write_birds(tmp_path, [(60, 70), (80, 90)], [0, 0])
    path = tmp_path / "birds.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    change(index)
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        KeypointPairs(tmp_path, groups=[0], device="cpu", side=32)


def test_a_keypoint_index_must_be_json(tmp_path):
    (tmp_path / "birds.json").write_text("parts:", encoding="utf-8")
    with pytest.raises(InputError, match=r"birds.json is not valid JSON: Expecting value"):
        KeypointPairs(tmp_path, groups=[0], device="cpu")


# Contours


def boxed(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[Tensor, np.ndarray]:
    """Red and green are the position inside the box; the contour is the box without a corner."""
    x1, y1, x2, y2 = box
    grid = pixel_grid(height=height, width=width)
    low, high = torch.tensor([x1, y1]), torch.tensor([x2, y2])
    unit = ((grid - low) / (high - low)).clamp(0, 1) * 250
    image = torch.cat([unit.permute(2, 0, 1), torch.zeros(1, height, width)])
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    contour = [(x1, y1), (x2, y1), (x2, middle[1]), middle, (middle[0], y2), (x1, y2)]
    return image, np.array(contour, np.float32)


def test_contour_pairs_are_labelled_by_position_in_the_box(plain_colours):
    made = [
        boxed(80, 100, (20, 15, 80, 65)),
        boxed(100, 70, (10, 30, 60, 90)),
        boxed(90, 90, (30, 20, 70, 70)),
    ]
    images, contours = zip(*made, strict=True)
    store = store_of(list(images), [0, 0, 0], contours)
    source = ContourPairs(store, ["cup"], points=100)
    batch = source.draw(10, size=64, generator=torch.Generator().manual_seed(0))
    here, there = colours(batch.source, batch.source_xy), colours(batch.target, batch.target_xy)
    inner = batch.valid.clone()
    for xy in (batch.source_xy, batch.target_xy):
        inner &= ((xy >= 1) & (xy <= 62)).all(-1)
    # Away from the box's border, where the colour stops rising.
    inner &= ((here[..., :2] > 15) & (here[..., :2] < 235)).all(-1)
    assert int(inner.sum()) > 200
    # A pixel is 4 to 6 levels.
    assert float((here - there).abs()[inner].max()) < 2.5
    # The lower right quarter lies outside the contour.
    assert not bool((here[batch.valid][:, :2] > 135).all(-1).any())
    assert 300 < int(batch.valid.sum()) < 900


def test_contour_pairs_are_mirrored_together(plain_colours):
    made = [boxed(80, 80, (0, 0, 79, 79)), boxed(80, 80, (0, 0, 79, 79))]
    images, contours = zip(*made, strict=True)
    source = ContourPairs(store_of(list(images), [0, 0], contours), ["cup"])
    batch = source.draw(24, size=32, generator=torch.Generator().manual_seed(0))
    # Red rises to the right, unless the view is mirrored.
    mirrored = [view[:, 0].diff(dim=2).mean((1, 2)) < 0 for view in (batch.source, batch.target)]
    assert torch.equal(*mirrored)
    assert 6 < int(mirrored[0].sum()) < 18


def test_contour_pairs_stay_within_a_class_and_need_two(plain_colours):
    image, contour = boxed(60, 60, (10, 10, 50, 50))
    blue = image.clone()
    blue[2] = 250
    store = store_of([image, image, blue, blue, image], [0, 0, 1, 1, 0], [contour] * 4 + [None])
    source = ContourPairs(store, ["cup", "jug"])
    assert source.index.tolist() == [0, 1, 2, 3]
    batch = source.draw(20, size=32, generator=torch.Generator().manual_seed(0))
    kinds = [batch.source[:, 2].mean((1, 2)) > 0.5, batch.target[:, 2].mean((1, 2)) > 0.5]
    assert torch.equal(*kinds)
    assert 0 < int(kinds[0].sum()) < 20

    lonely = store_of([image, image, blue], [0, 0, 1], [contour] * 3)
    assert ContourPairs(lonely, ["cup", "jug"]).index.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"no two contours of one class among \['jug'\]"):
        ContourPairs(lonely, ["jug"])
    with pytest.raises(InputError, match="no class 'jugs' in the images Did you mean 'jug'"):
        ContourPairs(lonely, ["jugs"])


def test_batches_join_with_padding():
    def batch(count: int, points: int, value: float) -> PairBatch:
        image = torch.full((count, 3, 2, 2), value)
        xy = torch.full((count, points, 2), value)
        return PairBatch(image, image, xy, xy, torch.ones(count, points, dtype=torch.bool))

    joined = join([batch(1, 3, 1.0), batch(2, 1, 2.0)])
    assert joined.source.shape == (3, 3, 2, 2)
    assert joined.source_xy.shape == (3, 3, 2)
    assert joined.valid.tolist() == [[True] * 3, [True, False, False], [True, False, False]]
    assert joined.target_xy[1, 0].tolist() == [2, 2]


# Backgrounds


def test_objects_before_other_images_are_labelled_on_the_object_alone(plain_colours):
    made = [boxed(80, 100, (20, 15, 80, 65)), boxed(100, 90, (20, 30, 70, 90))]
    images, contours = zip(*made, strict=True)
    # What is behind is blue, and has no contour of its own.
    blue = torch.zeros(3, 80, 80)
    blue[2] = 250
    store = store_of([*images, *[blue] * 8], [0] * 10, [*contours, *[None] * 8])

    def draw(background: float) -> PairBatch:
        source = WarpPairs(store, KnownWarpConfig(), points=400, background=background)
        return source.draw(40, size=48, generator=torch.Generator().manual_seed(0))

    plain, batch = draw(0.0), draw(1.0)
    assert torch.equal(batch.source, plain.source)
    objects = plain.source[:, 2].mean((1, 2)) < 0.5
    assert 2 < int(objects.sum()) < 20
    # Without a contour nothing is replaced: labels lie everywhere, as before.
    share = float(batch.valid[~objects].float().mean())
    assert share == pytest.approx(float(plain.valid[~objects].float().mean()), abs=0.03)
    assert torch.equal(batch.target[~objects], plain.target[~objects])
    assert float(batch.valid[objects].float().mean()) < 0.7 * share
    assert int(batch.valid[objects].sum()) > 100
    replaced = batch.target[objects, 2].amax((1, 2)) > 0.9
    assert int(replaced.sum()) >= int(objects.sum()) - 3
    here, there = colours(batch.source, batch.source_xy), colours(batch.target, batch.target_xy)
    inner = batch.valid & ((batch.source_xy >= 0) & (batch.source_xy <= 47)).all(-1)
    inner &= objects[:, None]
    # No label lies on the new background, and those on the object are as exact as before; at its
    # edge the two are mixed.
    assert float(there[inner][:, 2].max()) < 0.55 * 250
    clear = inner & (there[..., 2] < 1)
    assert int(clear.sum()) > 100
    # A pixel is 4 to 6 levels.
    assert float((here - there).abs()[clear].max()) < 2.5


def test_a_replaced_background_needs_a_contour():
    with pytest.raises(InputError, match="a replaced background needs object contours"):
        WarpPairs(store_of([ramp(40, 40)], [0]), KnownWarpConfig(), background=0.5)
