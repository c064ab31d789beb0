"""Which pairs a run makes: every one follows from the configuration and its number alone."""

from __future__ import annotations

import logging
import os
import random
import string
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from warpkit.checks import InputError, counted, is_file, require
from warpkit.datasets.json_fields import check_folder, read_lines
from warpkit.io.images import IMAGE_SUFFIXES
from warpkit.io.text import valid_text
from warpkit.synthesize.categories import name_categories
from warpkit.synthesize.config import GenerationConfig, SplitConfig
from warpkit.synthesize.splits import Split, split_of, split_photos, wanted

__all__ = [
    "GeneratedPlans",
    "ImagePlan",
    "PairPlan",
    "PhotoPlans",
    "Plans",
    "list_photos",
]

_log = logging.getLogger("warpkit")

_Place = tuple[int, int, int]  # group, first and second member
_MOST_ENUMERATED = 2_000_000  # pairs that are listed to draw from
_RARE = 50  # failed draws in a row after which pairs are taken to be used up


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """Where an image comes from.

    Attributes:
        prompt: text or class of a generated image.
        seed: of its noise.
        strength: it starts from the pair's first image: share of the steps run again.
        path: photograph, relative to the folder of photographs.
        warp_seed: the pair's first image is the second bent by the known warp of this seed.
    """

    prompt: str | None = None
    seed: int | None = None
    strength: float | None = None
    path: str | None = None
    warp_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """One pair to make.

    Attributes:
        number: its place in the run.
        category: what it shows, as it was named.
        folder: where the category's images lie (see `Category`).
        split: which part of the set it belongs to.
    """

    number: int
    category: str
    folder: str
    split: Split
    source: ImagePlan
    target: ImagePlan

    @property
    def id(self) -> str:
        """Name of the pair in all formats."""
        return f"{self.number:07d}"


class Plans(Protocol):
    """The pairs of a run by number."""

    def __len__(self) -> int: ...

    def pair(self, number: int) -> PairPlan:
        """The plan of a pair."""
        ...


def _draws(seed: int, number: int) -> random.Random:
    """Draws of a pair; a string seeds by its SHA-512, alike on every machine."""
    return random.Random(f"{seed} {number}")


class GeneratedPlans:
    """Prompts x seeds: pair n takes the n-th category in turn and seeds of its own.

    Args:
        known_warps: the first image is the second, bent.
    """

    def __init__(
        self,
        config: GenerationConfig,
        splits: SplitConfig,
        count: int,
        *,
        known_warps: bool = False,
    ) -> None:
        self._config, self._splits, self._count = config, splits, count
        self._known = known_warps
        if config.prompts is not None:
            self._prompts = _read_prompts(config.prompts)
        else:
            self._prompts = {name: _fillings(config, name) for name in config.classes}
        self._names = list(self._prompts)
        self._categories = name_categories(self._names)
        if config.variant == "prompt" and not known_warps:
            poor = [name for name, prompts in self._prompts.items() if len(prompts) < 2]
            require(
                not poor,
                f"variant: prompt needs two different prompts a category, '{(poor or [''])[0]}' has"
                " one: add slots with several values, or lines to the prompts file",
            )

    def __len__(self) -> int:
        return self._count

    def pair(self, number: int) -> PairPlan:
        config = self._config
        name = self._names[number % len(self._names)]
        draws = _draws(config.seed, number)
        prompts = self._prompts[name]
        first = draws.randrange(len(prompts))
        # Another prompt where there is one.
        second = (first + 1 + draws.randrange(max(1, len(prompts) - 1))) % len(prompts)
        seeds = draws.randrange(2**31), draws.randrange(2**31)
        pair_id = f"{number:07d}"
        source = ImagePlan(prompt=prompts[first], seed=seeds[0])
        if self._known:
            target, source = source, ImagePlan(warp_seed=seeds[1])
        elif config.variant == "seeds":
            target = ImagePlan(prompt=prompts[second], seed=seeds[1])
        elif config.variant == "prompt":
            target = ImagePlan(prompt=prompts[second], seed=seeds[0])
        else:
            target = ImagePlan(prompt=prompts[second], seed=seeds[1], strength=config.strength)
        return PairPlan(
            number=number,
            category=self._categories[name].name,
            folder=self._categories[name].folder,
            split=split_of(pair_id, self._splits),
            source=source,
            target=target,
        )


