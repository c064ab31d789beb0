"""Warps on the page: two uploads, masks, guides and settings in; the files of a warp out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from warpkit.app.pictures import decode_labels
from warpkit.app.queue import Job
from warpkit.app.service import Service, in_words
from warpkit.app.workspace import Upload, Workspace
from warpkit.arrays import Labels
from warpkit.checks import InputError, one_of, require
from warpkit.coherent import MIRRORS
from warpkit.image.transparency import opaque_part
from warpkit.image.warp import WarpSettings, run_warp
from warpkit.image.warp_words import warp_words
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.pictures import read_picture
from warpkit.runs.progress import ProgressCallback

__all__ = ["WarpFiles", "WarpService"]

_GUIDES = "guides are pairs of points: click one picture and then the other"


@dataclass(frozen=True)
class WarpFiles:
    """A finished warp.

    Attributes:
        folder: the files of `warpkit warp`.
        archive: all of them in one file.
        text: how good it is, in words.
        doubt: why it is likely bad and what helps; None if it is not.
        found: masks that nobody gave, by `source` and `target`, uint8 (H, W).
    """

    folder: Path
    archive: Path
    text: str
    doubt: str | None = None
    found: dict[str, Labels] = field(default_factory=dict)

    @property
    def before_and_after(self) -> tuple[str, str]:
        """The target and the composite, two files of one size."""
        return str(self.folder.with_name("target.png")), str(self.folder / "composite.png")


class WarpService:
    """Warps, beside the jobs of a `Service`."""

    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    def workspace(self) -> Workspace:
        return self.service.workspace

    @in_words
    def warp(
        self,
        visitor: str,
        model: str,
        *,
        source: str,
        target: str,
        source_labels: str = "",
        target_labels: str = "",
        guides: Any = None,
        mask: str = "auto",
        field: str = "coherent",
        mirror: str = "auto",
        fill: bool = True,
        blend: str = "feather",
        interpolation: str = "bilinear",
        tone: str = "keep",
        shading: str = "none",
        strength: Any = 1.0,
    ) -> Job:
        """Warp one upload's object onto another's.

        Pictures that were described for this visitor and model are not described again.

        Args:
            source: name of the upload to take the appearance from.
            target: name of the upload to put it on.
            source_labels: painted mask as a canvas sends it; empty for what `mask` says.
            target_labels: the same of the target.
            guides: pairs of points [[xs, ys], [xt, yt]] in pixels; None or none for no guide.
            mask: as in `WarpSettings`, as are the following.

        Returns:
            A job whose result is `WarpFiles`.

        Raises:
            InputError: unknown uploads or settings, damaged masks, bad guides, or a full queue.
        """
        service = self.service
        for value, known, name in (
            (mask, ("auto", "none"), "mask"),
            (field, ("coherent", "nearest"), "field"),
            (mirror, MIRRORS, "mirror"),
            (blend, ("paste", "feather", "poisson"), "blending"),
            (interpolation, ("bilinear", "nearest"), "interpolation"),
            (tone, ("keep", "target"), "tone"),
            (shading, ("none", "target"), "shading"),
        ):
            one_of(str(value), known, name)
        require(isinstance(strength, int | float), f"strength is a number, got {strength!r}")
        session = service.workspace.session(visitor)
        pictures = session.pair(source, target)
        pairs = self._guides(guides, *pictures)
        require(
            pairs is None or field == "coherent",
            "guides steer a coherent field, nearest neighbours know none: choose the field"
            " 'coherent', or clear the guides",
        )
        settings = WarpSettings(
            mask=mask,  # type: ignore[arg-type]
            field=field,  # type: ignore[arg-type]
            mirror=mirror,  # type: ignore[arg-type]
            fill=bool(fill),
            blend=blend,  # type: ignore[arg-type]
            interpolation=interpolation,  # type: ignore[arg-type]
            tone=tone,  # type: ignore[arg-type]
            shading=shading,  # type: ignore[arg-type]
            strength=float(strength),
        )
        drawn = [
            decode_labels(text, height=upload.height, width=upload.width)
            for upload, text in zip(pictures, (source_labels, target_labels), strict=True)
        ]
        place = session.new_folder()
        folder = place / "results"
        masks: list[Path | None] = [None, None]
        for i, (labels, name) in enumerate(zip(drawn, ("source", "target"), strict=True)):
            if labels is not None:
                masks[i] = place / f"{name}_mask.png"
                write_labels(place / f"{name}_mask.png", labels)

        def work(progress: ProgressCallback) -> WarpFiles:
            result = run_warp(
                pictures[0].path,
                pictures[1].path,
                folder,
                source_mask=masks[0],
                target_mask=masks[1],
                guides=pairs,
                settings=settings,
                options=service.models.options(model),
                describer=service.describer(visitor, model, progress),
                progress=progress,
            )
            archive = Path(shutil.make_archive(str(folder), "zip", folder))
            shutil.copyfile(pictures[1].path, place / "target.png")
            session.keep_warp(place)
            found = {
                role: read_labels(path)
                for role in ("source", "target")
                if (path := folder / f"{role}_mask.png").is_file()
            }
            text = warp_words(result, guides=0 if pairs is None else len(pairs))
            missing = _without_mask(pictures, masks) if mask == "auto" and not found else []
            doubts = [*([_unsure(missing)] if missing else []), *filter(None, [result.doubt])]
            return WarpFiles(folder, archive, text, ". ".join(doubts) or None, found)

        return service.submit(visitor, model, "warp", work)

    def _guides(
        self, guides: Any, source: Upload, target: Upload
    ) -> list[list[list[float]]] | None:
        """Guides that came from outside: finite pairs inside both pictures, not too many."""
        if guides is None:
            return None
        require(isinstance(guides, list | tuple), _GUIDES)
        if not guides:
            return None
        most = self.service.limits.points
        require(len(guides) <= most, f"{len(guides)} guides: this page takes at most {most}")
        try:
            array = np.asarray(guides, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(_GUIDES) from error
        require(array.shape == (len(guides), 2, 2), _GUIDES)
        require(bool(np.isfinite(array).all()), "guides are pairs of points of finite numbers")
        for side, (upload, name) in enumerate(((source, "source"), (target, "target"))):
            edge = np.array([upload.width, upload.height]) - 0.5
            outside = ((array[:, side] < -0.5) | (array[:, side] > edge)).any(axis=1)
            require(
                not outside.any(),
                f"guide {int(outside.argmax()) + 1} lies outside the {name}, which has"
                f" {upload.width} x {upload.height} pixels: set it again",
            )
        found: list[list[list[float]]] = array.tolist()
        return found


def _without_mask(pictures: list[Upload], masks: list[Path | None]) -> list[str]:
    """Which of `source` and `target` have no mask: neither a painted one nor transparency."""
    return [
        role
        for role, upload, mask in zip(("source", "target"), pictures, masks, strict=True)
        if mask is None and opaque_part(read_picture(upload.path)) is None
    ]


def _unsure(roles: list[str]) -> str:
    """That no object was found in these pictures, and what helps."""
    if len(roles) == 1:
        return (
            f"no object was found for sure in the {roles[0]}, so the whole of it was taken: paint a"
            " mask there, or draw a box around the object"
        )
    return (
        "no object was found for sure, so whole pictures were warped: paint a mask in both, or"
        " draw a box around the object"
    )
