"""The extractor: any images in, one map each, at the right place; models found or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError
from warpkit.coords import lattice_sites, sample_descriptors
from warpkit.describe import Extractor, load_extractor, resolve_model
from warpkit.features import Backbone, BackboneSpec, Layer, StepFeatures, register_backbone


class PoolingBackbone(Backbone):
    """Two pooled copies of the input and their squares, as if they were layers."""

    def __init__(
        self, *, steps: tuple[int, ...] = (0, 1), num_steps: int = 2, name: str = "pooling"
    ) -> None:
        self.spec = BackboneSpec(
            name=name,
            layers=(Layer("fine", 3, 4), Layer("coarse", 6, 8)),
            steps=steps,
            num_steps=num_steps,
            multiple=8,
            size=32,
            output_stride=4,
        )
        self.batches: list[tuple[int, ...]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        self.batches.append(tuple(images.shape))
        for entry, step in enumerate(self.spec.steps):
            fine = F.avg_pool2d(images * (1 + entry), 4)
            coarse = F.avg_pool2d(torch.cat([images, images**2], 1), 8)
            yield StepFeatures(entry, step, step, {"fine": fine, "coarse": coarse})


@register_backbone("pooling-of-the-tests")
def pooling_backbone(*, device: torch.device, steps: tuple[int, ...], num_steps: int) -> Backbone:
    assert device.type == "cpu"
    return PoolingBackbone(steps=steps, num_steps=num_steps)


def network(**changes: object) -> AggregationNetwork:
    torch.manual_seed(0)
    values = {
        "model": "pooling",
        "layers": ("fine", "coarse"),
        "channels": (3, 6),
        "steps": (0, 1),
        "num_steps": 2,
        "width": 8,
        "bottleneck": 4,
        "groups": 2,
    }
    return AggregationNetwork(AggregationConfig(**values | changes)).eval()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_of_one_size_share_batches_and_keep_their_order():
    backbone = PoolingBackbone()
    extractor = Extractor(backbone, network(), batch_size=2)
    sizes = [(40, 50), (30, 30), (40, 50), (40, 50), (30, 30), (40, 50), (40, 50)]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    maps = extractor.describe(images)
    assert [shape[0] for shape in backbone.batches] == [2, 2, 1, 2]
    assert backbone.batches[0] == (2, 3, 32, 40)
    assert backbone.batches[3] == (2, 3, 32, 32)
    assert [(m.height, m.width) for m in maps] == sizes
    for image, found in zip(images, maps, strict=True):
        (alone,) = extractor.describe([image])
        torch.testing.assert_close(found.data, alone.data, rtol=1e-5, atol=1e-5)
    assert extractor.describe([]) == []


def test_many_megapixels_are_resized_one_by_one(monkeypatch):
    extractor = Extractor(PoolingBackbone(), network(), size=16)
    images = [picture(40, 52, seed=i) for i in range(5)]
    together = [item.data for item in extractor.describe(images)]
    for pixels in (1, 2 * 40 * 52):
        monkeypatch.setattr("warpkit.describe.extractor._TOGETHER", pixels)
        for found, expected in zip(extractor.describe(images), together, strict=True):
            assert torch.equal(found.data, expected)


def test_padding_is_cropped_and_cells_keep_their_place():
    extractor = Extractor(PoolingBackbone(), network(), size=16)
    # Short side 16: 16 x 21 pixels in an input of 16 x 24, 4 pixels a cell.
    (found,) = extractor.describe([picture(48, 63)])
    assert found.grid_size == (4, 5)
    assert found.data.dtype == torch.float32
    assert (found.cell_height, found.cell_width) == (12.0, 12.0)
    assert extractor.plan(height=48, width=63).input_width == 24


class ColourNetwork(AggregationNetwork):
    """Gives the fine layer as it is."""

    def forward(self, steps, grid):
        return next(iter(steps)).maps["fine"]


def test_descriptors_lie_where_their_pixels_are():
    """Blocks of one colour per cell: the descriptor at a cell's centre is that colour."""
    backbone = PoolingBackbone()
    config = network().config
    extractor = Extractor(backbone, ColourNetwork(config), size=12)
    colours = picture(3, 5, seed=1)
    image = colours.repeat(9, 0).repeat(9, 1)
    # 27 x 45 is resized to 12 x 20 in an input of 16 x 24: 3 x 5 cells are the image.
    (found,) = extractor.describe([image])
    assert found.grid_size == (3, 5)
    sites = lattice_sites(height=27, width=45, rows=3, columns=5)
    expected = F.normalize(torch.from_numpy(colours.reshape(-1, 3)).float(), dim=1)
    read = sample_descriptors(found, sites.xy)
    assert float((read * expected).sum(1).min()) > 0.99
    centre = image[13, 4 + 9 * 2]
    torch.testing.assert_close(
        found.data[:, 1, 2], torch.from_numpy(centre) / 255, rtol=0, atol=0.1
    )