def _fillings(config: GenerationConfig, name: str) -> list[str]:
    """Every prompt of a category, the first slot turning slowest."""
    slots = {slot.name: slot.values for slot in config.slots}
    used = [field for _, field, _, _ in string.Formatter().parse(config.template) if field]
    unknown = [field for field in used if field != "class" and field not in slots]
    require(
        not unknown,
        f"the template's slot {{{(unknown or [''])[0]}}} has no values: add it to slots (there are"
        f" {', '.join(['class', *slots])})",
    )
    filled: list[dict[str, str]] = [{"class": name}]
    for slot in slots:
        if slot in used:
            filled = [{**one, slot: value} for one in filled for value in slots[slot]]
    return list(dict.fromkeys(config.template.format(**one) for one in filled))


def _read_prompts(path: Path) -> dict[str, list[str]]:
    """Prompts by category; a line without a tab is a category of its own."""
    prompts: dict[str, list[str]] = {}
    for line in read_lines(path):
        category, tab, prompt = line.partition("\t")
        category = category.strip()
        text = prompt.strip() if tab else category
        require(bool(text), f"{path}: a prompt is empty: {line!r}")
        if text not in prompts.setdefault(category, []):
            prompts[category].append(text)
    require(bool(prompts), f"{path} holds no prompt: write one a line")
    return prompts


def list_photos(root: Path | str) -> dict[str, list[str]]:
    """Photographs by category, as paths relative to `root`.

    A folder below `root` is a category; photographs in `root` itself form one more, named after it.
    Links are followed, hidden names left out. A photograph with several names comes once, under one
    that is no link where there is one.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    root = check_folder(root, "photographs, in one folder per category or all in one")
    own = root.resolve().name or "object"
    top = "." if (root / own).is_dir() else own
    photos: dict[str, list[str]] = {}
    for folder, names in _folders(root):
        parent = folder.relative_to(root).as_posix()
        if names:
            paths = [(folder / name).relative_to(root).as_posix() for name in names]
            photos[top if parent == "." else parent] = paths
    require(bool(photos), f"no images below {root}: expected one of {', '.join(IMAGE_SUFFIXES)}")
    return photos


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each with its photographs, by name.

    No folder and no photograph comes twice: of its names the first one that is no link, and is in
    no linked folder, is kept.
    """
    seen: set[str] = set()
    found: dict[Path, list[str]] = {}
    photos: list[tuple[bool, Path]] = []
    real, linked, left_out = [root], deque[Path](), 0
    while real or linked:
        folder = real.pop() if real else linked.popleft()
        here = os.path.realpath(folder)
        if here in seen:
            left_out += 1
            continue
        seen.add(here)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            _log.info("%s is left out: %s", valid_text(str(folder)), error.strerror)
            continue
        found[folder], below = [], list[Path]()
        for entry in entries:
            path, link = folder / entry.name, entry.is_symlink()
            if entry.name.startswith("."):
                continue
            if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a link cannot be followed
                (linked if link else below).append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
                photos.append((link, path))
        real.extend(reversed(below))  # the first by name is walked next
    for _, path in sorted(photos, key=lambda photo: photo[0]):
        here = os.path.realpath(path)
        if here in seen:
            left_out += 1
            continue
        seen.add(here)
        found[path.parent].append(path.name)
    if left_out:
        _log.info(
            "%s below %s left out: what they lead to is there under another name",
            counted(left_out, "link"),
            valid_text(str(root)),
        )
    for folder in sorted(found, key=lambda folder: folder.parts):
        yield folder, sorted(found[folder])


