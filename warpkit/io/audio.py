"""The sound of one video brought into another: copied where the container takes it, else AAC."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warpkit.checks import InputError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

__all__ = ["SoundTrack"]

_log = logging.getLogger("warpkit")

# What goes into a container unchanged; Matroska takes all.
_COPIED = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    "mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be"},
}
_AAC_RATES = {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000}


class SoundTrack:
    """The first sound track of a file, from a moment of its video on.

    Convention: moments are seconds since the file's first video frame, as `Frame.time`.

    Args:
        path: a media file; one without sound gives no sound.
        start: the moment that becomes the start of the new video.
    """

    def __init__(self, path: str | Path, start: Fraction = Fraction(0)) -> None:
        self.path, self.start = Path(path), start
        self._input: InputContainer | None = None
        self._packets: Iterator[tuple[Fraction, Any]] = iter(())
        self._encoder: AudioStream | None = None
        self._next: tuple[Fraction, Any] | None = None

    def open(self, container: OutputContainer, kind: str) -> None:
        """Add a stream to a container that is being written; `kind` is FFmpeg's name of it.

        Raises:
            InputError: a file that cannot be read.
        """
        import av

        try:
            self._input = av.open(str(self.path.absolute()))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: its sound cannot be read: {error.strerror}") from error
        source = next(iter(self._input.streams.audio), None)
        if source is None:
            return
        picture = next(iter(self._input.streams.video), None)
        origin = self.start
        if picture is not None and picture.start_time and picture.time_base:
            origin += picture.start_time * picture.time_base
        if source.codec_context.name in _COPIED.get(kind, {source.codec_context.name}):
            stream = container.add_stream_from_template(source)
            self._packets = self._copied(self._input, source, stream, origin)
        else:
            rate = source.codec_context.sample_rate
            stream = container.add_stream("aac", rate=rate if rate in _AAC_RATES else 48_000)
            # Some files do not name the places of their channels, so that only few can be told.
            stream.codec_context.layout = "mono" if source.codec_context.channels == 1 else "stereo"
            self._encoder = stream
            self._packets = self._encoded(self._input, source, stream, origin)

    def mux_until(self, container: OutputContainer, time: Fraction) -> None:
        """Write the sound that begins before a moment of the new video."""
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or self._next[0] >= time:
                return
            container.mux(self._next[1])
            self._next = None

    def finish(self, container: OutputContainer, end: Fraction) -> None:
        """Write the rest of the sound before the end of the new video."""
        self.mux_until(container, end)
        if self._encoder is not None:
            container.mux(self._encoder.encode(None))

    def close(self) -> None:
        """Let go of the file."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def _demux(self, container: InputContainer, source: AudioStream) -> Iterator[Any]:
        """Packets up to the end or to damage, which is reported."""
        import av

        try:
            yield from container.demux(source)
        except av.error.FFmpegError as error:
            _log.warning("the sound of %s ends early: %s", self.path, error.strerror)

    def _copied(
        self, container: InputContainer, source: AudioStream, stream: Any, origin: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        base = Fraction(source.time_base or 1)
        shift = round(origin / base)
        for packet in self._demux(container, source):
            if packet.dts is None or packet.pts is None or packet.pts < shift:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            moment = packet.pts * base
            packet.stream = stream
            yield moment, packet

    def _encoded(
        self, container: InputContainer, source: AudioStream, stream: Any, origin: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        import av

        for packet in self._demux(container, source):
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                _log.warning("a part of the sound of %s is damaged: %s", self.path, error.strerror)
                continue
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                moment = frame.pts * frame.time_base - origin
                if moment < 0:
                    continue
                frame.pts = round(moment / frame.time_base)
                yield moment, stream.encode(frame)
