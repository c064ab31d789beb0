"""Make the gallery: every kind of picture, by the embedded model.

    python examples/make_gallery.py -o docs

(`make gallery` does so if one of its inputs changed: examples/make_pictures.py.)

Writes `gallery.md`, and the pictures that it shows into `images/gallery`. What a picture shows, and
every figure beside it, is computed here; nothing is chosen by hand.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scripts import errors_in_one_line

from warpkit.demo import SOURCE, TARGET
from warpkit.describe.options import ModelOptions
from warpkit.image.inspect import run_inspect
from warpkit.image.match import match, similarity_at
from warpkit.image.warp import run_warp, warp
from warpkit.image.warp_overview import warp_overview
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import write_labels
from warpkit.io.video import VideoWriter
from warpkit.match.farthest import farthest_points
from warpkit.render import CLIPS, RenderedFrame, render_frame, render_pair
from warpkit.video.run import run_propagate
from warpkit.viz import draw_matches, draw_similarity, panel
from warpkit.warp.splat import fill_holes, forward_splat, softmax_weight

PAIR, CLIP = "fish", "turtle"
HEAD = """# Gallery

Pictures of the commands, all made by `make gallery` with the model `{model}`. Apart from the first
they are of clips that this project renders itself, so that the truth is known: they show what the
commands write. Figures on photographs are in [evaluation.md](evaluation.md).
"""


def main() -> None:
    """Make all pictures and the page."""
    parser = argparse.ArgumentParser(description="Make the gallery.")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs"), help="documents' folder")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--size", type=int, help="side of the model's input")
    parser.add_argument("--frames", type=int, default=16, help="of the clip")
    errors_in_one_line()
    arguments = parser.parse_args()
    gallery = Gallery(arguments.output, arguments.model, arguments.size)
    gallery.photographs()
    gallery.pair()
    gallery.clip(arguments.frames)
    gallery.inside()
    gallery.write()


class Gallery:
    """Pictures so far, and the page about them.

    Args:
        output: gets `gallery.md` and `images/gallery`.
        model: describes everything; looking inside takes the single model `tiny`.
        size: side of its input, None for its own.
    """

    def __init__(self, output: Path, model: str, size: int | None) -> None:
        self.output, self.folder = output, output / "images/gallery"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.options = ModelOptions(model=model, device="cpu", size=size)
        self.describer = self.options.load_extractor()
        self.text = HEAD.format(model=model)

    def add(self, title: str, name: str, words: str, command: str) -> None:
        """A section with a picture, what it shows, and the command that makes its like."""
        self.text += f"\n## {title}\n\n{words}\n\n```\n{command}\n```\n\n"
        self.text += f"![{title}](images/gallery/{name})\n"

    def photographs(self) -> None:
        """What `warpkit warp` writes of two photographs."""
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "out"
            run_warp(SOURCE, TARGET, out, options=self.options, describer=self.describer)
            write_image(self.folder / "photographs.png", read_image(out / "overview.png"))
        self.add(
            "Photographs",
            "photographs.png",
            "The kingfisher's plumage on the macaw: both objects as they were found, the composite,"
            " the place that every pixel comes from as a colour, and the similarity. (Photographs:"
            " Frank-2.0 and Dcoetzee, CC0.)",
            f"cd warpkit/samples/photographs/bird\nwarpkit warp {SOURCE.name} {TARGET.name} -o out",
        )

    def pair(self) -> None:
        """A warp both ways, matches, and one pixel's similarities."""
        source, target = render_pair(name=PAIR, restyled=True)
        masks = {"source_mask": source.labels > 0, "target_mask": target.labels > 0}
        result = warp(source.image, target.image, describer=self.describer, **masks)
        shown = (result.warped, result.composite, result.warp, result.quality)
        overview = warp_overview(source.image, target.image, *shown, **masks)
        write_image(self.folder / "warp.png", overview)
        error = _error(result.warp.source_xy.numpy(), source, target)
        self.add(
            "Warp",
            "warp.png",
            f"The repainted {PAIR} of one frame on the {PAIR} of a later one, inside both masks:"
            " composite, the place that every pixel comes from as a colour, and the similarity."
            f" Mean distance to the true source pixel {error:.1f} pixels, of"
            f" {source.image.shape[1]}.",
            "warpkit warp A.png B.png --source-mask MA.png --target-mask MB.png -o out",
        )
        self._splat(source, target)
        self._matches(source, target)

    def _splat(self, source: RenderedFrame, target: RenderedFrame) -> None:
        """The source thrown forward, with its holes, and the holes filled."""
        inside = {"source": source.labels > 0, "target": target.labels > 0}
        fields = {}
        for way in (("source", "target"), ("target", "source")):
            images = {"source": source.image, "target": target.image}
            fields[way] = warp(
                images[way[0]],
                images[way[1]],
                describer=self.describer,
                source_mask=inside[way[0]],
                target_mask=inside[way[1]],
            ).warp
        forward = fields["target", "source"]  # for every source pixel its place in the target
        values = torch.from_numpy(source.image).permute(2, 0, 1).float()
        thrown = forward_splat(
            values,
            forward.source_xy,
            softmax_weight(forward.similarity, 0.05, forward.valid),
            height=target.image.shape[0],
            width=target.image.shape[1],
        )
        backward = fields["source", "target"]
        pulled = warp(
            source.image,
            target.image,
            describer=self.describer,
            source_mask=inside["source"],
            target_mask=inside["target"],
        ).warped
        colours = torch.from_numpy(pulled[..., :3].copy()).permute(2, 0, 1).float()
        filled = fill_holes(thrown, colours, backward.valid)
        shown = [
            _rgba(splat.values, ~splat.hole.numpy() & inside["target"])
            for splat in (thrown, filled)
        ]
        holes = float((thrown.hole.numpy() & inside["target"]).sum() / inside["target"].sum())
        tiles = [
            ("source", source.image),
            ("thrown forward, holes chequered", shown[0]),
            ("holes filled backward", shown[1]),
        ]
        write_image(self.folder / "splat.png", panel(tiles, columns=3, height=220))
        self.add(
            "Pixels thrown forward",
            "splat.png",
            "The other way round, every pixel of the source is thrown to its place in the target."
            f" On {100 * holes:.0f} % of the target object's pixels nothing lands; on the right"
            " these holes are filled from the field of the target.",
            "warpkit propagate clip.mp4 --edit edited.png --edit-mode forward-warp -o out",
        )

    def _matches(self, source: RenderedFrame, target: RenderedFrame) -> None:
        places = np.argwhere((source.labels > 0) & target.target_visible)[:, ::-1]
        chosen = farthest_points(torch.from_numpy(places.astype(np.float32)), 12).numpy()
        xy = places[chosen].astype(np.float32)
        found = match(source.image, target.image, xy, describer=self.describer)
        truth = target.target_xy[xy[:, 1].astype(int), xy[:, 0].astype(int)]
        to_xy = found.target_xy[:, 0].numpy()
        limit = 0.1 * max(np.ptp(np.nonzero(target.labels), axis=1))
        right = np.linalg.norm(to_xy - truth, axis=1) <= limit
        for name, more in (
            ("matches.png", {}),
            ("scored.png", {"true_xy": truth, "correct": right}),
        ):
            drawn = draw_matches(source.image, target.image, xy, to_xy, height=300, **more)
            write_image(self.folder / name, drawn)
        self.add(
            "Points",
            "matches.png",
            "Twelve points spread over the object, each with its match.",
            'warpkit match A.png B.png --points "100,80;60,90" --picture matches.png',
        )
        self.add(
            "Points, scored",
            "scored.png",
            f"The same with the truth as crosses: {int(right.sum())} of {len(right)} lie within a"
            " tenth of the object's longer side.",
            "warpkit eval pck synth --root DIR -o results",
        )
        seen = similarity_at(source.image, target.image, xy[0].tolist(), describer=self.describer)
        drawn = draw_similarity(
            source.image, target.image, seen.source_xy, seen.target_xy, seen.map, height=220
        )
        write_image(self.folder / "similarity.png", drawn)
        self.add(
            "Similarity",
            "similarity.png",
            "The first of these points, its match, and its similarity to every pixel of the other"
            " image.",
            'warpkit match A.png B.png --points "100,80" --similarity similarity.png',
        )

    def clip(self, count: int) -> None:
        """A mask propagated through a clip: contact sheet and confidence."""
        frames = [render_frame(CLIPS[CLIP], 2 * t) for t in range(count)]
        height, width = frames[0].labels.shape
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with VideoWriter(
                folder / "clip.mp4", height=height, width=width, frame_rate=Fraction(12)
            ) as writer:
                for frame in frames:
                    writer.write(frame.image)
            write_labels(folder / "mask.png", frames[0].labels)
            out = run_propagate(
                folder / "clip.mp4",
                folder / "out",
                mask=folder / "mask.png",
                options=self.options,
                describer=self.describer,
            )
            write_image(self.folder / "contact_sheet.png", read_image(out / "contact_sheet.png"))
            shutil.copyfile(out / "confidence.svg", self.folder / "confidence.svg")
        command = "warpkit propagate clip.mp4 --mask first.png -o out"
        self.add(
            "Video",
            "contact_sheet.png",
            f"The first mask of the clip {CLIP} propagated through {count} frames: the first, the"
            " last, and those that the report would have you look at.",
            command,
        )
        self.add(
            "Predicted J over time",
            "confidence.svg",
            "The predicted J of each frame of the same run; dashed lines are frames to check.",
            command,
        )

    def inside(self) -> None:
        """Which layers the single model `tiny` mixes, and what it tells apart."""
        with tempfile.TemporaryDirectory() as name:
            image = Path(name) / f"{PAIR}.png"
            write_image(image, render_pair(name=PAIR)[1].image)
            small = ModelOptions(model="tiny", device="cpu", size=self.options.size)
            for path in run_inspect([image], Path(name) / "out", options=small):
                if path.name in ("mixing.png", "pca.png"):
                    write_image(self.folder / path.name, read_image(path))
        self.add(
            "Mixing weights",
            "mixing.png",
            "How much each layer of the model `tiny` counts in its descriptors.",
            "warpkit inspect -o out --model tiny",
        )
        self.add(
            "Main directions",
            "pca.png",
            "The three main directions of its descriptors as a colour: like colours, like"
            " meanings.",
            "warpkit inspect A.png -o out --model tiny",
        )

    def write(self) -> None:
        """The page."""
        (self.output / "gallery.md").write_text(self.text, encoding="utf-8")
        print(f"{self.output / 'gallery.md'} and {self.folder}")


def _error(found: np.ndarray, source: RenderedFrame, target: RenderedFrame) -> float:
    """Mean distance to the true source pixel over what both frames show of the object."""
    known = (target.labels > 0) & target.visible
    away = np.linalg.norm(found - target.source_xy, axis=-1)
    return float(away[known].mean())


def _rgba(values: torch.Tensor, shown: np.ndarray) -> np.ndarray:
    rgb = values.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.dstack([rgb, shown.astype(np.uint8) * 255])


if __name__ == "__main__":
    main()