class PhotoPlans:
    """Pairs of photographs of one category and split, none twice; or one photograph bent.

    Args:
        photos: as `list_photos` gives them.
        count: most pairs; there are no more than the photographs allow.
        known_warps: the first image of a pair is its second, bent.
        seed: of the draws. Fewer pairs are the first of more, unless pairs run short.

    Raises:
        InputError: no category and split has two photographs.
    """

    def __init__(
        self,
        photos: dict[str, list[str]],
        splits: SplitConfig,
        count: int,
        *,
        seed: int,
        known_warps: bool = False,
    ) -> None:
        self._known, self._seed = known_warps, seed
        self._categories = name_categories(photos)
        groups = split_photos(photos, splits, count=count, alone=known_warps)
        self._groups = sorted((key, paths) for key, paths in groups.items() if paths)
        if known_warps:
            every = [
                (g, i, i) for g, (_, paths) in enumerate(self._groups) for i in range(len(paths))
            ]
            random.Random(seed).shuffle(every)
            drawn = [every[n % len(every)] for n in range(count)]
        else:
            drawn = _draw_pairs([len(paths) for _, paths in self._groups], count, seed)
        self._pairs = self._of_every_split(drawn, wanted(splits))
        if not self._pairs:
            raise InputError(
                "no two photographs of one category and split: a pair needs two; put more of one"
                " kind into one folder, or take --known-warps, which needs one photograph a pair"
            )

    def _of_every_split(self, drawn: list[_Place], names: Sequence[Split]) -> list[_Place]:
        """The draw, with a pair of each split that has any: the last ones of others make room."""
        of = [split for (_, split), _ in self._groups]
        if len(drawn) < len(names):
            return drawn
        for split in names:
            if any(of[place[0]] == split for place in drawn):
                continue
            sizes = Counter(of[place[0]] for place in drawn)
            several = [n for n, place in enumerate(drawn) if sizes[of[place[0]]] > 1]
            first = next(
                (
                    (group, 0, 0 if self._known else 1)
                    for group, (_, paths) in enumerate(self._groups)
                    if of[group] == split and len(paths) > (not self._known)
                ),
                None,
            )
            if first is not None and several:
                drawn[several[-1]] = first
        return drawn

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, number: int) -> PairPlan:
        group, first, second = self._pairs[number]
        (category, split), paths = self._groups[group]
        source = ImagePlan(path=paths[first])
        if self._known:
            source = ImagePlan(warp_seed=_draws(self._seed, number).randrange(2**31))
        return PairPlan(
            number=number,
            category=self._categories[category].name,
            folder=self._categories[category].folder,
            split=split,
            source=source,
            target=ImagePlan(path=paths[second]),
        )


def _draw_pairs(sizes: Sequence[int], count: int, seed: int) -> list[_Place]:
    """Ordered pairs of different members of a group, none twice.

    Both orders of two members count as one pair.
    """
    weights = [size * (size - 1) // 2 for size in sizes]
    total = sum(weights)
    if total <= min(2 * count, _MOST_ENUMERATED):
        every = [
            (group, first, second)
            for group, size in enumerate(sizes)
            for first in range(size)
            for second in range(first + 1, size)
        ]
        order = np.random.default_rng(seed).permutation(len(every))[:count]
        return [_turned(every[row], int(row)) for row in order]
    draws = random.Random(seed)
    drawn: dict[_Place, int] = {}
    failed = 0
    while len(drawn) < count and failed < _RARE * count:
        group = draws.choices(range(len(sizes)), weights)[0]
        first, second = sorted(draws.sample(range(sizes[group]), 2))
        place = (group, first, second)
        failed += place in drawn
        drawn.setdefault(place, draws.randrange(2))
    return [_turned(place, turn) for place, turn in drawn.items()]


def _turned(place: _Place, turn: int) -> _Place:
    group, first, second = place
    return (group, second, first) if turn % 2 else place
