"""Whole runs of `warpkit synthesize`, small: formats, verification, resuming, a full disk."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_synthesis import OPTIONS, settings

import warpkit
from warpkit.checks import InputError, OutputError
from warpkit.datasets.spair import read_spair
from warpkit.datasets.synth import read_synth
from warpkit.render import CLIPS, render_frame
from warpkit.synthesize import engines
from warpkit.synthesize import run as job
from warpkit.synthesize.config import (
    GenerationConfig,
    PairLabelConfig,
    SplitConfig,
)
from warpkit.synthesize.run import run_synthesize
from warpkit.synthesize.verify import verify_set


def content(folder: Path) -> dict[str, bytes]:
    """All files but those with times in them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "SHA256SUMS")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished set, for reading only."""
    folder = tmp_path_factory.mktemp("set") / "out"
    run_synthesize(folder, settings=settings(), options=OPTIONS)
    return folder


def test_a_set_holds_every_format_and_verifies(whole):
    lines = verify_set(whole)
    assert lines[1:] == [
        *(f"{name}: 6 pairs" for name in ("spair", "dhf", "coco", "webdataset", "parquet")),
        "all formats hold the same pairs and points",
    ]
    names = {path.name for path in whole.iterdir()}
    assert {"README.md", "run.json", "quality.json", "quality.md", "sheets"} <= names
    assert "chunks" not in names
    assert "task.json" not in names
    report = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert (report["pairs"], report["kept"]) == (6, 6)
    assert report["matches"]["candidates"] >= report["matches"]["cycle"] >= report["points"]
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert "**6 pairs** of 6 made" in card
    assert "CC BY-NC 4.0" in card
    assert "- `Motorbikes`: 4" in card
    summed = subprocess.run(
        ["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=whole, capture_output=True, check=False
    )
    assert summed.returncode == 0, summed.stdout


def test_the_readers_of_the_toolkit_read_it(whole):
    train, problems = read_synth(whole)
    assert problems == []
    spair, problems = read_spair(whole, "train")
    assert problems == []
    assert [pair.source_path for pair in train] == [pair.source_path for pair in spair]
    for one, other in zip(train, spair, strict=True):
        assert np.array_equal(one.source_points, other.source_points)
        assert one.category == other.category


def test_an_aggregator_trains_on_it_and_eval_reads_it(cli, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synth").symlink_to(whole)
    config = Path(__file__).parents[1] / "configs/synth_aggregator.yaml"
    ran = cli(
        *("train", "aggregator", "-c", config, "-o", "run", "--set", "steps=1", "--set", "size=32"),
        *("--set", "tracker=none"),
        small=False,
    )
    assert ran.code == 0, ran.err
    assert (tmp_path / "run/aggregator.safetensors").is_file()
    ran = cli(
        *("eval", "pck", "spair71k", "--root", "synth", "--model", "tiny", "-o", "scores"),
        *("--split", "train", "--size", "32", "--device", "cpu"),
        small=False,
    )
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("change", "is not what was written"),
        ("remove", "is missing"),
        ("add", "is not in the manifest"),
    ],
)
def test_verify_finds_damage(whole, tmp_path, damage, message):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    image = next((copy / "JPEGImages").rglob("*.jpg"))
    if damage == "change":
        image.write_bytes(image.read_bytes()[:-1] + b"x")
    elif damage == "remove":
        image.unlink()
    else:
        (copy / "extra.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        verify_set(copy)


def test_verify_of_another_folder_says_what_it_expected(tmp_path):
    def said() -> str:
        with pytest.raises(InputError) as refused:
            verify_set(tmp_path / "out")
        return str(refused.value)

    out = tmp_path / "out"
    out.mkdir()
    expected = (
        "is no set that `warpkit synthesize` wrote: expected SHA256SUMS (the manifest), run.j"
    )
    assert expected in said()
    assert said().endswith("found nothing; give the folder that `warpkit synthesize -o` wrote")
    (out / ".warpkit-partial-0123").mkdir()
    assert said().endswith(
        "found nothing; an unfinished run is kept there: run its command again to its end"
    )
    (out / ".warpkit-partial-0123").rmdir()
    for name in "abcdef":
        (out / name).touch()
    assert "found a, b, c, d, e and 1 more; give" in said()
    (out / "sheets").mkdir()
    (out / "run.json").touch()
    assert said().endswith("; get a whole copy, or make the set anew")
    (out / "sheets" / "SHA256SUMS").touch()
    assert said().endswith(f"; did you mean {out / 'sheets'}?")
    (tmp_path / "SHA256SUMS").touch()
    assert said().endswith(f"; did you mean {tmp_path}?")
    # A manifest alone makes no set.
    (out / "SHA256SUMS").write_text("")
    for path in (*out.glob("?"), out / "run.json", out / "sheets" / "SHA256SUMS"):
        path.unlink()
    assert "holds no format that is known here: expected one of PairAnnotation, pairs" in said()


def test_verify_finds_formats_that_disagree(whole, tmp_path):
    import shutil

    from warpkit.synthesize.verify import MANIFEST, write_manifest

    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    listed = json.loads((copy / "pairs.json").read_text(encoding="utf-8"))
    listed[0]["source_points"][0][0] += 1
    (copy / "pairs.json").write_text(json.dumps(listed))
    write_manifest(copy, copy / MANIFEST, set())
    with pytest.raises(InputError, match="dhf and spair do not hold the same pairs"):
        verify_set(copy)


def test_verify_finds_scores_that_are_not_of_the_points(whole, tmp_path):
    import shutil

    from warpkit.synthesize.records import Record, encode_records, read_records
    from warpkit.synthesize.verify import MANIFEST, write_manifest

    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = next((copy / "shards").glob("train-*.tar"))
    first, *others = read_records(path)
    count = len(first.meta["source_points"])
    for name in ("similarity", "coherence"):
        assert len(first.meta[name]) == count
    assert max(first.meta["coherence"]) <= 0.9  # the filter of these settings
    meta = {**first.meta, "coherence": [0.0, *first.meta["coherence"]]}
    path.write_bytes(encode_records([Record(first.id, meta, first.files), *others]))
    write_manifest(copy, copy / MANIFEST, set())
    with pytest.raises(InputError, match=f"{count + 1} values of coherence for {count} points"):
        verify_set(copy)


def test_pycocotools_reads_the_keypoints(whole):
    coco = pytest.importorskip("pycocotools.coco")
    read = coco.COCO(str(whole / "coco/keypoints_train.json"))
    annotations = read.loadAnns(read.getAnnIds())
    train, _ = read_synth(whole)
    assert len(annotations) == 2 * len(train)
    first = annotations[0]
    assert first["num_keypoints"] == len(train[0])
    points = np.array(first["keypoints"]).reshape(-1, 3)[: len(train[0]), :2]
    assert np.allclose(points, train[0].source_points, atol=1e-3)
    # The run-length code is read back to a mask of as many pixels as its area says.
    assert read.annToMask(first).sum() == first["area"] == 32 * 32


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_iterates_over_the_shards(whole):
    wds = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted((whole / "shards").glob("*.tar"))]
    rows = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert sorted(row["__key__"] for row in rows) == [f"{n:07d}" for n in range(6)]
    assert all(row["source.jpg"].shape == (32, 32, 3) for row in rows)
    assert all(row["json"]["status"] == "kept" for row in rows)
    gc.collect()  # it leaves files to the collector, which would complain in another test


def test_parquet_opens(whole):
    dataset = pytest.importorskip("pyarrow.parquet")
    rows = [
        row
        for path in sorted((whole / "parquet").glob("train-*.parquet"))
        for row in dataset.read_table(path).to_pylist()
    ]
    train, _ = read_synth(whole)
    assert [len(row["source_points"]) for row in rows] == [len(pair) for pair in train]
    assert rows[0]["source"]["bytes"][:2] == b"\xff\xd8"  # a JPEG


def test_parquet_says_which_columns_are_images(whole):
    parquet = pytest.importorskip("pyarrow.parquet")
    (path, *_) = sorted((whole / "parquet").glob("train-*.parquet"))
    stated = json.loads(parquet.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    images = {"source", "target", "source_mask", "target_mask"}
    assert {name for name, kind in stated.items() if kind == {"_type": "Image"}} == images
    number = {"dtype": "float32", "_type": "Value"}
    place = {"feature": number, "length": 2, "_type": "Sequence"}
    assert stated["source_points"] == {"feature": place, "length": -1, "_type": "Sequence"}
    assert stated["target_box"] == {"feature": number, "length": 4, "_type": "Sequence"}
    assert stated["category"] == {"dtype": "string", "_type": "Value"}
    assert list(stated) == parquet.read_schema(path).names


def test_a_run_that_stops_goes_on(whole, tmp_path, monkeypatch):
    """Nothing that was finished is done again, and the set is the same."""
    made: list[int] = []
    original = job._Worker._planned

    def failing(self, number):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(number)
        return original(self, number)

    monkeypatch.setattr(job._Worker, "_planned", failing)
    with pytest.raises(KeyboardInterrupt):
        run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    assert [path for path in (tmp_path / "out").glob("*") if not path.name.startswith(".")] == []
    later: list[int] = []

    def counting(self, number):
        later.append(number)
        return original(self, number)

    monkeypatch.setattr(job._Worker, "_planned", counting)
    with pytest.raises(InputError, match=r"but it differs \(pairs: 6 then, 4 now\)"):
        run_synthesize(tmp_path / "out", settings=settings(pairs=4), options=OPTIONS)
    run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    assert (made, later) == ([0], [1, 2])
    assert content(tmp_path / "out") == content(whole)


def test_bad_input_leaves_nothing_that_stands_in_the_way(tmp_path):
    config = settings(generation=GenerationConfig(steps=2, guidance=1, classes=("zebra",)))
    with pytest.raises(InputError, match="zebra"):
        run_synthesize(tmp_path / "out", settings=config, options=OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_keeps_finished_chunks(whole, tmp_path, monkeypatch):
    original = job._Worker._planned

    def failing(self, number):
        if number == 1:
            raise InputError("a photograph is damaged")
        return original(self, number)

    monkeypatch.setattr(job._Worker, "_planned", failing)
    for _ in range(2):
        with pytest.raises(InputError, match="a photograph is damaged"):
            run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
        kept = [path.name for path in tmp_path.glob(".warpkit-partial-*/chunks/*/*")]
        assert kept == ["00000000.tar"]
    monkeypatch.undo()
    run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    assert content(tmp_path / "out") == content(whole)


def test_killed_at_random_and_resumed(whole, tmp_path):
    """The process is killed for good, whatever it is doing."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from small_synthesis import OPTIONS, settings\n"
        "from warpkit.synthesize.run import run_synthesize\n"
        "run_synthesize(sys.argv[1], settings=settings(), options=OPTIONS)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out"), str(Path(__file__).parent)]
    staged = tmp_path.glob(".warpkit-partial-*/chunks/*/*.tar")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any(tmp_path.glob(".warpkit-partial-*/chunks/*/*")):
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in staged}
    assert not (tmp_path / "out").exists()
    run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    assert kept  # it was killed after a chunk was finished
    assert content(tmp_path / "out") == content(whole)


