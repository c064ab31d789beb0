"""The page's jobs without the page."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from app_jobs import LONG, Gate
from app_service_tools import OPTIONS, finished, landed, picture

import warpkit
from warpkit.app.datasets import EXAMPLE_SET, DataSets
from warpkit.app.loaded_models import ModelShelf
from warpkit.app.pictures import encode_labels
from warpkit.app.queue import Job
from warpkit.app.service import Service, safe_title
from warpkit.app.video_service import VideoRun, VideoService
from warpkit.app.warp_service import WarpService
from warpkit.app.workspace import Upload
from warpkit.checks import InputError
from warpkit.match.settings import MatchFilters
from warpkit.render import CLIPS, render_frame
from warpkit.synthesize.browse import read_set


@pytest.fixture(scope="module")
def videos(service: Service) -> VideoService:
    return VideoService(service)


@pytest.fixture(scope="module")
def frame_files(files: Path) -> list[Path]:
    return sorted((files / "frames").glob("*.png"))


def test_an_upload_is_copied_into_the_visitors_folder(service: Service, files: Path) -> None:
    path = landed(service, files / "frames/000.png")
    upload = service.take_picture("mover", path, "../../my <b>picture</b>.png")
    assert (upload.height, upload.width) == (48, 80)
    assert upload.title == "b.png"
    # Another visitor may have sent the same file, which then lies in the same place.
    assert service.take_picture("second", path, "x").path.exists()
    assert upload.path.parent == service.workspace.session("mover").folder
    service.leave("mover")
    assert not upload.path.exists()


@pytest.mark.parametrize("bad", ["/etc/passwd", "../../etc/passwd", "", None, 3, {"path": "/x"}])
def test_paths_that_are_no_uploads_are_refused(service: Service, bad: object) -> None:
    with pytest.raises(InputError, match=r"refused|no file came"):
        service.take_picture("v", bad, "x")


def test_another_visitors_files_are_no_uploads(service: Service, files: Path) -> None:
    upload = picture(service, files / "frames/000.png", "one")
    with pytest.raises(InputError, match="was not uploaded"):
        service.take_picture("two", str(upload.path), "x")
    assert upload.path.exists()
    with pytest.raises(InputError, match="choose a source picture first"):
        WarpService(service).warp("two", "tiny", source=upload.name, target=upload.name)


def test_rubbish_is_named_as_the_visitor_named_it(service: Service, files: Path) -> None:
    path = landed(service, files / "text.png")
    with pytest.raises(InputError, match=r"^holiday\.jpg: not an image"):
        service.take_picture("v", path, "holiday.jpg")


def test_one_pixel_is_looked_up(
    service: Service, frame_files: list[Path], clip: list, model: warpkit.Model
) -> None:
    uploads = [picture(service, frame_files[i]) for i in (0, -1)]
    names = {"source": uploads[0].name, "target": uploads[1].name}
    y, x = np.argwhere(clip[0].labels > 0)[40].tolist()
    found = finished(service.look("v", "tiny", point=[x, y], **names)).result
    expected = model.match(clip[0].image, clip[-1].image, [[x, y]])
    assert found.match == pytest.approx(expected.target_xy[0, 0].tolist(), abs=1e-3)
    assert found.similarity == pytest.approx(float(expected.similarity[0, 0]), abs=1e-5)
    assert found.picture.is_file()
    job = service.look("v", "tiny", point=[500, 2], **names)
    assert job.wait(LONG)
    assert "lies outside the image" in job.error
    with pytest.raises(InputError, match="points are pairs"):
        service.look("v", "tiny", point="x", **names)


def test_points_are_matched(service: Service, frame_files: list[Path], clip: list) -> None:
    uploads = [picture(service, frame_files[i]) for i in (0, -1)]
    names = {"source": uploads[0].name, "target": uploads[1].name, "filters": MatchFilters()}
    result = finished(service.points("v", "tiny", points=[[30, 20], [33, 25]], **names)).result
    assert json.loads(result.json.read_text()) == result.found
    assert len(result.found["target_points"]) == 2
    for points, message in (
        ([], "no point"),
        (None, "no point|pairs"),
        ([[1, 2, 3]], "no point"),
        ([[0, float("nan")]], "finite"),
        ([[1, 1]] * 101, "at most 100"),
    ):
        with pytest.raises(InputError, match=message):
            service.points("v", "tiny", points=points, **names)


def test_a_model_is_inspected(service: Service, frame_files: list[Path]) -> None:
    upload = picture(service, frame_files[0])
    job = service.inspect("v", "tiny", picture=upload.name, layers=False)
    assert [path.name for path in finished(job).result] == ["mixing.png", "pca.png"]
    named = service.take_picture("v", landed(service, frame_files[0]), "...")  # no file name
    assert finished(service.inspect("v", "tiny", picture=named.name, layers=False)).result
    alone = finished(service.inspect("v", "tiny", picture=None, layers=True)).result
    assert [path.name for path in alone] == ["mixing.png"]
    with pytest.raises(InputError, match="unknown single model"):
        service.inspect("v", "embedded", picture=None, layers=False)


@pytest.mark.parametrize("name", ["nope", "../x", "/etc", ""])
def test_models_are_chosen_from_a_list(service: Service, name: str, files: Path) -> None:
    upload = picture(service, files / "frames/000.png")
    with pytest.raises(InputError, match=r"unknown model|choose a model first"):
        WarpService(service).warp("v", name, source=upload.name, target=upload.name)


def test_the_shelf_keeps_the_last_models() -> None:
    shelf = ModelShelf(OPTIONS, most=1)
    assert shelf.names[0] == "tiny"
    assert {"embedded", "efficientnet-lite0"} <= set(shelf.names)
    first = shelf.load("tiny")
    assert shelf.load("tiny") is first
    assert shelf.options("efficientnet-lite0").size is None
    shelf.load("efficientnet-lite0")
    assert shelf.state()["tiny"] == "on disk"
    assert shelf.load("tiny") is not first


def test_a_mask_by_a_box(service: Service) -> None:
    frame = render_frame(replace(CLIPS["fish"], height=96, width=160), 0)
    image, labels = frame.image, frame.labels
    path = service.workspace.root / "fish.png"
    warpkit.write_image(path, image)
    upload = picture(service, path)
    rows, columns = np.nonzero(labels)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    for asked in (box, None):  # None: by itself
        found = service.cut_out("v", upload.name, asked)
        mask = found.labels > 0
        assert set(np.unique(found.labels)) == {0, 1}
        assert (mask & (labels > 0)).sum() / (mask | (labels > 0)).sum() > 0.7
        assert 0.5 < found.agreement <= 1
    for bad in ((), [1, 2], "abc", [400, 400, 500, 500]):
        with pytest.raises(InputError, match=r"box"):
            service.cut_out("v", upload.name, bad)


def test_a_video_is_propagated_looked_at_and_corrected(
    service: Service, videos: VideoService, files: Path, clip: list
) -> None:
    upload = videos.take_clip("v", landed(service, files / "clip.mp4"), "clip.mp4")
    assert (upload.frames, upload.height, upload.width) == (7, 48, 80)
    path, seconds = videos.frame("v", upload.name, 3)
    assert warpkit.read_image(path).shape == (48, 80, 3)
    assert seconds == pytest.approx(3 / 12)
    labels = encode_labels((clip[0].labels > 0).astype(np.uint8))
    job = finished(videos.propagate("v", "tiny", clip=upload.name, labels=labels, stride=2))
    run = job.result
    assert run.frames == [0, 2, 4, 6]
    assert run.video() == run.folder / "overlay.mp4"
    assert run.text.startswith("4 frames, 1 of them annotated")
    assert warpkit.read_image(videos.frame_picture("v", run.name, 3)).shape == (48, 80, 3)

    index, _, tracked = videos.frame_to_correct("v", run.name, 2)
    assert index == 4
    fixed = np.zeros_like(tracked)
    fixed[5:20, 10:30] = 1
    again = finished(
        videos.correct("v", "tiny", run=run.name, frame=index, labels=encode_labels(fixed))
    ).result
    assert again.name == run.name
    assert sorted(again.masks) == [0, 4]
    assert np.array_equal(warpkit.read_labels(again.folder / "masks/00004.png"), fixed)
    for frame in (3, -1, "4", None):
        with pytest.raises(InputError, match="this run has no frame"):
            videos.correct("v", "tiny", run=run.name, frame=frame, labels="")
    for position in (4, -1, "1", 0.5, None):
        with pytest.raises(InputError, match="frame"):
            videos.frame_picture("v", run.name, position)
    for name in ("nope", "../x", None):
        with pytest.raises(InputError, match="no finished run"):
            videos.run("v", name)
    with pytest.raises(InputError, match="no finished run"):
        videos.run("another", run.name)


def test_results_of_a_video_are_found_by_its_table(tmp_path: Path) -> None:
    run = VideoRun("r", None, tmp_path, None, {}, None, None, 0, 9, 2)  # type: ignore[arg-type]
    run.rows = [{"frame": 4, "name": "a", "file": "a.png"}, {"frame": 6, "name": "b"}]
    assert run.frames == [4, 6]
    assert run.result("masks", 4) == tmp_path / "masks/a.png"
    assert run.result("frames", 6) == tmp_path / "frames/00006.png"


def test_points_and_colours_on_a_video(service: Service, videos: VideoService, files: Path) -> None:
    upload = videos.take_clip("v", landed(service, files / "clip.mp4"), "clip.mp4")
    job = videos.propagate("v", "tiny", clip=upload.name, points=[[30, 20]], stride=3)
    run = finished(job).result
    assert json.loads((run.folder / "points.json").read_text())["frames"] == [0, 3, 6]
    assert videos.frame_picture("v", run.name, 1).is_file()
    with pytest.raises(InputError, match="corrections are masks"):
        videos.frame_to_correct("v", run.name, 0)
    with pytest.raises(InputError, match="nothing to propagate"):
        videos.propagate("v", "tiny", clip=upload.name)
    with pytest.raises(InputError, match="whole number from 1"):
        videos.propagate("v", "tiny", clip=upload.name, points=[[1, 1]], stride=0)


def test_a_cancelled_video_leaves_nothing(
    service: Service, videos: VideoService, files: Path, clip: list
) -> None:
    upload = videos.take_clip("gone", landed(service, files / "clip.mp4"), "clip.mp4")
    labels = encode_labels((clip[0].labels > 0).astype(np.uint8))
    gate = Gate()
    service.submit("gone", "tiny", "gate", gate)
    assert gate.running.wait(LONG)
    job = videos.propagate("gone", "tiny", clip=upload.name, labels=labels)
    before = job.progress

    def stop_midway(stage: str, done: int, total: int | None) -> None:
        before(stage, done, total)
        if stage == "propagating":
            service.queue.cancel(job)
            before(stage, done, total)

    job.progress = stop_midway  # type: ignore[method-assign]
    gate.free.set()
    assert job.wait(LONG)
    assert job.state == "cancelled"
    session = service.workspace.session("gone")
    assert [p for p in session.folder.rglob("*") if "job-" in p.name and any(p.iterdir())] == []
    assert session.runs == {}


def test_a_visitor_who_leaves_cancels(service: Service) -> None:
    gate = Gate()
    job = service.submit("leaver", "tiny", "gate", gate)
    assert gate.running.wait(LONG)
    folder = service.workspace.session("leaver").folder
    service.leave("leaver")
    assert job.wait(LONG)
    assert job.state == "cancelled"
    assert not folder.exists()


def test_sets_are_found_and_drawn(service: Service, tmp_path: Path, clip: list) -> None:
    root = tmp_path / "sets"
    write_set(root / "deep" / "one", clip)
    (root / "none").mkdir()
    (tmp_path / "outside").mkdir()
    sets = DataSets(root, tmp_path / "example")
    assert sets.names() == ["deep/one", EXAMPLE_SET]
    found = sets.read("deep/one")
    assert (len(found.pairs), found.points, found.categories) == (1, 2, {"fish": 1})
    session = service.workspace.session("v")
    sheet = warpkit.read_image(sets.sheet(session, "deep/one", category=None, page=0))
    assert sheet.shape[0] > 240
    path, facts = sets.pair(session, "deep/one", category="fish", number=0)
    assert path.is_file()
    assert json.loads(facts)["provenance"] == {"seed": 7}
    for name in ("../outside", "/etc", "none/../../outside", "\0", None, 5, "deep"):
        with pytest.raises(InputError, match=r"refused|choose a set|holds no pairs"):
            sets.read(name)
    for page in (1, -1, "0", 0.5):
        with pytest.raises(InputError, match="page"):
            sets.sheet(session, "deep/one", category=None, page=page)
    with pytest.raises(InputError, match="refused"):
        DataSets(None, tmp_path / "example").read("deep/one")


def test_a_set_shows_no_image_outside_itself(tmp_path: Path, clip: list) -> None:
    root = tmp_path / "set"
    write_set(root, clip)
    items = json.loads((root / "pairs.json").read_text())
    warpkit.write_image(tmp_path / "secret.png", clip[0].image)
    items.append({**items[0], "source_path": "../secret.png"})
    (root / "pairs.json").write_text(json.dumps(items))
    found = read_set(root)
    assert len(found.pairs) == 1
    assert found.pairs[0].masks == (None, None)
    assert "item 1" in found.problems[0]


def write_set(root: Path, clip: list) -> None:
    root.mkdir(parents=True)
    for name, frame in (("a.png", clip[0]), ("b.png", clip[1])):
        warpkit.write_image(root / name, frame.image)
    item = {
        "source_path": "a.png",
        "target_path": "b.png",
        "source_points": [[10, 10], [20, 20]],
        "target_points": [[11, 10], [21, 20]],
        "source_bounding_box": [5, 5, 30, 30],
        "target_bounding_box": [5, 5, 30, 30],
        "category": "fish",
        "provenance": {"seed": 7},
    }
    (root / "pairs.json").write_text(json.dumps([item]))


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("a/b\\c.png", "c.png"),
        ("<script>x</script>.png", "script.png"),
        (None, "the file"),
        ("\n\0", "the file"),
        ("x" * 100, "x" * 60),
    ],
)
def test_titles_are_shown_and_nothing_else(title: object, shown: str) -> None:
    assert safe_title(title) == shown


def test_many_visitors_at_once_get_their_own_results(
    service: Service, frame_files: list[Path]
) -> None:
    jobs: list[tuple[int, Job]] = []
    lock = threading.Lock()

    def visit(number: int) -> None:
        visitor = f"many-{number}"
        uploads = [picture_copy(service, frame_files[i], visitor) for i in (0, 1)]
        mask = np.zeros((48, 80), np.uint8)
        mask.flat[: 100 + number] = 1
        job = WarpService(service).warp(
            visitor,
            "tiny",
            source=uploads[0].name,
            target=uploads[1].name,
            target_labels=encode_labels(mask),
        )
        with lock:
            jobs.append((number, job))

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(jobs) == 8
    for number, job in jobs:
        assert finished(job).result.text.startswith(f"{100 + number} pixels")


def picture_copy(service: Service, path: Path, visitor: str) -> Upload:
    place = service.workspace.uploads / f"{visitor}-{path.name}"
    shutil.copyfile(path, place)
    return service.take_picture(visitor, str(place), path.name)
