"""Warps of the page without the page: guides, kept descriptors, settings, and what it says."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from app_jobs import LONG
from app_service_tools import OPTIONS, finished, picture
from PIL import Image as PilImage

import warpkit
from warpkit.app.kept import KeptDescriptors
from warpkit.app.limits import Limits
from warpkit.app.pictures import canvas_value, encode_labels
from warpkit.app.service import Service
from warpkit.app.status import warned
from warpkit.app.warp_service import WarpService
from warpkit.app.workspace import Workspace
from warpkit.checks import InputError
from warpkit.image.foreground import NothingFoundError
from warpkit.types import DescriptorMap

Image = npt.NDArray[np.uint8]


class Counting:
    """Describes by a real model, and remembers how many images each call had."""

    name = "counting"

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, []

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        self.calls.append(len(images))
        return self.model.describe(images)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(Workspace(tmp_path_factory.mktemp("page") / "work"), OPTIONS, Limits(points=9))
    yield made
    made.close()


@pytest.fixture
def counting(service: Service, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The describer that the jobs get, whatever model they ask for."""
    found = Counting(service.models.load("tiny"))
    monkeypatch.setattr(service.models, "load", lambda _: found)
    return found


@pytest.fixture(scope="module")
def ends(files: Path) -> list[Path]:
    frames = sorted((files / "frames").glob("*.png"))
    return [frames[0], frames[-1]]


def uploaded(service: Service, ends: list[Path], visitor: str) -> dict[str, str]:
    return {
        name: picture(service, path, visitor).name
        for name, path in zip(("source", "target"), ends, strict=True)
    }


def record(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.folder / "run.json").read_text())
    return found