def test_a_full_disk_stops_cleanly_and_goes_on(whole, tmp_path, monkeypatch):
    original = Path.write_bytes
    written = []

    def full(self, data):
        if self.suffix == ".tar":
            if written:
                original(self, data[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(self)
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left on device.*run the same command again"):
        run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    monkeypatch.undo()
    assert len(list(tmp_path.glob(".warpkit-partial-*/chunks/*/*"))) == 1
    run_synthesize(tmp_path / "out", settings=settings(), options=OPTIONS)
    assert content(tmp_path / "out") == content(whole)


def test_records_do_not_depend_on_the_run(whole, tmp_path):
    """More pairs are the same pairs and then others."""
    run_synthesize(
        tmp_path / "out", settings=settings(pairs=2, formats=("webdataset",)), options=OPTIONS
    )
    from warpkit.synthesize.records import read_records

    few = [r for path in (tmp_path / "out/shards").glob("*.tar") for r in read_records(path)]
    many = {r.id: r for path in (whole / "shards").glob("*.tar") for r in read_records(path)}
    assert few
    for record in few:
        # Which pairs fill a split that would be empty depends on what else there is.
        assert {**record.meta, "split": ""} == {**many[record.id].meta, "split": ""}
        assert record.files == many[record.id].files


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two categories of three frames each in `photos`, and a broken one; `masks` beside."""
    root = tmp_path_factory.mktemp("photographs")
    for name in ("fish", "beetle"):
        for t in (0, 20, 40):
            frame = render_frame(replace(CLIPS[name], height=96, width=160), t)
            for folder, array in (("photos", frame.image), ("masks", frame.labels)):
                path = root / folder / name / f"{t}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                (warpkit.write_image if folder == "photos" else warpkit.write_labels)(path, array)
    (root / "photos/fish/broken.jpg").write_bytes(b"no image")
    return root


def test_photographs_with_masks_of_their_own(cli, photographs, tmp_path, caplog):
    ran = cli(
        "synthesize",
        *("--images", photographs / "photos", "-o", tmp_path / "out", "--pairs", 20),
        *(
            "--model",
            "tiny",
            "--set",
            "masks.kind=given",
            "--set",
            f"masks.folder={photographs / 'masks'}",
        ),
        *("--set", "splits.val=0", "--set", "splits.test=0", "--set", "quality.images=0"),
        *("--set", "labels.dense=true", "--set", "labels.filters.flip=null"),
        *("--set", "labels.filters.ratio=null", "--set", "labels.least=1"),
        *("--set", "labels.filters.affine=null", "--set", "labels.filters.cycle=null"),
    )
    assert ran.code == 0, ran.err
    assert "9 pairs, fewer than the 20 asked for" in caplog.text
    assert "unreadable image 3" in ran.out
    report = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert report["pairs"] == 9  # three frames a category and a broken one with each of three
    assert report["categories"] == {"beetle": 3, "fish": 3}
    ran = cli("synthesize", "verify", tmp_path / "out", small=False)
    assert ran.code == 0, ran.err
    assert "webdataset: 6 pairs" in ran.out


def test_known_warps_have_exact_labels(photographs, tmp_path):
    config = settings(
        images=photographs / "photos",
        known_warps=True,
        jitter=0.0,
        suffix="png",
        pairs=5,
        formats=("dhf",),
        splits=SplitConfig(val=0, test=0),
    )
    facts = run_synthesize(tmp_path / "out", settings=config, options=OPTIONS)
    assert facts["kept"] >= 3
    pairs, _ = read_synth(tmp_path / "out")
    for pair in pairs:
        source, target = (warpkit.read_image(p) for p in (pair.source_path, pair.target_path))
        (sx, sy), (tx, ty) = (
            np.floor(points.T + 0.5).astype(int)
            for points in (pair.source_points, pair.target_points)
        )
        away = np.abs(source[sy, sx].astype(int) - target[ty, tx]).mean()
        anywhere = np.abs(source[sy, sx].astype(int) - target[ty[::-1], tx[::-1]]).mean()
        assert away < 0.6 * anywhere  # the same places, up to rounding to pixels


def test_bad_input_is_one_line(cli, tmp_path):
    for arguments, message in (
        (
            ["-o", tmp_path / "a", "--model", "dinov2+tiny", "--set", "pair=3"],
            "did you mean 'pairs'",
        ),
        ([], "say where to write"),
        (["-o", tmp_path / "a", "--images", tmp_path / "none"], "is not a folder"),
        (["-o", tmp_path / "a", "--set", "masks.kind=given"], "masks.folder belongs to"),
    ):
        ran = cli("synthesize", *arguments, small=False)
        assert ran.code == 2
        assert message in ran.err


def test_no_pair_kept_says_why(tmp_path):
    config = settings(labels=PairLabelConfig(points=500, least=500))
    with pytest.raises(InputError, match=r"none of 6 pairs was kept \(too few matches 6\)"):
        run_synthesize(tmp_path / "out", settings=config, options=OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(600)  # three processes load the model; slow on a busy machine
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("at_once", [1, 2])
def test_ray_gives_the_same_set_though_a_worker_dies(whole, tmp_path, monkeypatch, at_once):
    """Two workers in processes of their own, one of which kills itself once."""
    pytest.importorskip("ray")
    monkeypatch.setattr(
        engines, "_given_at_once", lambda numbers, workers, on_gpu: batched(numbers, at_once)
    )
    monkeypatch.setenv("WARPKIT_TEST_DIE_ONCE", str(tmp_path / "died"))
    monkeypatch.setattr(job, "_Worker", DyingWorker)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    run_synthesize(tmp_path / "out", settings=settings(executor="ray", workers=2), options=OPTIONS)
    assert (tmp_path / "died").exists()
    ours, theirs = content(tmp_path / "out"), content(whole)
    # The card shows the configuration, engine included.
    ours.pop("README.md"), theirs.pop("README.md")
    assert ours == theirs


def batched(numbers, size):
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


class DyingWorker(job._Worker):
    """A worker that is killed, once among all, before it hands over the chunk after the first."""

    def chunks(self, numbers):
        for made in super().chunks(numbers):
            marker = Path(os.environ["WARPKIT_TEST_DIE_ONCE"])
            if made.number == 1 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield made
