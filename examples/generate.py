"""Images from the embedded model, and a real image inverted to noise and back.

    python examples/generate.py -o out [--image PHOTO.jpg]

The embedded model is a diffusion model like Stable Diffusion, only small: the same loop that
inverts photographs for descriptors generates images of its classes. Their features come out of the
same run (`on_features`).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from warpkit.features import create_backbone
from warpkit.io.images import read_image, write_image
from warpkit.render import CLIPS, render_frame
from warpkit.viz import panel

parser = argparse.ArgumentParser()
parser.add_argument("-o", "--output", type=Path, required=True)
parser.add_argument("--image", type=Path, help="photograph to invert; by default a rendered frame")
parser.add_argument("--classes", nargs="+", default=["airplanes", "Motorbikes", "sunflower", "dog"])
parser.add_argument("--count", type=int, default=2, help="images a class")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--guidance", type=float, default=4.0)
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)

backbone = create_backbone("tiny", num_steps=args.steps)
tiles = []
for name in args.classes:
    recorded = []
    images = backbone.generate(
        [name] * args.count,
        backbone.noise(range(args.count), height=128, width=128),
        guidance_scale=args.guidance,
        on_features=recorded.append,
    )
    arrays = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    tiles += [(f"{name}, seed {seed}", image) for seed, image in enumerate(arrays)]
write_image(args.output / "samples.png", panel(tiles, columns=2 * args.count, height=128))

if args.image is None:
    picture = render_frame(CLIPS["fish"], 0).image[32:160, 32:160]
else:
    picture = read_image(args.image)
    side = min(picture.shape[:2]) // 16 * 16
    picture = picture[:side, :side]
real = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
real = real.to(backbone.device)
noise = backbone.invert_to_noise(backbone.codec.encode(real))
back = backbone.generate([""], noise, guidance_scale=1)
psnr = -10 * torch.log10((back - real).square().mean())
print(f"inverted in {args.steps} steps and generated again: PSNR {psnr:.1f} dB")
array = (back[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
pair = [("image", picture), (f"inverted and back, {psnr:.1f} dB", array)]
write_image(args.output / "round_trip.png", panel(pair, columns=2, height=256))
