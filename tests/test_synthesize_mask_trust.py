"""How far found masks can be trusted: measured, said, and points kept to what is surest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_synthesis import OPTIONS, settings

from warpkit.checks import InputError
from warpkit.datasets.synth import read_synth
from warpkit.synthesize.config import MaskConfig, QualityConfig, SplitConfig
from warpkit.synthesize.mask_trust import MaskTrust, trust_mask
from warpkit.synthesize.run import run_synthesize
from warpkit.synthesize.verify import verify_set
from warpkit.types import DescriptorMap

HEIGHT, WIDTH, CELL = 40, 56, 4


def described(cells: torch.Tensor) -> DescriptorMap:
    """A map whose descriptor is a direction a kind of thing: int64 (10, 14)."""
    data = F.one_hot(cells, 3).permute(2, 0, 1).float()
    return DescriptorMap.covering(data, height=HEIGHT, width=WIDTH)


def scene() -> torch.Tensor:
    """Sky (0) with a thing (1) in the middle."""
    cells = torch.zeros(HEIGHT // CELL, WIDTH // CELL, dtype=torch.long)
    cells[3:7, 4:10] = 1
    return cells


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top * CELL : bottom * CELL, left * CELL : right * CELL] = True
    return mask


def test_the_thing_itself_is_trusted_and_one_with_sky_is_not():
    exact = trust_mask(described(scene()), box(3, 4, 7, 10))
    assert exact.share == 1.0
    # 24 cells of the thing among 60: those of sky are like what is around.
    loose = trust_mask(described(scene()), box(2, 2, 8, 12))
    assert loose.share == pytest.approx((24 / 60 + 1) / 2)
    thing = box(3, 4, 7, 10)
    assert (exact.sure & thing).sum() == exact.sure.sum()
    assert (loose.sure & ~box(2, 2, 8, 12)).sum() == 0
    # Half of the mask is asked for, and the thing is less than that.
    assert (loose.sure & thing).sum() / thing.sum() == 1.0


def test_the_surer_half_leaves_the_sky_out():
    # Two thirds of the mask are the thing, the rest is a strip of sky.
    found = trust_mask(described(scene()), box(3, 4, 7, 13))
    assert found.share == pytest.approx((24 / 36 + 1) / 2)
    x = np.nonzero(found.sure)[1]
    assert len(x) >= box(3, 4, 7, 13).sum() / 2
    assert (x <= 10 * CELL + 1).all()


@pytest.mark.parametrize("mask", [box(0, 0, 10, 14), np.eye(HEIGHT, WIDTH) > 0])
def test_a_mask_of_all_cells_or_of_none_cannot_be_told(mask):
    found = trust_mask(described(scene()), mask)
    assert found.share == 0.0
    assert np.array_equal(found.sure, mask)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Discs of one colour on noise."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    for number in range(4):
        image = generator.integers(90, 250, (48, 64, 3), np.uint8)
        image[(x - 26 - 4 * number) ** 2 + (y - 24) ** 2 < 144] = (190, 20, 30)
        Image.fromarray(image).save(root / f"{number}.png")
    return root


def config(root: Path, **masks):
    return settings(
        images=root,
        known_warps=True,
        pairs=4,
        suffix="png",
        masks=MaskConfig(kind="found", **masks),
        quality=QualityConfig(images=0, sheets=1),
        splits=SplitConfig(val=0, test=0),
    )


def test_a_set_says_which_masks_are_doubtful(photographs, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", logger="warpkit")
    # A model this small on discs this plain may be sure of all: doubt what is not perfect.
    monkeypatch.setattr("warpkit.synthesize.mask_trust.DOUBTFUL", 1.01)
    facts = run_synthesize(tmp_path / "out", settings=config(photographs), options=OPTIONS)
    assert facts["doubtful_masks"] == facts["kept"] > 0
    said = [r.getMessage() for r in caplog.records if "doubtful" in r.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"the found masks of {facts['kept']} of {facts['kept']} kept pairs")
    out = tmp_path / "out"
    assert verify_set(out)[-1] == "all formats hold the same pairs and points"
    listed = json.loads((out / "pairs.json").read_text(encoding="utf-8"))
    card = (out / "README.md").read_text(encoding="utf-8")
    for item in listed:
        assert 0 <= item["provenance"]["target"]["mask_trust"] <= 1
        assert "mask_trust" not in item["provenance"]["source"]  # bent with the target
        assert item["id"] in card
    coco = json.loads((out / "coco/keypoints_train.json").read_text(encoding="utf-8"))
    assert sum("mask_trust" in annotation for annotation in coco["annotations"]) == len(listed)


def test_exact_points_keep_to_the_surer_half(photographs, tmp_path, monkeypatch):
    sure = np.zeros((48, 64), bool)
    sure[20:28, 20:44] = True

    def only_there(_descriptors, mask):
        return MaskTrust(1.0, mask & sure)

    monkeypatch.setattr("warpkit.synthesize.object_masks.trust_mask", only_there)
    facts = run_synthesize(tmp_path / "out", settings=config(photographs), options=OPTIONS)
    assert facts["kept"] > 0
    assert facts["doubtful_masks"] == 0
    for pair in read_synth(tmp_path / "out")[0]:
        x, y = np.floor(pair.target_points + 0.5).astype(int).T
        assert sure[y, x].all()


def test_pairs_of_doubtful_masks_can_be_dropped(photographs, tmp_path):
    with pytest.raises(InputError, match=r"none of 4 pairs was kept \(doubtful mask 4\)"):
        strict = config(photographs, least_trust=1.0)
        run_synthesize(tmp_path / "out", settings=strict, options=OPTIONS)
    with pytest.raises(InputError, match="least_trust is a share between 0 and 1, got 90"):
        MaskConfig(least_trust=90)


def test_given_masks_are_not_doubted(photographs, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in photographs.iterdir():
        mask = np.zeros((48, 64), np.uint8)
        mask[12:36, 16:48] = 255
        Image.fromarray(mask).save(masks / path.name)
    given = settings(
        images=photographs,
        known_warps=True,
        pairs=4,
        masks=MaskConfig(kind="given", folder=masks),
        quality=QualityConfig(images=0, sheets=0),
        formats=("dhf",),
        splits=SplitConfig(val=0, test=0),
    )
    facts = run_synthesize(tmp_path / "out", settings=given, options=OPTIONS)
    assert facts["doubtful_masks"] == 0
    (first, *_) = json.loads((tmp_path / "out/pairs.json").read_text(encoding="utf-8"))
    assert "mask_trust" not in first["provenance"]["target"]
