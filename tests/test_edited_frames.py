"""The edited first frame of a video: what of it was painted, whoever decoded and saved it."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from PIL import Image

import warpkit
from warpkit.propagate import EditConfig, EditLayer
from warpkit.video.config import PropagateSettings
from warpkit.video.edits import read_edit


def colourful(height=96, width=128):
    """Stripes of strong colours: where decoders differ most."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x // 9 + y // 13) % 2, (x // 15) % 2, (x // 7 + y // 11) % 3 / 2]
    return (40 + 170 * np.stack(planes, -1)).astype(np.uint8)


def chroma_repeated(image, way):
    """An image as it comes out of a video: colour at half resolution, grown in one way."""
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    height, width = image.shape[:2]
    small = cv2.resize(ycc, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    ycc[..., 1:] = cv2.resize(small, (width, height), interpolation=way)[..., 1:]
    return cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB)


WAYS = [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("stroke", [(255, 0, 0), (30, 30, 30), (255, 255, 255)])
@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_a_frame_that_another_program_decoded(way, stroke, known):
    original = chroma_repeated(colourful(), cv2.INTER_LINEAR)
    decoding = chroma_repeated(colourful(), way)
    painted = np.zeros(original.shape[:2], bool)
    painted[40:60, 50:90] = True
    edited = decoding.copy()
    edited[painted] = stroke
    decodings = [chroma_repeated(colourful(), other) for other in WAYS] if known else []
    layer = EditLayer.from_edited_frame(original, edited, decodings=decodings)
    found = layer.alpha > 0
    near = cv2.dilate(painted.astype(np.uint8), np.ones((5, 5))) > 0
    assert not found[~near].any()
    assert (found & painted).sum() > 0.97 * painted.sum()
    if known:
        assert not found[~painted].any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("e.jpg", {"quality": 95}),
        ("e.jpg", {"quality": 80}),
        ("e.jpg", {"quality": 90, "subsampling": 0}),
        ("e.webp", {"quality": 80}),
        ("e.webp", {"lossless": True}),
        ("e.png", {}),
    ],
)
@pytest.mark.parametrize("program", ["opencv", "pyav", "bicubic", "warpkit"])
def test_an_edit_painted_on_a_frame_of_a_video(tmp_path, program, name, options):
    """As OpenCV, PyAV, ffmpeg or this package shows it, saved with or without loss."""
    path = tmp_path / "v.mp4"
    with warpkit.VideoWriter(path, height=96, width=128, frame_rate=10) as writer:
        for _ in range(2):
            writer.write(colourful())
    frames = warpkit.open_frames(path)
    first = next(iter(frames))
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
    shown = {
        "opencv": cv2.VideoCapture(str(path)).read()[1][..., ::-1],
        "pyav": decoded.to_ndarray(format="rgb24"),
        "bicubic": decoded.to_ndarray(format="rgb24", interpolation="BICUBIC"),
        "warpkit": first.image,
    }[program]
    painted = np.zeros(shown.shape[:2], bool)
    painted[40:60, 50:90] = True
    edited = shown.copy()
    edited[painted] = (255, 255, 255)
    Image.fromarray(edited).save(tmp_path / name, **options)
    found = read_edit(tmp_path / name, frames, first).alpha > 0
    assert (found & painted).sum() > 0.97 * painted.sum()
    lossless = name == "e.png" or "lossless" in options
    # Compression works in blocks of 16 pixels, whose colours reach a pixel further.
    side = 1 if lossless else 35
    near = cv2.dilate(painted.astype(np.uint8), np.ones((side, side))) > 0
    assert (found & ~near).sum() <= (0 if name != "e.webp" else 40)


@pytest.mark.parametrize("mode", ["track", "backward-warp", "forward-warp"])
@pytest.mark.parametrize("outlined", [True, False])
@pytest.mark.parametrize("blend", ["soft", "poisson"])
def test_an_edit_of_the_whole_frame(model, clip, mode, outlined, blend):
    """A stylised frame: it covers all of every frame, and nothing is warned of."""
    first = clip[0].image
    layer = EditLayer.from_edited_frame(first, 255 - cv2.GaussianBlur(first, (0, 0), 2))
    assert layer.alpha.mean() > 0.9
    settings = PropagateSettings(edit_mode=mode, edit=EditConfig(blend=blend, short_side=64))
    labels = np.ones(first.shape[:2], np.uint8) if outlined else None
    results = list(
        model.propagate(
            [frame.image for frame in clip[:3]], labels=labels, edit=layer, settings=settings
        )
    )
    for frame, result in zip(clip[1:3], results[1:], strict=True):
        assert result.layer.alpha.mean() > 0.8
        if blend == "soft":
            negative = 255 - frame.image.astype(int)
            far = np.abs(result.edited.astype(int) - negative).mean()
            assert far < np.abs(frame.image.astype(int) - negative).mean()
