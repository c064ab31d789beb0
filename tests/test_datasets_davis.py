"""The DAVIS folder layout, in small trees as distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.datasets.davis import (
    DavisSequence,
    read_davis,
    read_davis_labels,
    read_davis_split,
    read_davis_year,
)
from warpkit.io.masks import write_labels


def make_tree(root: Path, lengths: dict[str, int], resolution: str = "480p") -> None:
    for name, length in lengths.items():
        frames = root / "JPEGImages" / resolution / name
        masks = root / "Annotations" / resolution / name
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for i in range(length):
            Image.new("RGB", (8, 6), (i, 0, 0)).save(frames / f"{i:05d}.jpg")
            Image.new("L", (8, 6), 255).save(masks / f"{i:05d}.png")


def test_sequences_frames_and_masks_in_order(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 3, "bear": 2})
    sequences, problems = read_davis(tmp_path)
    assert problems == []
    assert [(s.name, len(s)) for s in sequences] == [("bear", 2), ("dog", 3)]
    dog = sequences[1]
    assert dog.frame_paths[2] == tmp_path / "JPEGImages/480p/dog/00002.jpg"
    assert [p.name for p in dog.mask_paths] == ["00000.png", "00001.png", "00002.png"]


def test_chosen_sequences_keep_their_order(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 3, "bear": 2, "cow": 3})
    sequences, _ = read_davis(tmp_path, sequences=["dog", "bear"])
    assert [s.name for s in sequences] == ["dog", "bear"]
    with pytest.raises(InputError, match=r"unknown sequence 'dgo'.*Did you mean 'dog'"):
        read_davis(tmp_path, sequences=["dgo"])


def test_other_resolution(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 1}, "Full-Resolution")
    assert len(read_davis(tmp_path, resolution="Full-Resolution")[0]) == 1
    with pytest.raises(InputError, match="not a DAVIS folder"):
        read_davis(tmp_path)


def test_splits_of_both_editions(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 2, "bear": 2, "cow": 2})
    new, old = tmp_path / "ImageSets/2017", tmp_path / "ImageSets/480p"
    new.mkdir(parents=True)
    old.mkdir(parents=True)
    (new / "val.txt").write_text("dog\nbear\n")
    (old / "val.txt").write_text(
        "/JPEGImages/480p/cow/00000.jpg /Annotations/480p/cow/00000.png\n"
        "/JPEGImages/480p/cow/00001.jpg /Annotations/480p/cow/00001.png \n"
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\n"
    )
    assert read_davis_split(tmp_path, "480p/val") == ["cow", "bear"]
    assert [s.name for s in read_davis(tmp_path, split="2017/val")[0]] == ["dog", "bear"]
    with pytest.raises(InputError, match=r"no split '2016/val'.*2017/val, 480p/val"):
        read_davis(tmp_path, split="2016/val")


def test_broken_sequences_are_listed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 3, "bear": 3, "cow": 3, "elk": 1})
    (tmp_path / "Annotations/480p/bear/00001.png").unlink()
    (tmp_path / "JPEGImages/480p/cow/00002.jpg").unlink()
    (tmp_path / "JPEGImages/480p/elk/00000.jpg").unlink()
    (tmp_path / "JPEGImages/480p/fox").mkdir()
    sequences, problems = read_davis(tmp_path)
    assert [s.name for s in sequences] == ["dog"]
    assert len(problems) == 4
    assert "'bear' lacks the mask of 1 of its 3 items (00001)" in problems[0]
    assert "'cow' lacks the frame of 1 of its 3 items (00002)" in problems[1]
    assert "'elk' has no frames" in problems[2]
    assert "'fox' has no frames" in problems[3]
    with pytest.raises(InputError, match="no usable sequence"):
        read_davis(tmp_path, sequences=["fox"])


def test_a_sequence_needs_masks_of_its_frames_and_of_the_first() -> None:
    frames = (Path("0.jpg"), Path("1.jpg"))
    assert DavisSequence("dog", frames, (Path("0.png"),)).annotated == [0]
    for masks in ((), (Path("1.png"),), (Path("0.png"), Path("2.png"))):
        with pytest.raises(InputError, match=f"got 2 frames and {len(masks)} masks"):
            DavisSequence("dog", frames, masks)


def test_labels_of_both_editions(tmp_path: Path) -> None:
    grey = np.zeros((6, 9), np.uint8)
    grey[2:4, 3:7] = 255
    Image.fromarray(grey).save(tmp_path / "2016.png")
    assert (read_davis_labels(tmp_path / "2016.png") == (grey > 0)).all()

    ids = np.zeros((6, 9), np.uint8)
    ids[1:3, 1:4], ids[4:, 5:], ids[0, 8] = 1, 3, 255
    write_labels(tmp_path / "2017.png", ids)
    labels = read_davis_labels(tmp_path / "2017.png")
    assert labels.dtype == np.uint8
    assert (labels == np.where(ids == 255, 0, ids)).all()

    Image.new("L", (9, 6), 0).save(tmp_path / "empty.png")
    assert not read_davis_labels(tmp_path / "empty.png").any()


def write_gray(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_2016_as_distributed(tmp_path: Path) -> None:
    mask = np.zeros((6, 8))
    mask[2:4, 3:7] = 255
    lines: dict[str, list[str]] = {"480p": [], "1080p": []}
    for resolution, scale in (("480p", 1), ("1080p", 2)):
        for name in ("bear", "blackswan"):
            for t in range(3):
                frame = f"/JPEGImages/{resolution}/{name}/{t:05d}.jpg"
                truth = f"/Annotations/{resolution}/{name}/{t:05d}.png"
                write_gray(tmp_path / frame[1:], np.zeros((6 * scale, 8 * scale)))
                write_gray(tmp_path / truth[1:], mask.repeat(scale, 0).repeat(scale, 1))
                lines[resolution].append(f"{frame} {truth} \n")
    for resolution, some in lines.items():
        folder = tmp_path / "ImageSets" / resolution
        folder.mkdir(parents=True)
        (folder / "train.txt").write_text("".join(some[:3]))
        (folder / "val.txt").write_text("".join(some[3:]))
        (folder / "trainval.txt").write_text("".join(some))

    for resolution in lines:
        for year in (None, "2016"):
            (swan,), problems = read_davis(
                tmp_path, resolution=resolution, split=f"{resolution}/val", year=year
            )
            assert problems == []
            assert (swan.name, len(swan), swan.known_year()) == ("blackswan", 3, "2016")
            assert [np.unique(labels).tolist() for labels in swan.labels()] == [[0, 1]] * 3
    assert len(read_davis(tmp_path, split="480p/trainval")[0]) == 2
    # Read as 2017, 255 is void: no object is left.
    (swan,), _ = read_davis(tmp_path, split="480p/val", year="2017")
    assert not any(labels.any() for labels in swan.labels())


def test_2017_as_distributed(tmp_path: Path) -> None:
    ids = np.zeros((6, 8), np.uint8)
    ids[1:3, 1:4], ids[4:, 5:], ids[0, 7] = 1, 2, 255
    for resolution in ("480p", "Full-Resolution"):
        for name in ("bike-packing", "dogs-jump"):
            for t in range(3):
                frame = tmp_path / f"JPEGImages/{resolution}/{name}/{t:05d}.jpg"
                write_gray(frame, np.zeros((6, 8)))
                truth = tmp_path / f"Annotations/{resolution}/{name}/{t:05d}.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                # In the last frame both objects are gone, void is not.
                write_labels(truth, np.where((t < 2) | (ids == 255), ids, 0).astype(np.uint8))
    for year, train, val in (
        ("2016", ["bike-packing"], ["dogs-jump"]),
        ("2017", ["dogs-jump"], ["bike-packing"]),
    ):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        for split, names in (("train", train), ("val", val)):
            (tmp_path / f"ImageSets/{year}/{split}.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "README.md").write_text("DAVIS")
    (tmp_path / "Annotations/480p/dogs-jump/.00000.png").write_text("left by a file manager")

    assert read_davis(tmp_path, split="2017/train")[0][0].name == "dogs-jump"
    for resolution in ("480p", "Full-Resolution"):
        sequences, problems = read_davis(tmp_path, resolution=resolution)
        assert (len(sequences), problems) == (2, [])
        for year in (None, "2017"):
            (bike,), _ = read_davis(tmp_path, resolution=resolution, split="2017/val", year=year)
            assert (bike.name, bike.known_year()) == ("bike-packing", "2017")
            assert [np.unique(labels).tolist() for labels in bike.labels()] == [
                [0, 1, 2], [0, 1, 2], [0],
            ]  # fmt: skip
    # The 2016 protocol on these annotations: one object, all of them together.
    (jump,), _ = read_davis(tmp_path, split="2016/val", year="2016")
    assert (next(jump.labels()) == (ids > 0)).all()


def test_a_year_there_is_not(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": 1})
    with pytest.raises(InputError, match="unknown DAVIS year '2018': expected one of 2016, 2017"):
        read_davis(tmp_path, year="2018")
    with pytest.raises(InputError, match="unknown DAVIS year"):
        read_davis_labels(tmp_path / "Annotations/480p/dog/00000.png", year="17")
    with pytest.raises(InputError, match="unknown DAVIS year"):
        DavisSequence("dog", (Path("0.jpg"),), (Path("0.png"),), "2018")


@pytest.mark.parametrize("ramp", [False, True])
def test_a_lone_gray_id_stays_itself(tmp_path: Path, ramp: bool) -> None:
    values = np.zeros((6, 9), np.uint8)
    values[2:4, 3:7] = 2
    image = Image.fromarray(values)
    if ramp:
        image.putpalette(np.arange(256, dtype=np.uint8).repeat(3).tobytes())
    image.save(tmp_path / "mask.png")
    assert (read_davis_labels(tmp_path / "mask.png") == values).all()
    assert (read_davis_labels(tmp_path / "mask.png", year="2017") == values).all()
    assert (read_davis_labels(tmp_path / "mask.png", year="2016") == (values > 0)).all()


def test_black_and_white_palettes_and_other_kinds(tmp_path: Path) -> None:
    mask = np.zeros((6, 9), bool)
    mask[2:4, 3:7] = True
    white_first = Image.fromarray((~mask).astype(np.uint8))
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    kinds = {
        "white first": white_first,
        "one bit": Image.fromarray(mask),
        "colour": Image.fromarray((mask * np.uint8(255))[..., None].repeat(3, -1)),
        "all white": Image.new("L", (9, 6), 255),
    }
    for name, image in kinds.items():
        path = tmp_path / f"{name}.png"
        image.save(path)
        expected = np.ones_like(mask) if name == "all white" else mask
        for year in (None, "2016"):
            assert (read_davis_labels(path, year=year) == expected).all(), name
    assert read_davis_year(tmp_path / "white first.png") == "2016"
    assert read_davis_year(tmp_path / "all white.png") == "2016"
    Image.new("L", (9, 6), 0).save(tmp_path / "empty.png")
    assert read_davis_year(tmp_path / "empty.png") == "2017"


@pytest.mark.parametrize("end", ["JPG", "jpeg", "PNG", "bmp", "webp", "TIF"])
def test_images_of_any_ending(tmp_path: Path, end: str) -> None:
    frames, masks = (tmp_path / f"{top}/480p/dog" for top in ("JPEGImages", "Annotations"))
    for folder in (frames, masks):
        folder.mkdir(parents=True)
    ids = np.zeros((6, 8), np.uint8)
    ids[2:4, 3:7] = 3
    ending = end if end.lower() in ("png", "bmp", "tif", "webp") else "png"
    image = Image.fromarray(ids)
    for t in range(3):
        Image.new("RGB", (8, 6), (t, 0, 0)).save(frames / f"{t:05d}.{end}")
        if ending == "webp":
            image.convert("RGB").save(masks / f"{t:05d}.webp", lossless=True)
        else:
            image.save(masks / f"{t:05d}.{ending}")
    (dog,), problems = read_davis(tmp_path, year="2017")
    assert problems == []
    assert [path.name for path in dog.frame_paths] == [f"{t:05d}.{end}" for t in range(3)]
    assert [path.name for path in dog.mask_paths] == [f"{t:05d}.{ending}" for t in range(3)]
    assert [np.unique(labels).tolist() for labels in dog.labels()] == [[0, 3]] * 3


def make_sparse(root: Path, name: str, frames: range, annotated: range) -> None:
    """A clip as YouTube-VOS and MOSE lay it out."""
    for top, numbers, end in (("JPEGImages", frames, "jpg"), ("Annotations", annotated, "png")):
        (root / top / name).mkdir(parents=True)
        for n in numbers:
            image = Image.new("RGB", (8, 6), (n, 0, 0)) if end == "jpg" else None
            file = root / top / name / f"{n:05d}.{end}"
            if image is not None:
                image.save(file)
            else:
                write_labels(file, np.full((6, 8), 1 + (n > 9), np.uint8))


def test_layout_without_a_resolution(tmp_path: Path) -> None:
    make_sparse(tmp_path, "0a2f", range(30), range(5, 26, 5))
    make_sparse(tmp_path, "whole", range(1, 5), range(1, 5))
    make_sparse(tmp_path, "lost", range(9), range(0, 20, 5))
    make_sparse(tmp_path, "test", range(9), range(0))
    (sparse, whole), problems = read_davis(tmp_path)
    # Carried from the first annotated frame, and no farther than the last.
    assert [path.stem for path in sparse.frame_paths] == [f"{n:05d}" for n in range(5, 26)]
    assert [path.stem for path in sparse.mask_paths] == [f"{n:05d}" for n in range(5, 26, 5)]
    assert (sparse.annotated, len(sparse)) == ([0, 5, 10, 15, 20], 21)
    assert [np.unique(ids).tolist() for ids in sparse.labels()] == [[1], [2], [2], [2], [2]]
    assert (whole.annotated, len(whole)) == ([0, 1, 2, 3], 4)
    assert len(problems) == 2
    assert "'lost' lacks the frame of 2 of its 4 items (00010, 00015)" in problems[0]
    assert "'test' has no masks" in problems[1]
