"""Warping a pair: what the command writes, which pixels change, where their colours come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import Ran
from PIL import Image

import warpkit
from warpkit import checks
from warpkit.image.warp import WarpSettings
from warpkit.match.settings import MatchFilters
from warpkit.render import RenderedFrame
from warpkit.warp.rim import RIM

Cli = Callable[..., Ran]
MAGENTA = (255, 0, 255)


def masked(files: Path) -> tuple[object, ...]:
    """The clip's first frame onto its last, with both masks."""
    return (
        *("warp", files / "frames/000.png", files / "frames/006.png"),
        *("--source-mask", files / "mask.png", "--target-mask", files / "last_mask.png"),
    )


def ellipse(height: int, width: int) -> np.ndarray:
    """An ellipse that fills most of an image, off its centre."""
    y, x = np.mgrid[:height, :width]
    return ((y - 0.55 * height) / (0.3 * height)) ** 2 + (
        (x - 0.45 * width) / (0.35 * width)
    ) ** 2 <= 1


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth picture with something to see everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_files_of_the_command(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    ran = cli(*masked(files), "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    assert sorted(path.name for path in out.iterdir()) == [
        *("composite.png", "overview.png", "run.json", "warp.npz", "warped.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["out"]
    with np.load(out / "warp.npz") as field:
        assert sorted(field.files) == ["similarity", "source_xy", "valid"]
        source_xy, similarity, valid = (field[k] for k in ("source_xy", "similarity", "valid"))
    assert (source_xy.dtype, source_xy.shape) == (np.float32, (48, 80, 2))
    assert (similarity.dtype, similarity.shape) == (np.float32, (48, 80))
    assert (valid.dtype, valid.shape) == (np.bool_, (48, 80))
    target_mask = warpkit.read_mask(files / "last_mask.png")
    source_mask = warpkit.read_mask(files / "mask.png")
    assert not (valid & ~target_mask).any()
    assert not similarity[~valid].any()
    x, y = np.rint(source_xy[target_mask]).astype(int).T  # filled where it is not trusted
    assert source_mask[y, x].all()
    assert (np.abs(similarity) <= 1 + 1e-5).all()
    warped = warpkit.read_rgba(out / "warped.png")
    assert warped.shape == (48, 80, 4)
    assert np.array_equal(warped[..., 3] == 255, target_mask)
    assert np.array_equal(warped[..., 3] == 0, ~target_mask)
    assert warpkit.read_image(out / "composite.png").shape == (48, 80, 3)
    record = json.loads((out / "run.json").read_text())
    assert record["valid_pixels"] == valid.sum()
    assert record["inputs"]["target_mask"] == str(files / "last_mask.png")
    assert {"cosine", "inside", "folds", "sd_log_j", "inverse_error"} <= set(record["quality"])
    assert record["quality"]["mirrored"] in (True, False)
    quality = record["quality"]
    mirrored = ", source mirrored" if quality["mirrored"] else ""
    assert ran.out.splitlines()[0].startswith(
        f"{target_mask.sum():,} pixels warped{mirrored}: {100 * quality['consistent']:.0f} % return"
        f" to their place when warped back, mean cosine {quality['cosine']:.2f}"
    )
    assert str(out / "overview.png") in ran.out


def test_command_equals_python(
    cli: Cli, files: Path, tmp_path: Path, model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    assert cli(*masked(files), "-o", tmp_path / "out", "--blend", "paste").code == 0
    result = model.warp(
        clip[0].image,
        clip[-1].image,
        source_mask=clip[0].labels > 0,
        target_mask=clip[-1].labels > 0,
        settings=WarpSettings(blend="paste"),
    )
    with np.load(tmp_path / "out/warp.npz") as field:
        assert np.array_equal(field["source_xy"], result.warp.source_xy.numpy())
        assert np.array_equal(field["similarity"], result.warp.similarity.numpy())
        assert np.array_equal(field["valid"], result.warp.valid.numpy())
    assert np.array_equal(warpkit.read_rgba(tmp_path / "out/warped.png"), result.warped)
    assert np.array_equal(warpkit.read_image(tmp_path / "out/composite.png"), result.composite)
    # Pasted means: exactly the warped colours.
    valid = result.warp.valid.numpy()
    assert np.array_equal(result.composite[valid], result.warped[valid][:, :3])


@pytest.mark.parametrize("engine", ["reference", "faiss"])
def test_engines_agree(engine: str, clip: list[RenderedFrame], model: warpkit.Model) -> None:
    if engine == "faiss":
        pytest.importorskip("faiss")
    other = warpkit.load("tiny", device="cpu", size=32, engine=engine)
    masks = {"source_mask": clip[0].labels > 0, "target_mask": clip[-1].labels > 0}
    nearest = WarpSettings(field="nearest")
    ours = model.warp(clip[0].image, clip[-1].image, **masks, settings=nearest).warp
    theirs = other.warp(clip[0].image, clip[-1].image, **masks, settings=nearest).warp
    torch.testing.assert_close(ours.similarity, theirs.similarity, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blend", ["paste", "feather", "poisson"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_background_and_colours(
    cli: Cli, tmp_path: Path, clip: list[RenderedFrame], blend: str, interpolation: str
) -> None:
    """Beyond the target mask's rim not a bit changes; nothing comes from outside the source's."""
    inside = clip[0].labels > 0
    source = texture(*inside.shape, seed=1)
    source[..., :] = source // 4 + (0, 190, 0)  # red and blue below 64, green above 190
    source[~inside] = MAGENTA
    warpkit.write_image(tmp_path / "source.png", source)
    warpkit.write_image(tmp_path / "target.png", clip[-1].image)
    warpkit.write_labels(tmp_path / "source_mask.png", clip[0].labels)
    warpkit.write_labels(tmp_path / "target_mask.png", clip[-1].labels)
    ran = cli(
        *("warp", tmp_path / "source.png", tmp_path / "target.png", "-o", tmp_path / "out"),
        *("--source-mask", tmp_path / "source_mask.png"),
        *("--target-mask", tmp_path / "target_mask.png"),
        *("--blend", blend, "--interpolation", interpolation),
    )
    assert ran.code == 0, ran.err
    target = clip[-1].labels > 0
    composite = warpkit.read_image(tmp_path / "out/composite.png")
    distance = cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, 5)
    still = distance > RIM if blend == "feather" else ~target
    assert np.array_equal(composite[still], clip[-1].image[still])
    assert not np.array_equal(composite[target], clip[-1].image[target])
    colours = warpkit.read_rgba(tmp_path / "out/warped.png")[target]
    assert (colours[:, 3] == 255).all()
    assert colours[:, [0, 2]].max() < 64
    assert colours[:, 1].min() >= 190


@pytest.mark.parametrize(
    ("source_size", "target_size"),
    [((31, 47), (80, 26)), ((80, 26), (31, 47)), ((64, 33), (33, 64)), ((9, 70), (70, 9))],
)
@pytest.mark.parametrize("kinds", [("L", "RGBA"), ("RGBA", "L"), ("RGB", "LA")])
def test_sizes_and_kinds(
    cli: Cli,
    tmp_path: Path,
    source_size: tuple[int, int],
    target_size: tuple[int, int],
    kinds: tuple[str, str],
) -> None:
    for name, size, kind in zip(
        ("source", "target"), (source_size, target_size), kinds, strict=True
    ):
        picture = Image.fromarray(texture(*size, seed=len(name) + size[0])).convert(kind)
        if kind in ("RGBA", "LA"):
            picture.putalpha(200)
        picture.save(tmp_path / f"{name}.png")
        warpkit.write_labels(tmp_path / f"{name}_mask.png", ellipse(*size).astype(np.uint8))
    ran = cli(
        *("warp", tmp_path / "source.png", tmp_path / "target.png", "-o", tmp_path / "out"),
        *("--source-mask", tmp_path / "source_mask.png"),
        *("--target-mask", tmp_path / "target_mask.png"),
    )
    assert (ran.code, ran.messages) == (0, [])
    with np.load(tmp_path / "out/warp.npz") as field:
        assert field["source_xy"].shape == (*target_size, 2)
        assert not (field["valid"] & ~ellipse(*target_size)).any()
        x, y = np.rint(field["source_xy"][ellipse(*target_size)]).astype(int).T
    assert ellipse(*source_size)[y, x].all()
    composite = warpkit.read_image(tmp_path / "out/composite.png")
    ours = ellipse(*target_size).astype(np.uint8)
    outside = cv2.dilate(ours, np.ones((2 * RIM + 1,) * 2, np.uint8)) == 0
    assert composite.shape == (*target_size, 3)
    assert np.array_equal(composite[outside], warpkit.read_image(tmp_path / "target.png")[outside])


def test_an_image_onto_itself_is_itself(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    result = model.warp(
        clip[0].image,
        clip[0].image,
        settings=WarpSettings(mask="none", field="nearest", blend="paste", interpolation="nearest"),
    )
    assert result.warp.valid.all()
    # Beyond the centres of the outermost cells descriptors are constant: there pixels tie.
    inner = np.s_[2:-2, 2:-2]
    assert (result.composite == clip[0].image)[inner].mean() > 0.98
    torch.testing.assert_close(result.warp.similarity, torch.ones(48, 80), atol=1e-4, rtol=0)


def test_a_coherent_warp_of_an_image_onto_itself_stays_in_place(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    mask = clip[0].labels > 0
    result = model.warp(clip[0].image, clip[0].image, source_mask=mask, target_mask=mask)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    away = np.linalg.norm(result.warp.source_xy.numpy() - np.dstack([x, y]), axis=2)[mask]
    assert away.mean() < 0.5
    assert result.quality is not None and result.quality.folds < 1
    assert not result.quality.mirrored and result.doubt is None


def test_guides_of_the_command_and_of_python(
    cli: Cli, files: Path, tmp_path: Path, model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    y, x = (int(v.mean()) for v in np.nonzero(warpkit.read_mask(files / "last_mask.png")))
    v, u = (int(v.mean()) for v in np.nonzero(warpkit.read_mask(files / "mask.png")))
    ran = cli(*masked(files), "-o", tmp_path / "out", "--guide", f"{u},{v}>{x},{y}")
    assert (ran.code, ran.messages) == (0, [])
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["inputs"]["guides"] == [[[u, v], [x, y]]]
    assert record["quality"]["guide_error"] < 1
    result = model.warp(
        clip[0].image,
        clip[-1].image,
        source_mask=clip[0].labels > 0,
        target_mask=clip[-1].labels > 0,
        guides=[[[u, v], [x, y]]],
    )
    assert np.abs(result.warp.source_xy[y, x].numpy() - (u, v)).max() < 1
    ran = cli(*masked(files), "-o", tmp_path / "no", "--guide", "0,0>0,0")
    assert ran.code == 2 and "guide 1 lies outside the source mask" in ran.messages[0]
    ran = cli(*masked(files), "-o", tmp_path / "no", "--guide", "1,1>1,1", "--field", "nearest")
    assert ran.code == 2 and "guides steer a coherent field" in ran.messages[0]
    ran = cli(*masked(files), "-o", tmp_path / "no", "--set", "mutual=true")
    assert ran.code == 2 and "--field nearest" in ran.messages[0]


def test_without_filling_only_what_is_trusted_is_shown(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    masks = {"source_mask": clip[0].labels > 0, "target_mask": clip[-1].labels > 0}
    config = WarpSettings(fill=False, tolerance=0.02, blend="paste")
    result = model.warp(clip[0].image, clip[-1].image, **masks, settings=config)
    valid = result.warp.valid.numpy()
    assert 0 < valid.sum() < masks["target_mask"].sum()
    assert np.array_equal(result.warped[..., 3] > 0, valid)
    assert np.array_equal(result.composite[~valid], clip[-1].image[~valid])


def test_filters_only_take_away(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    def field(**filters: object) -> warpkit.Warp:
        config = WarpSettings(mask="none", field="nearest", filters=MatchFilters(**filters))
        return model.warp(clip[0].image, clip[-1].image, settings=config).warp

    everything = field()
    threshold = float(everything.similarity.median())
    mutual, near = field(mutual=True), field(cycle_distance=2.0)
    similar = field(min_similarity=threshold)
    assert everything.valid.all()
    assert 0 < mutual.valid.sum() < everything.valid.sum()
    assert (near.valid | ~mutual.valid).all()  # a mutual match returns to its start
    assert torch.equal(similar.valid, everything.similarity >= threshold)


def test_nothing_valid_is_still_a_result(cli: Cli, files: Path, tmp_path: Path) -> None:
    ran = cli(*masked(files), "-o", tmp_path / "out", "--set", "min_similarity=1")
    assert (ran.code, ran.messages) == (0, [])
    assert ran.out.startswith("0 pixels warped")
    composite = warpkit.read_image(tmp_path / "out/composite.png")
    assert np.array_equal(composite, warpkit.read_image(files / "frames/006.png"))


def test_python_refuses_bad_arrays(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    image = clip[0].image
    with pytest.raises(warpkit.InputError, match="target must be a uint8 RGB array"):
        model.warp(image, image.astype(np.float32))
    with pytest.raises(warpkit.InputError, match="source mask is 40 x 80"):
        model.warp(image, image, source_mask=np.ones((40, 80), bool))
    with pytest.raises(warpkit.InputError, match="target mask is empty"):
        model.warp(image, image, target_mask=np.zeros((48, 80), bool))


@pytest.mark.parametrize("field", ["coherent", "nearest"])
def test_images_and_masks_are_checked_once(
    model: warpkit.Model,
    clip: list[RenderedFrame],
    monkeypatch: pytest.MonkeyPatch,
    field: str,
) -> None:
    """From the call to the composite: where they come in, and nowhere behind."""
    visits: list[tuple[str, int]] = []
    real = {n: getattr(checks, n) for n in ("check_image", "check_mask", "check_same_size")}
    for name in real:

        def visit(value: Any, *rest: Any, _name: str = name, **named: Any) -> Any:
            visits.append((_name, id(value)))
            return real[_name](value, *rest, **named)

        for module in [m for n, m in sys.modules.items() if n.startswith("warpkit.")]:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, visit)
    source, target = clip[0], clip[-1]
    masks = {"source_mask": source.labels > 0, "target_mask": target.labels > 0}
    settings = WarpSettings(field=field)
    model.warp(source.image, target.image, **masks, settings=settings)
    given = [("check_image", source.image), ("check_image", target.image)]
    given += [("check_mask", mask) for mask in masks.values()]
    assert visits == [(name, id(value)) for name, value in given]
