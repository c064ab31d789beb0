"""Video files out: frames at their exact size and time, whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, OutputError, check_image, one_of, require, usable_array
from warpkit.io.audio import SoundTrack
from warpkit.io.images import check_target
from warpkit.io.whole import Partial

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

__all__ = ["VideoWriter"]

_CONTAINERS = {
    "h264": {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"},
    "ffv1": {".mkv": "matroska"},
    "prores": {".mov": "mov"},
}
# Divides the frame times of all usual rates (24, 25, 30, 50, 60, 24000/1001, ...) and
# milliseconds, so that frames at times of their own keep them exactly.
_FINE = Fraction(1, 360_000)

# libswscale's SWS_BILINEAR | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND: all pixels count for chroma.
_ACCURATE = 0x2 | 0x4000 | 0x40000


class VideoWriter:
    """Writes a video; a context manager.

    `h264` (.mp4, .mov, .mkv) is compressed, tagged BT.709, with chroma at half resolution for
    even sizes and full resolution for odd ones, so that no size is ever changed. `ffv1` (.mkv)
    keeps every bit. `prores` (.mov) is ProRes 4444, for editors. The latter two also hold opacity
    (`alpha`), straight: colours are not multiplied by it. Frames come at `frame_rate`, or all of
    them at times of their own. The sound of another file can go along.

    The file appears under its name only when the block ends without an exception; otherwise
    nothing is left, and an older file stays as it was.

        with VideoWriter("out.mp4", height=480, width=854, frame_rate=24) as writer:
            for image in images:
                writer.write(image)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        height: int,
        width: int,
        frame_rate: Fraction | float,
        codec: str = "h264",
        crf: int = 18,
        alpha: bool = False,
        sound: SoundTrack | None = None,
        overwrite: bool = False,
    ) -> None:
        """Check everything; nothing is written yet.

        Args:
            height: height of every frame in pixels, at least 2.
            width: width of every frame in pixels, at least 2.
            frame_rate: frames per second.
            codec: `h264`, `ffv1` for a lossless file, `prores` for editors.
            crf: quality of `h264`, 0 (best) to 51.
            alpha: whether frames come with opacity; not for `h264`.
            sound: what to bring along, to the end of the last frame.
            overwrite: replace an existing file.

        Raises:
            InputError: for an unknown codec, a suffix it cannot go into, a size, rate or quality
                that is not possible, a missing folder, or an existing file.
        """
        self.path = Path(path)
        self.height, self.width = height, width
        self.codec = one_of(codec, _CONTAINERS, "codec")
        suffix = self.path.suffix.lower()
        suffixes = _CONTAINERS[codec]
        require(
            suffix in suffixes,
            f"{path}: {codec} video goes into {', '.join(suffixes)}, not '{suffix}'",
        )
        require(
            height >= 2 and width >= 2,
            f"a video needs at least 2 x 2 pixels, got {height} x {width} (height x width)",
        )
        require(0 < frame_rate <= 1000, f"frame_rate must lie in 0..1000, got {frame_rate}")
        require(0 <= crf <= 51, f"crf must lie in 0..51, got {crf}")
        require(
            not (alpha and codec == "h264"),
            f"{path}: h264 video holds no opacity: use ffv1 or prores",
        )
        check_target(self.path)
        require(
            overwrite or not self.path.exists(),
            f"{path}: the file exists already: give another name or allow overwriting",
        )
        self.frame_rate = Fraction(frame_rate).limit_denominator(100_000)
        self._format = suffixes[suffix]
        self._crf = crf
        self._alpha, self._sound = alpha, sound
        self._place = Partial(self.path)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._count = 0
        self._pts = -1
        self._timed = False

    def __enter__(self) -> Self:
        import av

        # Equal frames give equal files: no random identifiers, no version of the library.
        options = {"fflags": "+bitexact"}
        if self._format in ("mp4", "mov"):
            options["movflags"] = "+faststart"
        try:
            self._container = av.open(
                str(self._place.partial.absolute()), "w", format=self._format, options=options
            )
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        return self

    def write(self, image: npt.NDArray[np.uint8], time: Fraction | float | None = None) -> None:
        """Append one frame.

        Args:
            image: uint8 (height, width, 3), RGB; (height, width, 4) with opacity for `alpha`.
            time: seconds since the start, for frames at times of their own: given for every
                frame or for none, increasing. Kept to 1/360000 s (.mkv: to 1 ms).

        Raises:
            InputError: for a frame of another size or kind, a time that does not increase or is
                given for some frames only, or a file that cannot be written.
        """
        import av

        container = self._container
        if container is None:
            raise InputError("VideoWriter.write is for use inside a `with` block")
        image = usable_array(image)
        check_image(image[..., :3] if self._alpha and image.ndim == 3 else image, "frame")
        require(
            image.shape[2] == 3 + self._alpha,
            f"{self.path}: frames with opacity are (height, width, 4), frame {self._count} is"
            f" {image.shape}",
        )
        require(
            image.shape[:2] == (self.height, self.width),
            f"{self.path}: frames are {self.height} x {self.width} (height x width), frame"
            f" {self._count} is {image.shape[0]} x {image.shape[1]}",
        )
        require(
            self._count == 0 or self._timed == (time is not None),
            "give `time` for every frame or for none",
        )
        self._timed = time is not None
        pts = self._count if time is None else round(Fraction(time) / _FINE)
        require(
            pts > self._pts,
            f"{self.path}: times must start at 0 or later and increase, frame {self._count} is at"
            f" {time} s",
        )
        try:
            stream = self._stream or self._start(container)
            layout = "rgba" if self._alpha else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=layout)
            if self.codec != "ffv1":
                frame = frame.reformat(
                    format=stream.pix_fmt,
                    dst_colorspace="ITU709",
                    dst_color_range="MPEG",
                    interpolation=_ACCURATE,
                )
            else:
                frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = pts, self._time_base
            container.mux(stream.encode(frame))
            if self._sound is not None:
                self._sound.mux_until(container, (pts + 1) * self._time_base)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        self._pts = pts
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import av

        container, stream = self._container, self._stream
        self._container = self._stream = None
        assert container is not None
        try:
            with container:
                if kind is None and stream is not None:
                    container.mux(stream.encode(None))
                    if self._sound is not None:
                        end = self._pts * self._time_base + 1 / self.frame_rate
                        self._sound.finish(container, end)
            if kind is None:
                require(stream is not None, f"{self.path}: no frame was written: nothing is saved")
                self._place.publish()
        except (av.error.FFmpegError, OSError) as failure:
            # What went wrong inside the block matters more than that its file cannot be closed.
            if kind is None:
                raise self._failure(failure) from failure
        finally:
            if self._sound is not None:
                self._sound.close()
            self._place.discard()

    def _failure(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(f"{self.path}: the video cannot be written: {reason}")

    @property
    def _time_base(self) -> Fraction:
        return _FINE if self._timed else 1 / self.frame_rate

    def _start(self, container: OutputContainer) -> VideoStream:
        """Add the stream; only the first frame tells whether frames have times of their own."""
        # Without a `Literal` name PyAV's types do not tell that this is a video stream.
        if self.codec == "h264":
            stream = container.add_stream("libx264", rate=self.frame_rate)
            even = self.height % 2 == 0 and self.width % 2 == 0
            stream.pix_fmt = "yuv420p" if even else "yuv444p"
            # With its macroblock tree x264 gives varying files for equal tiny frames.
            stream.codec_context.options = {"crf": str(self._crf), "mbtree": "0"}
            if self._timed:
                # Reordered frames at times of their own leave the file too short by its header.
                stream.codec_context.options |= {"bf": "0"}
        elif self.codec == "prores":
            stream = container.add_stream("prores_ks", rate=self.frame_rate)
            stream.pix_fmt = "yuva444p10le" if self._alpha else "yuv444p10le"
            # Editors look for the vendor of the original encoder.
            stream.codec_context.options = {"profile": "4444", "vendor": "apl0"}
        else:
            stream = container.add_stream("ffv1", rate=self.frame_rate)
            stream.pix_fmt = "bgra" if self._alpha else "bgr0"
        stream.width, stream.height = self.width, self.height
        stream.codec_context.time_base = self._time_base
        if self.codec != "ffv1":
            _tag_bt709(stream)
        if self._sound is not None:
            self._sound.open(container, self._format)
        self._stream = stream
        return stream


def _tag_bt709(stream: VideoStream) -> None:
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.color_primaries = ColorPrimaries.BT709
    stream.codec_context.color_trc = ColorTrc.BT709
