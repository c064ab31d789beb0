"""Pairs made: from plans to records, a chunk at a time, the same however chunks are spread.

In: `PairPlan`s. Out: `Record`s, one a plan: kept, or dropped with the reason.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator as Running
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from threading import Event
from typing import Any

import numpy as np
import torch

from warpkit.arrays import mask_box
from warpkit.checks import InputError
from warpkit.coherent import CoherentField, coherent_fields
from warpkit.coords import sample_nearest
from warpkit.describe.extractor import ModelDescriber
from warpkit.io.images import encode_image
from warpkit.io.text import valid_text
from warpkit.match.farthest import farthest_points
from warpkit.match.matcher import Matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.clock import Stopwatch
from warpkit.synthesize.config import PairSettings
from warpkit.synthesize.described_pair import DescribedPair, PairSide
from warpkit.synthesize.executors import (
    InlineExecutor,
    ModelExecutor,
    StreamExecutor,
    like_this_thread,
)
from warpkit.synthesize.generation import DescribedImage
from warpkit.synthesize.labels import (
    Labels,
    MatchCandidates,
    choose_labels,
    exact_candidates,
    find_candidates,
    label_task,
)
from warpkit.synthesize.measures import image_hash, image_problem, pair_problem
from warpkit.synthesize.object_masks import ObjectMasks
from warpkit.synthesize.pair_images import PairImageSource, with_copy
from warpkit.synthesize.plan import ImagePlan, PairPlan
from warpkit.synthesize.records import Record
from warpkit.synthesize.warped_copy import warped_copy
from warpkit.types import DescriptorMap
from warpkit.warp.field import dense_warp

__all__ = ["PairPipeline"]

Dense = dict[str, torch.Tensor]


class PairPipeline:
    """Makes pairs; holds the model and nothing that changes from pair to pair.

    Attributes:
        seconds: time spent by stage, summed over threads.
    """

    def __init__(
        self,
        settings: PairSettings,
        extractor: ModelDescriber,
        matcher: Matcher | None = None,
    ) -> None:
        """Check that the model can do what the settings ask for.

        Raises:
            InputError: it cannot generate.
        """
        self.settings, self.extractor, self.matcher = settings, extractor, matcher
        self._clock = Stopwatch(
            "generate", "describe", "masks", "field", "match", "choose", "encode"
        )
        self.seconds = self._clock.seconds
        self._images = PairImageSource(settings, extractor, self._clock)
        self._masks = ObjectMasks(settings, extractor.device)

    def make(self, plans: Sequence[PairPlan]) -> list[Record]:
        """One record a plan, in order. Plans that are made together form a chunk: float rounding
        depends on the batch, so the same chunks give the same bytes.
        """
        (records,) = self.run([plans], ahead=False)
        return records

    def run(
        self, chunks: Iterable[Sequence[PairPlan]], *, ahead: bool | None = None
    ) -> Running[list[Record]]:
        """The records of chunk after chunk; threads find masks, filter matches, encode files.

        Args:
            ahead: go on with the next chunk while threads work on the last and the caller on what
                it was given. The model then runs in two threads that take turns, and a chunk is
                searched in another beside the model's work on others, all with CUDA streams of
                their own: three chunks are in memory, and lost when this is stopped, which waits
                for the images that are being made. None does so where the model runs on a GPU.
        """
        device = self.extractor.device
        ahead = device.type == "cuda" if ahead is None else ahead
        before, threads = torch.get_num_threads(), self.settings.threads
        begun: deque[Future[list[Future[DescribedPair]]]] = deque()
        labelled: deque[Future[Future[list[Future[Record]]]]] = deque()
        torch.set_num_threads(threads)
        pool = ThreadPoolExecutor(threads, "pairs", initializer=like_this_thread(threads, device))
        model = ModelExecutor(threads, device) if ahead else InlineExecutor()
        search = StreamExecutor(device) if ahead else InlineExecutor()
        stop, last = Event(), Event()  # no more searches; no more images
        failed: list[int] = []  # chunks whose images could not be made

        def begin(number: int, plans: Sequence[PairPlan]) -> list[Future[DescribedPair]]:
            if last.is_set() or any(earlier < number for earlier in failed):
                return []  # nobody gets to see them
            try:
                return self._begin(plans, pool)
            except BaseException:
                failed.append(number)
                raise

        def label() -> None:
            labelled.append(model.submit(self._label, begun.popleft(), pool, search, stop))

        def records() -> list[Record]:
            return [record.result() for record in labelled.popleft().result().result()]

        with ExitStack() as ends:  # they run in the opposite order
            ends.callback(torch.set_num_threads, before)
            ends.callback(pool.shutdown, cancel_futures=True)
            ends.callback(search.shutdown, cancel_futures=True)
            ends.callback(model.shutdown, cancel_futures=True)
            ends.callback(stop.set)
            ends.callback(last.set)
            for number, plans in enumerate(chunks):
                begun.append(model.submit(begin, number, plans))
                if len(begun) > ahead:
                    label()
                if len(labelled) > ahead:
                    yield records()
            while begun:
                label()
            while labelled:
                yield records()

    def _begin(self, plans: Sequence[PairPlan], pool: Executor) -> list[Future[DescribedPair]]:
        """Make the images of a chunk, and let threads look at them."""
        images = self._images(plans)
        if self.settings.mask_kind in ("auto", "found"):
            images = [(with_copy(source), with_copy(target)) for source, target in images]
        return [
            pool.submit(self._prepare, plan, *pair)
            for plan, pair in zip(plans, images, strict=True)
        ]

    def _label(
        self,
        begun: Future[list[Future[DescribedPair]]],
        pool: Executor,
        search: Executor,
        stop: Event,
    ) -> Future[list[Future[Record]]]:
        """Let a chunk be searched; threads go on with each pair as soon as it is.

        Args:
            stop: set once nobody waits for the rest.
        """
        pairs = [pair.result() for pair in begun.result()]
        flips = self._flips(pairs)

        def matched() -> list[Future[Record]]:
            if stop.is_set():
                return []
            records = []
            fields = self._fields(pairs, flips)
            for pair, flipped, field in zip(pairs, flips, fields, strict=True):
                if stop.is_set():
                    break
                found = self._matched(pair, flipped, field)
                records.append(pool.submit(self._encode, pair, *found))
            return records

        return search.submit(matched)

    def _prepare(
        self,
        plan: PairPlan,
        source: DescribedImage | InputError | None,
        target: DescribedImage | InputError,
    ) -> DescribedPair:
        """Masks and checks of a pair."""
        facts = self._facts(plan)
        for end in (source, target):
            if isinstance(end, InputError):
                return DescribedPair(facts, None, "unreadable image")
        assert isinstance(target, DescribedImage) and not isinstance(source, InputError)
        sides = self._sides(plan, source, target)
        for role, side in zip(("source", "target"), sides, strict=True):
            facts[role] |= {
                "height": side.image.shape[0],
                "width": side.image.shape[1],
                "hash": image_hash(side.image),
            }
            if side.trust is not None:
                facts[role] |= side.trust.facts()
        reason = self._problem(plan, *sides)
        return DescribedPair(facts, sides if reason is None else None, reason)

    def _flips(self, pairs: Sequence[DescribedPair]) -> list[DescriptorMap | None]:
        """The maps of mirrored targets, described together, where the filter needs them."""
        if self.settings.labels.filters.flip is None:
            return [None] * len(pairs)
        wanted = {
            number: np.ascontiguousarray(pair.searched[1].image[:, ::-1])
            for number, pair in enumerate(pairs)
            if pair.searched is not None
        }
        with self._clock.stage("describe"):
            maps = self.extractor.describe(list(wanted.values()))
        found = dict(zip(wanted, maps, strict=True))
        return [found.get(number) for number in range(len(pairs))]

    def _fields(
        self, pairs: Sequence[DescribedPair], flips: Sequence[DescriptorMap | None]
    ) -> list[CoherentField | None]:
        """The coherent fields of a chunk, solved together, where the filter needs them."""
        fields: list[CoherentField | None] = [None] * len(pairs)
        if self.settings.labels.filters.coherence is None:
            return fields
        tasks = {
            number: label_task(*pair.search_inputs(), flipped=flipped)
            for number, (pair, flipped) in enumerate(zip(pairs, flips, strict=True))
            if pair.searched is not None
        }
        with self._clock.stage("field"):
            for number, field in zip(tasks, coherent_fields(list(tasks.values())), strict=True):
                fields[number] = field
        return fields

    def _matched(
        self, pair: DescribedPair, flipped: DescriptorMap | None, field: CoherentField | None
    ) -> tuple[MatchCandidates | None, Dense | None]:
        """Matches of a pair whose labels are not known, and the dense field if it is stored."""
        if pair.searched is None:
            return None, None
        config = self.settings.labels
        source, target, source_mask, target_mask = pair.search_inputs()
        with self._clock.stage("match"):
            candidates = find_candidates(
                source,
                target,
                source_mask,
                target_mask,
                flipped=flipped,
                field=field,
                stride=config.stride,
                exclusion=config.filters.exclusion,
                matcher=self.matcher,
            )
            if not config.dense:
                return candidates, None
            cycle = config.filters.cycle
            dense = dense_warp(
                source,
                target,
                source_mask=torch.from_numpy(source_mask),
                target_mask=torch.from_numpy(target_mask),
                matcher=self.matcher,
                filters=MatchFilters(
                    cycle_distance=None if cycle is None else cycle * candidates.target_side
                ),
            )
            return candidates, {"source_xy": dense.source_xy.cpu(), "valid": dense.valid.cpu()}

    def _encode(
        self, pair: DescribedPair, candidates: MatchCandidates | None, dense: Dense | None
    ) -> Record:
        """The record of a pair, with its files."""
        if pair.sides is None:
            return pair.dropped()
        with self._clock.stage("choose"):
            if candidates is None:
                labels, dense = self._exact_labels(*pair.sides)
            else:
                labels = choose_labels(candidates, self.settings.labels)
        facts = pair.facts
        facts["filters"] = dict(labels.left)
        if len(labels.source_xy) < self.settings.labels.least:
            return pair.dropped("too few matches")
        for role, side in zip(("source", "target"), pair.sides, strict=True):
            assert side.mask is not None
            facts[role]["box"] = list(mask_box(side.mask))
        facts["source_points"] = _rounded(labels.source_xy, 3)
        facts["target_points"] = _rounded(labels.target_xy, 3)
        for name in ("similarity", "coherence"):
            scores = getattr(labels, name)
            facts[name] = None if scores is None else _rounded(scores, 4)
        with self._clock.stage("encode"):
            files = self._files(*pair.sides, dense)
        return Record(facts["id"], {**facts, "status": "kept", "reason": None}, files)

    def _facts(self, plan: PairPlan) -> dict[str, Any]:
        settings = self.settings
        facts: dict[str, Any] = {
            "id": plan.id,
            "category": plan.category,
            "folder": plan.folder,
            "split": plan.split,
            "kind": "photographs" if settings.images is not None else "generated",
            "labels": "exact" if settings.known_warps else "matched",
            "model": self.extractor.name,
        }
        if settings.images is None:
            generation = settings.generation
            names = (
                "variant",
                "negative_prompt",
                "guidance",
                "pag_scale",
                "skip",
                "eta",
                "features",
            )
            facts |= {name: getattr(generation, name) for name in names}
            assert self._images.generator is not None
            facts["steps"] = self._images.generator.steps
        for role, image in (("source", plan.source), ("target", plan.target)):
            facts[role] = {k: v for k, v in asdict(image).items() if v is not None}
            if image.path is not None:
                facts[role]["path"] = valid_text(image.path)
        return facts

    def _sides(
        self, plan: PairPlan, source: DescribedImage | None, target: DescribedImage
    ) -> tuple[PairSide, PairSide]:
        """Both images with their masks; a source to be bent is bent here."""
        there = self._side(plan.target, target, plan.category)
        if source is not None:
            return self._side(plan.source, source, plan.category), there
        seed = plan.source.warp_seed
        assert seed is not None
        image, field, inside = warped_copy(
            target.image, self.settings.warp, seed=seed, jitter=self.settings.jitter
        )
        mask = None
        if there.mask is not None:
            carried = sample_nearest(torch.from_numpy(there.mask), field.reshape(-1, 2))
            mask = carried.reshape(inside.shape).numpy() & inside
        return PairSide(image, None, mask, field), there

    def _side(self, plan: ImagePlan, image: DescribedImage, category: str) -> PairSide:
        with self._clock.stage("masks"):
            mask, trust = self._masks(plan, image, category)
        return PairSide(image.image, image.descriptors, mask, trust=trust)

    def _problem(self, plan: PairPlan, source: PairSide, target: PairSide) -> str | None:
        """Why a pair cannot be used, if so."""
        for side in (target, source):
            problem = image_problem(side.image)
            if problem is not None:
                return problem
        if not self.settings.known_warps:
            similar = plan.target.strength is not None
            problem = pair_problem(source.image, target.image, exact=similar)
            if problem is not None:
                return problem
        least = self.settings.masks.least_trust
        for side in (source, target):
            if side.mask is None or side.mask.mean() < self.settings.masks.smallest:
                return "no object found"
            trust = side.trust
            if trust is not None and (trust.share < least or (least > 0 and trust.doubts)):
                return "doubtful mask"
        return None

    def _exact_labels(self, source: PairSide, target: PairSide) -> tuple[Labels, Dense | None]:
        config = self.settings.labels
        assert source.field is not None and source.mask is not None and target.mask is not None
        stride = config.stride or 2
        # What is exact holds for grass and sky as well: a found mask gives its surer half alone.
        inside = target.mask if target.trust is None else target.trust.sure
        found = exact_candidates(source.field, source.mask, inside, stride=stride)
        rows = farthest_points(found[0], config.points) if len(found[0]) else slice(0)
        labels = Labels(found[0][rows], found[1][rows], None, None, {"candidates": len(found[0])})
        if not config.dense:
            return labels, None
        # The known field leads from the bent image to the other; it is stored as it is.
        return labels, {"target_xy": source.field, "valid": torch.from_numpy(source.mask)}

    def _files(self, source: PairSide, target: PairSide, dense: Dense | None) -> dict[str, bytes]:
        suffix = self.settings.suffix
        files: dict[str, bytes] = {}
        for role, side in (("source", source), ("target", target)):
            assert side.mask is not None
            files[f"{role}.{suffix}"] = encode_image(side.image, f".{suffix}")
            files[f"{role}_mask.png"] = encode_image(side.mask.astype(np.uint8) * 255, ".png")
        if dense is not None:
            buffer = io.BytesIO()
            arrays: dict[str, Any] = {name: value.numpy() for name, value in dense.items()}
            np.savez_compressed(buffer, **arrays)
            files["field.npz"] = buffer.getvalue()
        return files


def _rounded(values: torch.Tensor, digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.double().numpy(), digits).tolist()
    return rounded
