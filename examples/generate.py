"""Images from the embedded model, and real images inverted to noise and back.

    python examples/generate.py -o out [--every 8] [--image PHOTO.jpg | --pictures DIR]

The embedded model is a diffusion model like Stable Diffusion, only small: the same loop that
inverts photographs for descriptors generates images of its classes. `samples.png` holds every class
named, or every so many-th of all, with the same seeds; nothing is picked by hand. The PSNR of
inversion and generation is that of one image, or over pictures of a folder.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from inversion import inversion_round_trip
from scripts import errors_in_one_line

from warpkit.checks import counted, require
from warpkit.coords import plan_fit
from warpkit.evaluate.generation import evenly_spaced, sample_grid
from warpkit.features import create_backbone
from warpkit.features.tiny import TINY_WEIGHTS, load_unet
from warpkit.io.images import IMAGE_SUFFIXES, read_image, write_image
from warpkit.render import CLIPS, render_frame
from warpkit.viz import panel

parser = argparse.ArgumentParser()
parser.add_argument("-o", "--output", type=Path, required=True)
parser.add_argument("--weights", type=Path, default=TINY_WEIGHTS, help="a trained UNet")
shown = parser.add_mutually_exclusive_group()
shown.add_argument("--classes", nargs="+", default=["airplanes", "Motorbikes", "sunflower", "dog"])
shown.add_argument("--every", type=int, metavar="K", help="every K-th class, from the first")
parser.add_argument("--count", type=int, default=2, help="images a class: seeds 0, 1, ...")
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--steps", type=int, default=20, help="of a generation")
parser.add_argument("--skip", type=int, default=5, help="of these, the noisiest are left out")
parser.add_argument("--guidance", type=float, default=8.0)
parser.add_argument("--pag", type=float, default=3.0, help="scale of perturbed-attention guidance")
parser.add_argument("--eta", type=float, default=1.0, help="0 DDIM, 1 ancestral sampling")
inverted = parser.add_mutually_exclusive_group()
inverted.add_argument("--image", type=Path, help="photograph to invert, at its own size")
inverted.add_argument("--pictures", type=Path, metavar="DIR", help="invert pictures below DIR")
parser.add_argument("--inversion", type=int, default=50, help="steps to noise, and back")
parser.add_argument("--number", type=int, default=32, help="of these, evenly over their names")
parser.add_argument("--height", type=int, help="of a sample in the grid, in pixels")
errors_in_one_line()
args = parser.parse_args()


def centre(path: Path) -> npt.NDArray[np.uint8]:
    """The inscribed square at a picture's centre."""
    picture = read_image(path)
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def to_tensor(picture: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    """Float (1, 3, size, size) in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    height, width = picture.shape[:2]
    return plan_fit(height=height, width=width, size=size, multiple=1, mode="stretch").apply(pixels)


def to_array(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3)."""
    array: npt.NDArray[np.uint8] = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return array


args.output.mkdir(parents=True, exist_ok=True)
backbone = create_backbone("tiny", weights=args.weights, num_steps=args.steps)
classes = args.classes
if args.every is not None:
    require(args.every > 0, f"--every is a positive number, got {args.every}")
    classes = load_unet(args.weights)[1].classes[:: args.every]
grid = sample_grid(
    backbone,
    classes,
    seeds=range(args.count),
    size=args.size,
    guidance=args.guidance,
    pag_scale=args.pag,
    skip=args.skip,
    eta=args.eta,
    height=args.height,
)
write_image(args.output / "samples.png", grid)

backbone = create_backbone("tiny", weights=args.weights, num_steps=args.inversion)
size = args.size
if args.pictures is not None:
    found = sorted(p for p in args.pictures.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    require(len(found) > 0, f"no pictures below {args.pictures}")
    pictures = [centre(path) for path in evenly_spaced(found, args.number)]
elif args.image is not None:
    pictures = [centre(args.image)]
    size = len(pictures[0]) // backbone.spec.multiple * backbone.spec.multiple
else:
    pictures = [render_frame(CLIPS["fish"], 0).image[32:160, 32:160]]

tiles, psnrs = [], []
for number, picture in enumerate(pictures):
    real = to_tensor(picture, size)
    back, psnr = inversion_round_trip(backbone, real)
    psnrs.append(float(psnr[0]))
    if number < 4:
        tiles += [
            ("image", to_array(real[0])),
            (f"inverted and back, {psnrs[-1]:.1f} dB", to_array(back[0])),
        ]
write_image(args.output / "round_trip.png", panel(tiles, columns=2, height=256))
what = f"inverted in {counted(args.inversion, 'step')} and generated again"
if len(psnrs) == 1:
    print(f"{what}: PSNR {psnrs[0]:.1f} dB")
else:
    print(
        f"{what}: PSNR {np.mean(psnrs):.1f} dB on average over {len(psnrs)} pictures, median"
        f" {np.median(psnrs):.1f}, {min(psnrs):.1f} to {max(psnrs):.1f}"
    )
