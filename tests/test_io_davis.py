"""The DAVIS folder layout, in small trees as distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.io.davis import DavisSequence, read_davis, read_davis_labels, read_davis_split
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


def test_a_sequence_needs_a_mask_for_every_frame() -> None:
    with pytest.raises(InputError, match="2 frames and 1 masks"):
        DavisSequence("dog", (Path("0.jpg"), Path("1.jpg")), (Path("0.png"),))


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