def test_stretch_uses_a_square_input():
    backbone = PoolingBackbone()
    extractor = Extractor(backbone, network(), fit="stretch")
    (found,) = extractor.describe([picture(20, 50)])
    assert backbone.batches == [(1, 3, 32, 32)]
    assert found.grid_size == (8, 8)
    assert (found.cell_height, found.cell_width) == (2.5, 6.25)


def test_no_gradients_are_kept():
    (found,) = Extractor(PoolingBackbone(), network()).describe([picture(32, 32)])
    assert not found.data.requires_grad


def test_bad_images_and_settings_are_refused():
    extractor = Extractor(PoolingBackbone(), network())
    with pytest.raises(InputError, match=r"image 1 must be a uint8 RGB array .*got float64"):
        extractor.describe([picture(8, 8), np.zeros((8, 8, 3))])
    with pytest.raises(InputError, match="batch_size must be positive, got 0"):
        Extractor(PoolingBackbone(), network(), batch_size=0)
    with pytest.raises(InputError, match="size must be 1 pixel or more, got 0"):
        Extractor(PoolingBackbone(), network(), size=0)
    with pytest.raises(
        InputError, match=r"the aggregator \(for 'pooling'\) does not fit the backb"
    ):
        Extractor(PoolingBackbone(steps=(0,)), network())


# load_extractor


def test_a_registered_backbone_loads_with_its_aggregator(tmp_path):
    file = tmp_path / "aggregator.safetensors"
    trained = network(steps=(0, 3), num_steps=4)
    save_aggregator(file, trained)
    extractor = load_extractor("pooling-of-the-tests", device="cpu", aggregator=file, size=16)
    # The backbone records the steps that the aggregator was made for.
    assert extractor.backbone.spec.steps == (0, 3)
    assert extractor.name == "pooling-of-the-tests"
    assert extractor.size == 16
    assert extractor.device == torch.device("cpu")
    (found,) = extractor.describe([picture(16, 24)])
    assert found.data.shape == (8, 4, 6)
    again = load_extractor("pooling-of-the-tests", device="cpu", aggregator=str(file), size=16)
    assert torch.equal(again.describe([picture(16, 24)])[0].data, found.data)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(InputError) as caught:
        load_extractor("sd15-onestp", device="cpu")
    message = str(caught.value)
    assert message.startswith("unknown model 'sd15-onestp': expected one of embedded,")
    assert message.endswith("Did you mean 'sd15-onestep'?")
    with pytest.raises(InputError, match=r"unknown model './nowhere': expected one of"):
        load_extractor("./nowhere")


def test_a_model_without_an_aggregator_says_so(tmp_path):
    for model in ("pooling-of-the-tests", str(tmp_path), "someone/something"):
        with pytest.raises(InputError, match=f"model '{model}' has no aggregator of its own: give"):
            load_extractor(model, device="cpu")