def test_transparency_of_an_upload_is_a_mask_and_stays_hidden(
    service: Service, tmp_path: Path, clip: list, model: warpkit.Model
) -> None:
    ends = []
    for number in (0, -1):
        alpha = np.where(clip[number].labels > 0, 255, 0).astype(np.uint8)
        ends.append(np.dstack([clip[number].image, alpha]))
        warpkit.write_image(tmp_path / f"{len(ends)}.png", ends[-1])
    names = uploaded(service, [tmp_path / "1.png", tmp_path / "2.png"], "v")
    result = finished(WarpService(service).warp("v", "tiny", **names)).result
    expected = model.warp(*ends)
    assert np.array_equal(warpkit.read_rgba(result.folder / "composite.png"), expected.composite)
    assert np.array_equal(expected.composite[..., 3], ends[1][..., 3])
    shown = canvas_value(service.workspace.session("v").upload(names["source"]).path)["image"]
    head, data = shown.split(",")
    canvas = np.array(PilImage.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    mean = ends[0][ends[0][..., 3] > 0][:, :3].mean(axis=0)
    assert head.startswith("data:image") and np.abs(canvas[0, 0] - mean).max() < 8


def test_what_lacks_a_mask_is_named(
    service: Service,
    ends: list[Path],
    tmp_path: Path,
    clip: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise NothingFoundError("no object was found")

    monkeypatch.setattr("warpkit.image.warp.object_finder", lambda *_, **__: nothing)
    inside = clip[0].labels > 0
    cut = np.dstack([clip[0].image, np.where(inside, 255, 0).astype(np.uint8)])
    warpkit.write_image(tmp_path / "cut.png", cut)
    painted = encode_labels((clip[-1].labels > 0).astype(np.uint8))
    plain, clear = ends[0], tmp_path / "cut.png"
    for source, labels, words in (
        (clear, painted, None),
        (plain, painted, "no object was found for sure in the source, so the whole of it"),
        (clear, "", "no object was found for sure in the target, so the whole of it"),
        (plain, "", "no object was found for sure, so whole pictures were warped"),
    ):
        names = uploaded(service, [source, ends[1]], "v")
        job = WarpService(service).warp("v", "tiny", target_labels=labels, **names)
        doubt = finished(job).result.doubt or ""
        assert doubt.startswith(words) if words else "no object" not in doubt


def test_a_warp_gives_what_the_command_gives(
    service: Service, ends: list[Path], clip: list, model: warpkit.Model
) -> None:
    masks = [clip[i].labels > 0 for i in (0, -1)]
    job = WarpService(service).warp(
        "v",
        "tiny",
        source_labels=encode_labels(masks[0].astype(np.uint8)),
        target_labels=encode_labels(masks[1].astype(np.uint8)),
        **uploaded(service, ends, "v"),
    )
    result = finished(job).result
    expected = model.warp(clip[0].image, clip[-1].image, source_mask=masks[0], target_mask=masks[1])
    assert np.array_equal(warpkit.read_image(result.folder / "composite.png"), expected.composite)
    assert result.text.startswith(f"{masks[1].sum():,} pixels warped")
    assert " % return to their place when warped back, mean cosine " in result.text
    assert result.doubt == expected.doubt
    with zipfile.ZipFile(result.archive) as archive:
        assert {"warped.png", "warp.npz", "run.json"} <= set(archive.namelist())
    assert (job.done, job.total) == (2, 3)


def test_a_guide_is_met(service: Service, ends: list[Path]) -> None:
    guides = [[[40.0, 24.0], [37.5, 25.25]], [[50, 20], [47, 21]]]
    names = uploaded(service, ends, "v")
    job = WarpService(service).warp("v", "tiny", guides=guides, **names)
    result = finished(job).result
    assert record(result)["inputs"]["guides"] == guides
    with np.load(result.folder / "warp.npz") as content:
        field = content["source_xy"]
    # The second guide lies on a pixel: its source is read off the field there.
    assert field[21, 47] == pytest.approx([50, 20], abs=1)
    assert result.text.endswith("both guides are met")


@pytest.mark.parametrize("none", [None, [], ()])
def test_no_guide_is_no_guide(service: Service, ends: list[Path], none: Any) -> None:
    names = uploaded(service, ends, "v")
    result = finished(WarpService(service).warp("v", "tiny", guides=none, **names)).result
    assert "guides" not in record(result)["inputs"]
    assert "guide" not in result.text


INSIDE = [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("guides", "message"),
    [
        ("1,2>3,4", "click one picture and then the other"),
        ({"a": 1}, "click one picture and then the other"),
        ([[1, 2], [3, 4]], "click one picture and then the other"),
        ([[[1, 2], None]], "click one picture and then the other"),
        ([[[1, 2], [3]]], "click one picture and then the other"),
        ([[["x", 2], [3, 4]]], "click one picture and then the other"),
        ([[[1, 2, 3], [4, 5, 6]]], "click one picture and then the other"),
        ([[[1, float("nan")], [3, 4]]], "finite"),
        ([INSIDE, [[1, 2], [float("inf"), 4]]], "finite"),
        (
            [INSIDE, [[79.6, 2], [3, 4]]],
            "guide 2 lies outside the source, which has 80 x 48",
        ),
        ([[[3, 4], [1, -0.6]], INSIDE], "guide 1 lies outside the target"),
        ([INSIDE] * 10, "10 guides: this page takes at most 9"),
    ],
)
def test_bad_guides_are_refused(
    service: Service, ends: list[Path], guides: Any, message: str
) -> None:
    names = uploaded(service, ends, "v")
    with pytest.raises(InputError, match=message):
        WarpService(service).warp("v", "tiny", guides=guides, **names)


def test_guides_need_a_coherent_field(service: Service, ends: list[Path]) -> None:
    names = uploaded(service, ends, "v")
    with pytest.raises(InputError, match="choose the field 'coherent', or clear the guides"):
        WarpService(service).warp("v", "tiny", guides=[INSIDE], field="nearest", **names)


def test_a_guide_off_the_mask_is_named(service: Service, ends: list[Path]) -> None:
    mask = np.zeros((48, 80), np.uint8)
    mask[10:30, 20:60] = 1
    job = WarpService(service).warp(
        "v",
        "tiny",
        guides=[[[30, 20], [30, 20]], INSIDE],
        source_labels=encode_labels(mask),
        **uploaded(service, ends, "v"),
    )
    assert job.wait(LONG)
    assert job.state == "failed"
    assert "guide 2 lies outside the source mask" in job.error


def test_settings_reach_the_warp(service: Service, ends: list[Path]) -> None:
    names = uploaded(service, ends, "v")
    chosen = {
        "mask": "none",
        "field": "coherent",
        "mirror": "always",
        "fill": False,
        "blend": "paste",
        "interpolation": "nearest",
        "tone": "target",
        "shading": "target",
        "strength": 0.5,
    }
    result = finished(WarpService(service).warp("v", "tiny", **chosen, **names)).result
    config = record(result)["config"]
    assert {name: config[name] for name in chosen} == chosen
    assert "source mirrored" in result.text
    nearest = finished(
        WarpService(service).warp("v", "tiny", mask="none", field="nearest", **names)
    ).result
    assert record(nearest)["config"]["field"] == "nearest"
    assert nearest.text.startswith(f"{48 * 80:,} pixels warped, mean cosine ")
    assert "warped back" not in nearest.text
    assert nearest.doubt is None
    for name, value in (
        *(("field", "auto"), ("mirror", "yes"), ("blend", ""), ("tone", "x"), ("shading", None)),
        *(("strength", 2), ("strength", "x")),
    ):
        with pytest.raises(InputError, match=r"unknown|strength"):
            WarpService(service).warp("v", "tiny", **names, **{name: value})


def test_a_new_guide_or_mask_describes_nothing_again(
    service: Service, counting: Counting, ends: list[Path]
) -> None:
    warps, names = WarpService(service), uploaded(service, ends, "keeper")
    plain = finished(warps.warp("keeper", "tiny", **names)).result
    assert counting.calls == [3]  # source, target, mirrored source
    finished(warps.warp("keeper", "tiny", guides=[[[40, 24], [38, 25]]], **names))
    mask = np.zeros((48, 80), np.uint8)
    mask[10:30, 20:60] = 1
    finished(warps.warp("keeper", "tiny", target_labels=encode_labels(mask), **names))
    finished(warps.warp("keeper", "tiny", field="nearest", **names))
    finished(service.look("keeper", "tiny", point=[30, 20], **names))
    again = finished(warps.warp("keeper", "tiny", **names)).result
    assert counting.calls == [3]
    for name in ("composite.png", "overview.png"):
        assert (again.folder / name).read_bytes() == (plain.folder / name).read_bytes()

    # The other way round, one mirrored picture is new; then another upload of a known picture.
    finished(warps.warp("keeper", "tiny", source=names["target"], target=names["source"]))
    assert counting.calls == [3, 1]
    finished(warps.warp("keeper", "tiny", **uploaded(service, ends, "keeper")))
    assert counting.calls == [3, 1]
    # Another visitor shares nothing, and who has left is forgotten.
    finished(warps.warp("other", "tiny", **uploaded(service, ends, "other")))
    assert counting.calls == [3, 1, 3]
    service.leave("keeper")
    finished(warps.warp("keeper", "tiny", **uploaded(service, ends, "keeper")))
    assert counting.calls == [3, 1, 3, 3]


class Means:
    """A describer that knows one number of an image: its mean."""

    name = "means"

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        self.calls.append([int(image.mean()) for image in images])
        return [
            DescriptorMap(torch.full((25, 2, 5), float(image.mean())), *image.shape[:2], 1.0, 1.0)
            for image in images
        ]


def grey(value: int, *, height: int = 3, width: int = 7) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def test_what_was_used_longest_ago_goes_first() -> None:
    means, kept = Means(), KeptDescriptors(most_bytes=2 * 1000)  # a map has 1000 bytes
    one, other = (kept.describer("v", model, lambda: means) for model in ("a", "b"))
    found = one.describe([grey(1), grey(2), grey(1)])
    assert [float(one.data[0, 0, 0]) for one in found] == [1, 2, 1]
    assert means.calls == [[1, 2]]
    one.describe([grey(1)])
    one.describe([grey(3)])  # 2 goes
    assert len(kept) == 2
    one.describe([grey(1), grey(3)])
    assert means.calls == [[1, 2], [3]]
    # Of what is more than can be kept nothing is lost to who asks.
    assert [float(m.data[0, 0, 0]) for m in one.describe([grey(i) for i in range(5)])] == [
        *range(5),
    ]
    assert len(kept) == 2
    # Another model, or the same bytes in another shape, is another map.
    other.describe([grey(4)])
    other.describe([grey(4, height=7, width=3)])
    assert means.calls[-2:] == [[4], [4]]
    kept.drop("somebody else")
    assert len(kept) == 2
    kept.drop("v")
    assert len(kept) == 0


def test_a_model_that_is_not_needed_is_not_loaded() -> None:
    kept = KeptDescriptors()
    kept.describer("v", "a", Means).describe([grey(5)])

    def load() -> Means:
        raise AssertionError

    (found,) = kept.describer("v", "a", load).describe([grey(5)])
    assert float(found.data[0, 0, 0]) == 5


def test_finished_warps_do_not_pile_up(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", most_uploads=2)
    session = workspace.session("v")
    folders = [session.new_folder() for _ in range(3)]
    for folder in folders:
        (folder / "x").write_text("x")
        session.keep_warp(folder)
    assert [folder.exists() for folder in folders] == [False, True, True]
    workspace.close()


def test_a_warp_waits_for_nothing_but_its_model(
    service: Service, counting: Counting, ends: list[Path]
) -> None:
    """Guides set one after another, in threads as the page's handlers are: all are answered."""
    warps, names = WarpService(service), uploaded(service, ends, "quick")
    jobs = []
    lock = threading.Lock()

    def guide(i: int) -> None:
        job = warps.warp("quick", "tiny", guides=[[[30 + i, 20], [28 + i, 21]]], **names)
        with lock:
            jobs.append(job)

    threads = [threading.Thread(target=guide, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len({finished(job).result.folder for job in jobs}) == 4
    assert counting.calls == [3]


def test_doubt_is_a_warning() -> None:
    assert warned("a < b") == '<div class="job job-doubt" role="alert">a &lt; b</div>'
