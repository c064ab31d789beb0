"""Published segmenters over transformers: SAM 2 and 3 from boxes and points, SAM 3 and CLIPSeg from
words.

In: an image and prompts in its own pixels. Out: logits of the object at every pixel. Weights are
fetched as those of every other model (see `warpkit.features.model_sources`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from warpkit.checks import InputError, first_line, require
from warpkit.coords import scale_points
from warpkit.features.model_sources import find_source
from warpkit.runs.cache import file_sha256

__all__ = [
    "SEGMENTERS",
    "Segmenter",
    "SegmenterKind",
    "check_prompts",
    "load_segmenter",
    "segmenter_weights",
]

_log = logging.getLogger("warpkit")

SegmenterKind = Literal["sam2", "sam3", "clipseg"]

SEGMENTERS: tuple[SegmenterKind, ...] = get_args(SegmenterKind)
"""What can be named without a folder."""

_TAKES_POINTS, _TAKES_TEXT = ("sam2", "sam3"), ("sam3", "clipseg")
# Mean and standard deviation of pixels in [0, 1]: Sam2ImageProcessor and Sam3ImageProcessor of
# transformers, and preprocessor_config.json of CIDAS/clipseg-rd64-refined.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PIXELS = {"sam2": _IMAGENET, "sam3": ((0.5,) * 3, (0.5,) * 3), "clipseg": _IMAGENET}
_CLIPSEG_SIDE = 352  # where the folder does not say it
_SCORE = 0.5  # of an instance that SAM 3 finds by words, from which it counts (its authors')
_WEIGHTS = (".safetensors", ".bin", ".json", ".txt")
_WORDS = 32  # tokens of SAM 3's texts
_NOWHERE = -20.0  # logit where nothing was found


def check_prompts(kind: SegmenterKind, *, text: str | None) -> None:
    """Raise unless a segmenter can work with a text, or without one.

    Raises:
        InputError: it takes none, or needs one.
    """
    require(
        text is None or kind in _TAKES_TEXT,
        f"{kind} finds what a box or points name and reads no text: leave out --text, or take"
        f" --segmenter {' or '.join(_TAKES_TEXT)}",
    )
    require(
        text is not None or kind in _TAKES_POINTS,
        f'{kind} finds what a text names: add --text "dog", or take --segmenter'
        f" {' or '.join(_TAKES_POINTS)}",
    )


class Segmenter:
    """A published network that outlines what a box and points, or a text, name.

    Images are squeezed to the square that the network takes; prompts and results are in pixels of
    the image. Networks are loaded when they are first needed.

    Args:
        folder: its weights.
        device: where it runs.
    """

    def __init__(self, kind: SegmenterKind, folder: Path, device: torch.device) -> None:
        self.kind, self.folder, self.device = kind, folder, device
        self._lock = threading.Lock()

    @property
    def reads_text(self) -> bool:
        """Whether it can be given a text."""
        return self.kind in _TAKES_TEXT

    @functools.cached_property
    def prompted(self) -> Any:
        """What takes boxes and points: `Sam2Model`, or SAM 3's tracker on a single image."""
        return self._load("Sam2Model" if self.kind == "sam2" else "Sam3TrackerModel")

    @functools.cached_property
    def reading(self) -> Any:
        """What takes text: SAM 3's detector or CLIPSeg."""
        return self._load("Sam3Model" if self.kind == "sam3" else "CLIPSegForImageSegmentation")

    @functools.cached_property
    def tokenizer(self) -> Any:
        """Splits text as CLIP does."""
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self.folder}: no vocabulary that can be read: {first_line(error)}"
            ) from error

    def by_prompts(
        self,
        image: Tensor,
        *,
        box: Sequence[float] | None = None,
        points: Sequence[Sequence[float]] = (),
        background: Sequence[Sequence[float]] = (),
    ) -> Tensor:
        """Logits of the object that a box or points name.

        Args:
            image: float RGB in [0, 1], (1, 3, H, W).
            box: around it, `(x1, y1, x2, y2)` pixels, both corners inside.
            points: `(x, y)` on it.
            background: off it. With neither box nor points of either kind there is no object.

        Returns:
            float (H, W) on the CPU, above 0 where the object is more likely than not.

        Source: Ravi et al., SAM 2, 2024: of the masks that a single point may mean the one with
            the best expected overlap is taken.
        """
        net, size = self.prompted, image.shape[-2:]
        side = _side(net.config.prompt_encoder_config.image_size)

        def scaled(xy: Sequence[Sequence[float]]) -> Tensor:
            at = torch.tensor(xy, dtype=torch.float32)
            to = {"to_height": side, "to_width": side}
            moved = scale_points(at, from_height=size[0], from_width=size[1], **to)
            return moved.to(self.device)

        given: dict[str, Tensor] = {}
        if points or background:
            labels = torch.tensor([1] * len(points) + [0] * len(background), device=self.device)
            given["input_points"] = scaled([*points, *background])[None, None]
            given["input_labels"] = labels[None, None]
        if box is not None:
            given["input_boxes"] = scaled([box[:2], box[2:]]).reshape(1, 1, 4)
        single = box is None and len(points) + len(background) == 1
        with torch.no_grad():
            found = net(pixel_values=self._pixels(image, side), multimask_output=single, **given)
        best = int(found.iou_scores[0, 0].argmax())
        return _at_pixels(found.pred_masks[0, 0, best], size)

    def by_text(self, image: Tensor, text: str) -> Tensor:
        """Logits of all that a text names, shaped as those of `by_prompts`.

        Args:
            image: float RGB in [0, 1], (1, 3, H, W).
            text: a few words, such as "dog".

        Source: Carion et al., SAM 3, 2025; Lüddecke, Ecker, CLIPSeg, CVPR 2022.
        """
        net, size = self.reading, image.shape[-2:]
        if self.kind == "clipseg":
            tokens = self._tokens(text, length=net.config.text_config.max_position_embeddings)
            with torch.no_grad():
                found = net(pixel_values=self._pixels(image, self._clipseg_side()), **tokens)
            return _at_pixels(found.logits.reshape(found.logits.shape[-2:]), size)
        tokens = self._tokens(text, length=_WORDS, padding="max_length")
        pixels = self._pixels(image, _side(net.config.vision_config.image_size))
        with torch.no_grad():
            found = net(pixel_values=pixels, **tokens)
        score = found.pred_logits[0].sigmoid() * found.presence_logits[0].sigmoid()
        masks = found.pred_masks[0][score > _SCORE]
        if len(masks) == 0:
            return torch.full(tuple(size), _NOWHERE)
        return _at_pixels(masks.amax(dim=0), size)

    def _pixels(self, image: Tensor, side: int) -> Tensor:
        mean, std = (torch.tensor(each)[:, None, None] for each in _PIXELS[self.kind])
        square = F.interpolate(image, size=(side, side), mode="bilinear", antialias=True)
        return ((square - mean) / std).to(self.device)

    def _tokens(self, text: str, *, length: int, padding: str | bool = False) -> dict[str, Tensor]:
        with self._lock:  # it keeps lengths between calls, and refuses two at once
            tokens = self.tokenizer(
                [text], return_tensors="pt", padding=padding, max_length=length, truncation=True
            )
        return {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def _clipseg_side(self) -> int:
        """The side that CLIPSeg was trained with, which its configuration does not say."""
        size = _read_json(self.folder / "preprocessor_config.json").get("size", _CLIPSEG_SIDE)
        return int(size["height"] if isinstance(size, dict) else size)

    def _load(self, name: str) -> Any:
        """A network of transformers, frozen, with every weight from the folder."""
        import transformers

        cls: Any = getattr(transformers, name, None)
        require(
            cls is not None,
            f"transformers {transformers.__version__} has no {name}, which the segmenter"
            f" {self.kind} needs: pip install -U transformers",
        )
        try:
            net, info = cls.from_pretrained(
                str(self.folder), local_files_only=True, output_loading_info=True
            )
        except (ImportError, OSError, ValueError, LookupError, RuntimeError) as error:
            raise InputError(f"{self.folder} cannot be read: {first_line(error)}") from error
        except SafetensorError as error:
            raise InputError(f"{self.folder} is damaged: {first_line(error)}") from error
        missing = sorted(info["missing_keys"])
        require(  # they would be random
            not missing,
            f"{self.folder} lacks {len(missing)} weights of {name}, such as {''.join(missing[:1])}",
        )
        return net.eval().requires_grad_(False).to(self.device)


def load_segmenter(model: str, device: torch.device) -> Segmenter:
    """A segmenter by alias (`SEGMENTERS`), folder or hub id.

    Raises:
        InputError: it is not here and cannot be fetched, or is of another kind.
    """
    source = find_source(model, family="segmenter")
    said = str(_read_json(source.folder / "config.json").get("model_type"))
    kind = next((kind for kind in SEGMENTERS if said.startswith(kind)), None)
    if kind is None:
        raise InputError(
            f"{model} is a model of type '{said}': expected a segmenter, one of"
            f" {', '.join(SEGMENTERS)}"
        )
    _log.info("segmenter %s: %s", kind, source.name)
    return Segmenter(kind, source.folder, device)


def segmenter_weights(model: str) -> str:
    """What tells the weights of a segmenter from others: its name and revision, or a hash.

    Raises:
        InputError: it is not here and cannot be fetched.
    """
    source = find_source(model, family="segmenter")
    if source.commit is not None:
        return f"{source.name}@{source.commit[:12]}"
    names = sorted(path for path in source.folder.iterdir() if path.suffix in _WEIGHTS)
    digests = [file_sha256(path) for path in names]
    return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:12]}"


def _read_json(path: Path) -> dict[str, Any]:
    """A configuration; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    return read if isinstance(read, dict) else {}


def _side(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else int(size[0])


def _at_pixels(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (h, w) of a squeezed image at the pixels of the image."""
    whole = F.interpolate(logits[None, None].float().cpu(), size=tuple(size), mode="bilinear")
    return whole[0, 0]