def test_an_aggregator_of_another_model_names_both(tmp_path):
    file = tmp_path / "other.safetensors"
    save_aggregator(file, network(model="elsewhere", channels=(3, 7)))
    with pytest.raises(
        InputError,
        match=r"other.safetensors \(for 'elsewhere'\) does not fit the backbone 'pooling': it"
        r" expects layers of \[3, 7\] channels, the backbone gives \[3, 6\]",
    ):
        load_extractor("pooling-of-the-tests", device="cpu", aggregator=file)


def test_a_missing_aggregator_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no aggregator checkpoint at .*none.pt"):
        load_extractor("pooling-of-the-tests", device="cpu", aggregator=tmp_path / "none.pt")


def test_an_error_without_a_text_is_named_by_its_class(monkeypatch):
    import huggingface_hub

    def download(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError, match=r"nor reachable: OSError\. Download it"):
        load_extractor("sd21", device="cpu", local_files_only=True)


def test_a_published_aggregator_is_looked_for_in_the_cache_alone(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(
        repository: str, file: str, *, local_files_only: bool, revision: str | None
    ) -> str:
        asked.append((repository, file, local_files_only))
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError) as caught:
        load_extractor("sd21", device="cpu", local_files_only=True)
    repository, file = "g-luo/diffusion-hyperfeatures", "weights/aggregation_network_sdv2-1.pt"
    assert asked == [(repository, file, True)]
    assert str(caught.value) == (
        f"the aggregator of 'sd21' ({repository}, {file}) is neither in the local cache nor"
        " reachable: not in the cache. Download it on a connected machine and give it with"
        " --aggregator FILE"
    )


def test_models_are_resolved(tmp_path):
    assert resolve_model("sd15-onestep").options == {"model": "sd15"}
    assert resolve_model("sd15-onestep").trained_on == "sd15"
    folder = resolve_model(str(tmp_path))
    assert (folder.backbone, folder.options) == ("stable-diffusion", {"model": str(tmp_path)})
    assert resolve_model("someone/something").backbone == "stable-diffusion"


def test_the_import_is_light():
    code = (
        "import sys, warpkit.aggregate\n"
        "heavy = {'diffusers', 'transformers', 'kornia', 'cv2', 'faiss', 'gradio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


class SmallMemory(PoolingBackbone):
    """Describes at most `room` images at once."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error = room, error

    def features(self, images):
        if len(images) > self.room:
            raise self.error
        return super().features(images)


GPU_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU_FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")


@pytest.mark.parametrize("error", [GPU_FULL, CPU_FULL, MemoryError("full")])
def test_out_of_memory_says_the_batch_size_that_fits(error):
    extractor = Extractor(SmallMemory(3, error), network(), size=16, batch_size=8)
    images = [picture(20, 20, seed=i) for i in range(8)]
    with pytest.raises(InputError, match=r"batch of 8 images.*a batch of 2 fits.*batch_size=2"):
        extractor.describe(images)
    assert len(extractor.describe(images[:3])) == 3


def test_out_of_memory_with_one_image_says_so():
    extractor = Extractor(SmallMemory(0, GPU_FULL), network(), size=16)
    with pytest.raises(InputError, match=r"not even one image fits, use a smaller --size"):
        extractor.describe([picture(20, 20)])


def test_another_runtime_error_is_passed_on():
    extractor = Extractor(SmallMemory(0, RuntimeError("shapes differ")), network(), size=16)
    with pytest.raises(RuntimeError, match="shapes differ"):
        extractor.describe([picture(20, 20)])


def test_descriptors_that_are_no_numbers_are_an_error():
    broken = network()
    broken.bottleneck_layers[0][0].conv3.norm.bias.data[0] = float("nan")
    extractor = Extractor(PoolingBackbone(), broken, size=16)
    with pytest.raises(InputError, match="no finite numbers"):
        extractor.describe([picture(20, 20)])
