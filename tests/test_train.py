"""Training runs: losses, views, images, and that a stopped run ends with the same weights."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from warpkit.checks import InputError
from warpkit.describe import load_extractor
from warpkit.features.tiny import UnetConfig, build_unet, load_unet
from warpkit.runs.task import content_identity
from warpkit.train import aggregator as aggregator_module
from warpkit.train import backbone as backbone_module
from warpkit.train.aggregator import AggregatorTrainConfig, train_aggregator
from warpkit.train.backbone import AlignmentConfig, BackboneTrainConfig, train_backbone
from warpkit.train.images import ImageStore, crop_views, load_images
from warpkit.train.losses import min_snr_weight, symmetric_cross_entropy
from warpkit.train.state import kept_settings, save_state, step_seed
from warpkit.train.student import Student

# Images


def save_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight random pictures in two class folders."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for i in range(8):
        coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        name = "cat" if i % 2 else "dog"
        save_png(root / name / f"{i}.png", coarse.repeat(6, 0).repeat(6, 1))
    return root


def test_a_folder_of_classes_is_read(folder):
    store = load_images(folder, side=16)
    assert store.classes == ("cat", "dog")
    assert store.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert store.pixels.shape == (8, 3, 16, 20)
    assert store.sizes.tolist() == [[16, 20]] * 8
    assert len(load_images(folder, side=16, limit=3)) == 3
    whole = load_images(folder, side=24)
    first = np.asarray(Image.open(folder / "cat" / "1.png"))
    assert np.array_equal(whole.pixels[0].permute(1, 2, 0).numpy(), first)


def write_shard(root: Path, sizes: list[tuple[int, int]]) -> None:
    blobs, items = [], []
    for j, (height, width) in enumerate(sizes):
        buffer = io.BytesIO()
        Image.fromarray(np.full((height, width, 3), 10 * j, np.uint8)).save(buffer, "PNG")
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
        contour = [[1, 5, 5], [1, 1, 7]] if j else None
        items.append({"shard": 0, "j": j, "y": j % 2, "poly": contour})
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(root / "train_00.npz", blob=np.concatenate(blobs), off=offsets)
    index = {"items": items, "classes": [["n1", "cup"], ["n2", "jug"]]}
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")


def test_shards_are_read(tmp_path):
    write_shard(tmp_path, [(16, 16), (20, 16), (16, 30)])
    store = load_images(tmp_path, side=16)
    assert store.classes == ("cup", "jug")
    assert store.labels.tolist() == [0, 1, 0]
    # The long side is cut at 176/128 of the short one.
    assert store.sizes.tolist() == [[16, 16], [20, 16], [16, 22]]
    assert store.pixels.shape == (3, 3, 20, 22)
    assert store.pixels[1, 0, 19, 15] == 10
    assert store.pixels[1, 0, 19, 16] == 0
    assert store.contours[0] is None
    assert store.contours[1].tolist() == [[1, 1], [5, 1], [5, 7]]
    # Contours follow their pictures: 4 columns are cut on the left; half the size, and no larger.
    assert store.contours[2].tolist() == [[-3, 1], [1, 1], [1, 7]]
    half = load_images(tmp_path, side=8)
    assert half.sizes.tolist() == [[8, 8], [10, 8], [8, 11]]
    assert half.contours[1].tolist() == [[0.25, 0.25], [2.25, 0.25], [2.25, 3.25]]
    larger = load_images(tmp_path, side=32)
    assert larger.sizes.tolist() == store.sizes.tolist()
    assert larger.contours[1].tolist() == store.contours[1].tolist()


def test_bad_training_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no training folder at .*nowhere"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no training images"):
        load_images(tmp_path)
    write_shard(tmp_path, [(16, 16)])
    (tmp_path / "train_00.npz").unlink()
    with pytest.raises(InputError, match=r"names train_00.npz, which is missing"):
        load_images(tmp_path)


def edit_index(root: Path, change) -> None:
    path = root / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    change(index)
    path.write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop("classes"), "must hold a JSON object with the lists items and classes"),
        (lambda i: i.update(items=[3]), "item 0 must be an object, got 3"),
        (lambda i: i.update(classes=["cup"]), r"every class must be a pair \[data set, name\]"),
        (lambda i: i["items"][1].pop("j"), "item 1 must have the numbers shard, j and y"),
        (lambda i: i["items"][1].update(y=2), r"item 1 must have .* \(a class below 2\)"),
        (lambda i: i["items"][1].update(j=2), "item 1 is picture 2 of shard 0, which has 2"),
        (lambda i: i["items"][1].update(poly=[[1], [1, 2]]), "item 1: poly must be two equally"),
        (lambda i: i["items"][1].update(poly=["a", "b"]), "item 1: poly must be two equally"),
    ],
)
def test_a_broken_index_is_refused(tmp_path, change, message):
    write_shard(tmp_path, [(16, 16), (16, 16)])
    edit_index(tmp_path, change)
    with pytest.raises(InputError, match=message):
        load_images(tmp_path, side=16)


def test_broken_files_are_refused(tmp_path):
    write_shard(tmp_path, [(16, 16)])
    shard = tmp_path / "train_00.npz"
    np.savez(shard, blob=np.zeros(9, np.uint8), off=np.array([0, 9]))
    with pytest.raises(InputError, match=r"train_00.npz: picture 0 is no picture that can be read"):
        load_images(tmp_path, side=16)
    np.savez(shard, blob=np.zeros(9, np.uint8))
    with pytest.raises(InputError, match=r"train_00.npz is no shard of pictures: expected `blob`"):
        load_images(tmp_path, side=16)
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train_00.npz is damaged or cut short"):
        load_images(tmp_path, side=16)
    (tmp_path / "index.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"index.json is not valid JSON: Expecting property name"):
        load_images(tmp_path, side=16)
    (tmp_path / "classes" / "cup").mkdir(parents=True)
    (tmp_path / "classes" / "cup" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a.png: not an image that can be read"):
        load_images(tmp_path / "classes", side=16)


def test_crops_show_their_part_of_the_image():
    """On a ramp every crop is a ramp, upright, within the image, half of them mirrored."""
    x = torch.arange(40).expand(3, 30, 40)
    pixels = torch.stack([x[0], torch.arange(30)[:, None].expand(30, 40), x[2]]) * 5
    store = ImageStore(
        pixels[None].to(torch.uint8),
        torch.tensor([[30, 40]]),
        torch.tensor([0]),
        ("a",),
        (None,),
    )
    index = torch.zeros(64, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    crops = crop_views(store, index, size=8, area=(0.25, 1.0), generator=generator) * 255 / 5
    assert crops.shape == (64, 3, 8, 8)
    slope_x, slope_y = crops[:, 0].diff(dim=2).mean((1, 2)), crops[:, 1].diff(dim=1).mean((1, 2))
    # Crops are square, their sides between sqrt(0.25) and 1 of the short side: 15 to 30 pixels.
    torch.testing.assert_close(slope_x.abs(), slope_y, rtol=0, atol=0.02)
    assert 14.9 / 8 < float(slope_y.min()) < 18 / 8
    assert 27 / 8 < float(slope_y.max()) < 30.1 / 8
    assert 16 < int((slope_x < 0).sum()) < 48
    assert float(crops[:, 0].max()) <= 39.001
    assert float(crops[:, 1].max()) <= 29.001


# Runs


def backbone_config(folder: Path, **changes) -> BackboneTrainConfig:
    config = BackboneTrainConfig(
        data=folder,
        steps=4,
        batch_size=2,
        warmup=2,
        size=16,
        channels=(8, 8),
        blocks=1,
        attention_levels=(1,),
        groups=4,
        alignment=AlignmentConfig(weight=0),
        device="cpu",
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of an uninterrupted run."""
    output = tmp_path_factory.mktemp("backbone")
    finished = train_backbone(backbone_config(folder), output)
    assert finished == output / "unet.safetensors"
    return finished


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_finished_backbone_loads_and_has_learned_something(trained, folder, tmp_path):
    _, config = load_unet(trained)
    assert config.classes == ("cat", "dog")
    assert config.channels == (8, 8)
    other = train_backbone(backbone_config(folder, seed=1), tmp_path)
    assert not same_weights(trained, other)
    log = [json.loads(line) for line in (trained.parent / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [0, 3]
    assert all(math.isfinite(row["diffusion"]) for row in log)
    run = json.loads((trained.parent / "run.json").read_text(encoding="utf-8"))
    assert run["command"] == "train backbone"
    assert run["config"]["channels"] == [8, 8]
    assert (run["steps"], run["device"], run["images"]) == (4, "cpu", 8)
    assert run["timings"]["training"] > 0
    assert run["versions"]["torch"]


def test_a_backbone_run_stopped_after_every_step_ends_with_the_same_weights(
    trained, folder, tmp_path
):
    hurried = backbone_config(folder, stop_after=1e-9)
    results = [train_backbone(hurried, tmp_path) for _ in range(4)]
    assert results == [None, None, None, tmp_path / "unet.safetensors"]
    assert same_weights(trained, results[-1])
    # A finished run finishes again at once, with nothing left to train.
    assert train_backbone(hurried, tmp_path) == results[-1]
    assert same_weights(trained, results[-1])


def test_a_killed_backbone_run_goes_on_from_its_last_state(trained, folder, tmp_path, monkeypatch):
    calls = []

    def killed(alpha_bar: Tensor, gamma: float) -> Tensor:
        calls.append(gamma)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return min_snr_weight(alpha_bar, gamma)

    monkeypatch.setattr(backbone_module, "min_snr_weight", killed)
    config = backbone_config(folder, save_every=0.0)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(config, tmp_path)
    finished = train_backbone(config, tmp_path)
    assert len(calls) == 3 + 2
    assert same_weights(trained, finished)


def test_a_backbone_state_of_another_configuration_is_refused(folder, tmp_path):
    assert train_backbone(backbone_config(folder, stop_after=1e-9), tmp_path) is None
    message = r"another configuration \(learning_rate: [\d.]+ then, 1e-05 now\): choose another o"
    with pytest.raises(InputError, match=message):
        train_backbone(backbone_config(folder, learning_rate=1e-5), tmp_path)
    torch.save({"task": "unreadable"}, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"of another configuration: choose another o"):
        train_backbone(backbone_config(folder), tmp_path)
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(InputError, match=r"state.pt cannot be read: delete it to start from the"):
        train_backbone(backbone_config(folder), tmp_path)


def test_a_run_goes_on_only_over_the_same_data(folder, tmp_path):
    output = tmp_path / "run"
    assert train_backbone(backbone_config(folder, stop_after=1e-9), output) is None
    # The same pictures elsewhere are the same data; one more is not.
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    moved = backbone_config(copy, stop_after=1e-9, save_every=7.0)
    assert train_backbone(moved, output) is None
    shutil.copy(copy / "cat" / "1.png", copy / "cat" / "9.png")
    message = r"another configuration \(data: other content\): choose another o"
    with pytest.raises(InputError, match=message):
        train_backbone(moved, output)


def test_identity_of_files_and_folders(tmp_path):
    assert content_identity(None) is None
    write_shard(tmp_path, [(16, 16)])
    index = tmp_path / "index.json"
    assert (
        content_identity(tmp_path)
        == content_identity(index)
        == sha256(index.read_bytes()).hexdigest()
    )
    edit_index(tmp_path, lambda content: content["items"][0].update(y=1))
    assert content_identity(tmp_path) == sha256(index.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["run", "a/b/run"])
def test_a_refused_run_leaves_nothing(tmp_path, place):
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(InputError, match="holds no training images"):
        train_backbone(backbone_config(data), tmp_path / place)
    data.rmdir()
    aggregator = AggregatorTrainConfig(images=data, warp_pairs=1)
    with pytest.raises(InputError):
        train_aggregator(aggregator, tmp_path / place)
    assert list(tmp_path.iterdir()) == []
    output = tmp_path / place
    output.mkdir(parents=True)
    (output / "log.jsonl").touch()
    (output / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="no training folder at"):
        train_backbone(backbone_config(data), output)
    assert sorted(path.name for path in output.iterdir()) == ["log.jsonl", "mine.txt"]


def test_a_loss_that_is_not_finite_never_gets_into_the_state(folder, tmp_path, monkeypatch):
    config = backbone_config(folder, save_every=0.0, stop_after=1e-9)
    assert train_backbone(config, tmp_path) is None
    before = (tmp_path / "state.pt").read_bytes()
    monkeypatch.setattr(backbone_module, "min_snr_weight", lambda alpha, _: alpha * math.nan)
    # Step 1 is not logged: the loss is looked at because the state is about to be written.
    with pytest.raises(InputError, match="no longer finite at step 1: lower learning_rate"):
        train_backbone(config, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_settings_of_torch_are_given_back(folder, tmp_path, monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_backbone(backbone_config(folder, stop_after=1e-9), tmp_path)
    assert torch.equal(torch.rand(3), expected)

    # The flags exist without a GPU; its random state does not.
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def flags() -> tuple[bool, bool, bool]:
        return matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = flags()
    with pytest.raises(KeyboardInterrupt), kept_settings(torch.device("cuda")):
        assert flags() == (True, True, True)
        raise KeyboardInterrupt
    assert flags() == before != (True, True, True)


@pytest.mark.parametrize("layers", [(7, 5), (5, 5), (-1, 3), (5, 12)])
def test_alignment_layers_must_increase(layers):
    with pytest.raises(InputError, match="layers must be decoder layers from 0 to 11 in strictly"):
        AlignmentConfig(layers=layers)


def test_an_aligned_layer_must_be_there():
    unet = build_unet(UnetConfig(channels=(8, 8), blocks=1, attention_levels=(), groups=4))
    with pytest.raises(InputError, match=r"names layer 7, but this UNet's decoder has 4 layers"):
        Student(unet, (1, 7), 3)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_output_that_cannot_be_made_is_refused(folder, tmp_path, below):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / below
    with pytest.raises(InputError, match=r"cannot write to .*file.*; choose another output folder"):
        train_backbone(backbone_config(folder), output)
    with pytest.raises(InputError, match=r"cannot write to .*file.*; choose another output folder"):
        train_aggregator(AggregatorTrainConfig(device="cpu"), output)


def test_a_state_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*state.pt: .+") as caught:
        save_state(tmp_path / "gone", {}, done=1, seconds=0.0, content={})
    assert "\n" not in str(caught.value)


def test_bad_backbone_runs_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="batch_size and steps must be positive"):
        train_backbone(backbone_config(folder, steps=0), tmp_path)
    with pytest.raises(InputError, match="no training folder at"):
        train_backbone(backbone_config(tmp_path / "none"), tmp_path)


def aggregator_config(folder: Path, weights: Path, **changes) -> AggregatorTrainConfig:
    config = AggregatorTrainConfig(
        images=folder,
        weights=weights,
        warp_pairs=2,
        keypoint_pairs=0,
        contour_pairs=0,
        size=16,
        width=8,
        bottleneck=4,
        groups=2,
        steps=4,
        device="cpu",
    )
    return dataclasses.replace(config, **changes)


def test_an_aggregator_run_stopped_after_every_step_ends_with_the_same_weights(
    trained, folder, tmp_path
):
    config = aggregator_config(folder, trained)
    whole = train_aggregator(config, tmp_path / "whole")
    assert whole == tmp_path / "whole" / "aggregator.safetensors"
    hurried = dataclasses.replace(config, stop_after=1e-9)
    results = [train_aggregator(hurried, tmp_path / "parts") for _ in range(4)]
    assert results[:3] == [None] * 3
    assert same_weights(whole, results[3])
    with pytest.raises(InputError, match=r"\(learning_rate: .* then, 1\.0 now\): choose another o"):
        train_aggregator(dataclasses.replace(config, learning_rate=1.0), tmp_path / "parts")
    run = json.loads((whole.parent / "run.json").read_text(encoding="utf-8"))
    assert run["command"] == "train aggregator"
    assert run["config"]["bottleneck"] == 4
    assert run["steps"] == 4
    assert run["inputs"]["weights"] == sha256(trained.read_bytes()).hexdigest()
    assert run["inputs"]["keypoints"] is None

    # What was trained is what `load_extractor` reads.
    extractor = load_extractor("tiny", device="cpu", aggregator=whole, weights=trained, size=16)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    (found,) = extractor.describe([image])
    # 16 x 21 pixels, two a cell: the centre of an eleventh column would lie on the edge.
    assert found.data.shape == (8, 8, 10)


def test_an_aggregator_run_goes_on_only_over_the_same_files(trained, folder, tmp_path):
    start = train_aggregator(aggregator_config(folder, trained, steps=1), tmp_path / "start")
    config = aggregator_config(folder, trained, initial=start, stop_after=1e-9)
    assert train_aggregator(config, tmp_path / "run") is None
    other = train_backbone(backbone_config(folder, seed=1), tmp_path / "other")
    later = train_aggregator(aggregator_config(folder, trained, steps=2), tmp_path / "later")
    (tmp_path / "images").mkdir()
    write_shard(tmp_path / "images", [(16, 16), (20, 16)])
    for changes in ({"weights": other}, {"initial": later}, {"images": tmp_path / "images"}):
        with pytest.raises(InputError, match="holds a run of another configuration"):
            train_aggregator(dataclasses.replace(config, **changes), tmp_path / "run")
    moved = tmp_path / "moved.safetensors"
    shutil.copy(start, moved)
    assert train_aggregator(dataclasses.replace(config, initial=moved), tmp_path / "run") is None


def test_an_aggregator_state_stays_finite(trained, folder, tmp_path, monkeypatch):
    config = aggregator_config(folder, trained, stop_after=1e-9)
    assert train_aggregator(config, tmp_path) is None
    before = (tmp_path / "state.pt").read_bytes()

    def infinite(*inputs, **options) -> Tensor:
        return symmetric_cross_entropy(*inputs, **options) * math.inf

    monkeypatch.setattr(aggregator_module, "symmetric_cross_entropy", infinite)
    with pytest.raises(InputError, match="no longer finite at step 1: lower learning_rate"):
        train_aggregator(config, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_an_aggregator_learns_its_pairs(trained, folder, tmp_path):
    config = aggregator_config(folder, trained, steps=40, learning_rate=0.01, warp_pairs=4)
    train_aggregator(config, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [0, 39]
    assert log[-1]["warps"] < log[0]["warps"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"images": None}, "warp_pairs and contour_pairs need `images`, a training folder"),
        ({"keypoint_pairs": 1}, "keypoint_pairs needs `keypoints`, a folder with a JSON index"),
        (
            {"warp_pairs": 0},
            "no training pairs: set pairs, warp_pairs, keypoint_pairs or ",
        ),
    ],
)
def test_bad_aggregator_runs_are_refused(trained, folder, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train_aggregator(aggregator_config(folder, trained, **changes), tmp_path)


def test_every_seed_draws_its_own_batches_on_every_device() -> None:
    # On the CPU torch reads the lower 32 bits of a seed alone.
    seeds = {step_seed(seed, step) % 2**32 for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000
    assert [step_seed(0, step) for step in (0, 7, 1003)] == [0, 7, 1003]
    first, second = (
        torch.rand(4, generator=torch.Generator().manual_seed(step_seed(seed, 5)))
        for seed in (1, 2)
    )
    assert not torch.equal(first, second)
