"""Look into a synthesised set: a folder with `pairs.json` and its images.

In: the folder. Out: its pairs with what is known of each, and pictures of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from warpkit.arrays import Image, mask_box
from warpkit.checks import InputError, is_file, require
from warpkit.datasets.dhf import read_dhf_item, write_dhf_json
from warpkit.datasets.json_fields import check_folder, load_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.render import CLIPS, RenderedFrame, render_frame
from warpkit.viz import draw_matches, overlay_labels, panel

__all__ = ["MadeSet", "SetPair", "draw_pair", "draw_pairs", "read_set", "write_rendered_set"]


LISTS = ("pairs.json", "pairs_val.json", "pairs_test.json")


@dataclass(frozen=True, eq=False)
class SetPair:
    """A pair of a set.

    Attributes:
        pair: images, points, boxes and category.
        facts: whatever else its list says of it: id, prompts, seeds, scores.
        masks: files of the source's and the target's mask, None where the set has none.
    """

    pair: AnnotatedPair
    facts: Mapping[str, Any]
    masks: tuple[Path | None, Path | None] = (None, None)


@dataclass(frozen=True, eq=False)
class MadeSet:
    """A set that was read.

    Attributes:
        root: its folder.
        pairs: the usable ones, in the order of its lists.
        problems: one line for every other.
    """

    root: Path
    pairs: tuple[SetPair, ...]
    problems: tuple[str, ...]

    @property
    def categories(self) -> dict[str, int]:
        """Pairs of every category, the most frequent first."""
        return dict(Counter(one.pair.category for one in self.pairs).most_common())

    @property
    def points(self) -> int:
        """Labelled points of all pairs."""
        return sum(len(one.pair) for one in self.pairs)

    def of(self, category: str | None) -> list[SetPair]:
        """The pairs of a category; all for None."""
        return [one for one in self.pairs if category in (None, one.pair.category)]


_SHOWN = {
    *("source_path", "target_path", "source_points", "target_points"),
    *("source_bounding_box", "target_bounding_box", "category"),
}


def read_set(root: Path | str) -> MadeSet:
    """Read a set's lists (`pairs.json`, and those of validation and test where there are any).

    Raises:
        InputError: no such folder, no list in it, or no usable pair.
    """
    root = check_folder(root, "a synthesised set with pairs.json and its images")
    lists = [root / name for name in LISTS if (root / name).is_file()]
    require(bool(lists), f"{root} holds no pairs.json: expected a synthesised set")
    pairs, problems = [], []
    for path in lists:
        items = load_json(path)
        require(isinstance(items, list), f"{path} must hold a JSON list of pairs")
        for position, item in enumerate(items):
            try:
                pair = read_dhf_item(item, root)
                for image in (pair.source_path, pair.target_path):
                    require(
                        image.resolve().is_relative_to(root.resolve()),
                        f"{image} lies outside the set",
                    )
            except InputError as error:
                problems.append(f"{path.name} item {position}: {error}")
                continue
            facts = {key: value for key, value in item.items() if key not in _SHOWN}
            masks = _mask_file(item, "source", root), _mask_file(item, "target", root)
            pairs.append(SetPair(pair, {"list": path.name, **facts}, masks))
    require(
        bool(pairs),
        f"no usable pair in {root}: {problems[0] if problems else 'its list is empty'}",
    )
    return MadeSet(root, tuple(pairs), tuple(problems))


def _mask_file(item: Mapping[str, Any], role: str, root: Path) -> Path | None:
    """The file that an item names as a mask, or `<image>_mask.png`, if it is there in the set."""
    image = Path(str(item[f"{role}_path"]))
    path = root / str(item.get(f"{role}_mask", image.with_name(f"{image.stem}_mask.png")))
    inside = path.resolve().is_relative_to(root.resolve())
    return path if inside and is_file(path) else None


def _outlined(image: Path, mask: Path | None) -> Image:
    """An image with the outline of its mask; the mask is left out where it does not fit."""
    pixels = read_image(image)
    if mask is None:
        return pixels
    labels = read_labels(mask)
    return overlay_labels(pixels, labels, alpha=0) if labels.shape == pixels.shape[:2] else pixels


def draw_pair(one: SetPair, *, points: int = 60, height: int = 480) -> Image:
    """Both images of a pair with their masks outlined, and their corresponding points, as uint8
    RGB.

    Args:
        points: the most that are drawn.
    """
    pair = one.pair
    return draw_matches(
        _outlined(pair.source_path, one.masks[0]),
        _outlined(pair.target_path, one.masks[1]),
        pair.source_points[:points],
        pair.target_points[:points],
        height=height,
    )


def draw_pairs(pairs: list[SetPair], *, first: int = 0, columns: int = 2) -> Image:
    """A contact sheet of pairs, as uint8 RGB.

    Args:
        first: number of the first one, for the titles.
    """
    tiles = [
        (f"{first + number}  {one.pair.category}", draw_pair(one, points=12, height=240))
        for number, one in enumerate(pairs)
    ]
    return panel(tiles, columns=columns, height=240)


def write_rendered_set(
    output: Path, *, count: int = 60, points: int = 12, seed: int = 0, supersampling: int = 3
) -> list[AnnotatedPair]:
    """Write annotated pairs with exact correspondences, cut from the project's own clips.

    A pair is two frames of a clip; its points are random object pixels of the first that both
    frames show. Images go into a folder a clip, each with its mask (`000_mask.png`), the list into
    `pairs.json`.

    Args:
        output: the folder, made where it is missing.
        count: pairs to try; one whose object is out of the picture is left out.
        points: most points a pair.
        supersampling: colour samples per pixel side; fewer are drawn faster and look rougher.
    """
    generator = np.random.default_rng(seed)
    names = sorted(CLIPS)
    first: dict[str, RenderedFrame] = {}
    pairs = []
    for number in range(count):
        name = names[number % len(names)]
        t = int(generator.integers(1, CLIPS[name].frames))
        # The renderer's truth is between frame 0 and another one.
        spec = replace(CLIPS[name], supersampling=supersampling)
        if name not in first:
            first[name] = render_frame(spec, 0)
        source, target = first[name], render_frame(spec, t)
        rows, columns = np.nonzero((source.labels > 0) & target.target_visible)
        chosen = generator.choice(len(rows), size=min(points, len(rows)), replace=False)
        y, x = rows[chosen], columns[chosen]
        if len(x) == 0 or not (target.labels > 0).any():
            continue
        places = output / name / "000.png", output / name / f"{t:03d}.png"
        for frame, place in zip((source, target), places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_image(place, frame.image)
            write_labels(place.with_name(f"{place.stem}_mask.png"), frame.labels)
        pairs.append(
            AnnotatedPair(
                places[0],
                places[1],
                np.stack([x, y], axis=1).astype(np.float32),
                target.target_xy[y, x],
                mask_box(source.labels > 0),
                mask_box(target.labels > 0),
                name,
            )
        )
    write_dhf_json(output / "pairs.json", pairs, output)
    return pairs
