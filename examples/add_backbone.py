"""Add a backbone in one file, and use it end to end: describe two pictures, match points.

    python examples/add_backbone.py

The backbone is a toy: colours and edges at two scales, nothing to download. A real one wraps a
network in the same way. To ship one with warpkit, move its file to `warpkit/features/` and add one
line to `_BUILT_IN` in `warpkit/features/registry.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import require
from warpkit.describe import load_extractor
from warpkit.features import Backbone, BackboneSpec, Layer, StepFeatures, register_backbone
from warpkit.match.points import match_points

# --- The backbone: what it is (`spec`) and what it yields (`features`). -------------------------


class ColourPyramid(Backbone):
    """Colours at stride 4, colours and their differences at stride 8."""

    spec = BackboneSpec(
        name="colour-pyramid",
        layers=(Layer("colours", 3, 4), Layer("edges", 9, 8)),
        steps=(0,),  # a plain network is called once
        num_steps=1,
        multiple=8,
        size=128,
        output_stride=4,
    )

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def device(self) -> torch.device:
        return self._device

    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        """Images (B, 3, H, W) in [0, 1] to maps of H / 4 and H / 8 rows."""
        fine, coarse = F.avg_pool2d(images, 4), F.avg_pool2d(images, 8)
        padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
        across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        maps = {"colours": fine, "edges": torch.cat([coarse, across, down], dim=1)}
        yield StepFeatures(entry=0, step=0, timestep=0, maps=maps)


@register_backbone("colour-pyramid")
def colour_pyramid(
    *, device: torch.device, steps: tuple[int, ...] = (0,), num_steps: int = 1
) -> Backbone:
    """The factory. `load_extractor` hands it the steps that the aggregator was trained on."""
    require((steps, num_steps) == ((0,), 1), f"colour-pyramid has one step, asked for {steps}")
    return ColourPyramid(device)


# --- Its use. ------------------------------------------------------------------------------------


def untrained_aggregator(path: Path) -> None:
    """Write an aggregator with random weights; `warpkit train aggregator` would train one."""
    spec = ColourPyramid.spec
    torch.manual_seed(0)
    network = AggregationNetwork(
        AggregationConfig(
            model=spec.name,
            layers=tuple(layer.name for layer in spec.layers),
            channels=tuple(layer.channels for layer in spec.layers),
            steps=spec.steps,
            num_steps=spec.num_steps,
            width=64,
            bottleneck=32,
            groups=8,
        )
    )
    save_aggregator(path, network)


def picture(left: int, top: int) -> npt.NDArray[np.uint8]:
    """A ball of many colours on grey, its upper left corner at (left, top): uint8 (128, 160, 3)."""
    y, x = np.mgrid[:48, :48] / 47
    ball = np.stack([x, y, 1 - (x + y) / 2], axis=-1)
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.25
    image = np.full((128, 160, 3), 96, np.uint8)
    window = image[top : top + 48, left : left + 48]
    window[inside] = (255 * ball[inside]).astype(np.uint8)
    return image


def main() -> None:
    """Match four points of a ball to the same ball elsewhere, and print where they went."""
    source, target = picture(20, 30), picture(84, 58)
    with tempfile.TemporaryDirectory() as folder:
        aggregator = Path(folder) / "aggregator.safetensors"
        untrained_aggregator(aggregator)
        extractor = load_extractor("colour-pyramid", device="cpu", aggregator=aggregator)
    source_map, target_map = extractor.describe([source, target])  # (64, 32, 40) each
    points = [[36.0, 46.0], [52.0, 46.0], [36.0, 62.0], [52.0, 62.0]]
    matches = match_points(source_map, target_map, points)
    found = matches.target_xy[:, 0]
    expected = matches.source_xy + torch.tensor([64.0, 28.0])
    error = (found - expected).norm(dim=1)
    for start, end, off in zip(points, found.tolist(), error.tolist(), strict=True):
        print(f"({start[0]:g}, {start[1]:g}) -> ({end[0]:g}, {end[1]:g}), {off:.1f} px off")
    print(f"{extractor.name}: mean error {float(error.mean()):.1f} px")


if __name__ == "__main__":
    main()
