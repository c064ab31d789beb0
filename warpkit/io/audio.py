"""The sound of one video brought into another: copied where the container takes it, else AAC."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warpkit.checks import InputError
from warpkit.io.streams import open_media, picture_stream, shown_from

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer

__all__ = ["SoundTrack", "UsableSound", "usable_sound"]

_log = logging.getLogger("warpkit")

# What goes into a container unchanged; Matroska takes all.
_COPIED = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    "mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be"},
}
_AAC_RATES = {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000}
# Packets of a track that are tried before the work: one that can be used shows that by then.
_TRIED = 200


@dataclass(frozen=True)
class UsableSound:
    """A sound track that can be brought along.

    Attributes:
        index: of its stream in the file.
        copied: whether its packets go along as they are; else it is encoded as AAC.
        told: what was said of its damage, which all videos that it is brought into share.
    """

    index: int
    copied: bool
    told: list[str] = field(default_factory=list, compare=False)


def usable_sound(path: str | Path, kind: str) -> UsableSound | None:
    """The first sound track of a media file that can be read and written; None if there is none.

    A few packets of each are tried. One line is logged where a track is passed over.

    Args:
        kind: FFmpeg's name of the container to write.

    Raises:
        InputError: a file that cannot be read.
    """
    path = Path(path)
    with open_media(path, "its sound cannot be read") as container:
        indices = [stream.index for stream in container.streams.audio]
    for index in indices:
        found = next((f for f in _ways(path, kind, index) if _works(path, kind, f)), None)
        if found is not None:
            if index != indices[0]:
                _log.warning(
                    "the first sound track of %s cannot be used (its codec is unknown or its data"
                    " damaged): track %d goes along instead",
                    *(path, indices.index(index) + 1),
                )
            return found
    if indices:
        _log.warning(
            "the sound of %s cannot be used (its codec is unknown or its data damaged): results"
            " are without sound",
            path,
        )
    return None


def _ways(path: Path, kind: str, index: int) -> list[UsableSound]:
    """How a track might be brought along, the best way first."""
    with open_media(path) as container:
        context = container.streams[index].codec_context
        # PyAV gives a stream without a decoder no context, whatever its types say.
        if context is None:
            return []
        copied = context.name in _COPIED.get(kind, {context.name})
    return [UsableSound(index, True)] * copied + [UsableSound(index, False)]


def _works(path: Path, kind: str, sound: UsableSound) -> bool:
    """Whether the beginning of a track can be decoded, and written in that way."""
    import av

    track = SoundTrack(path, None, replace(sound, told=["nothing: it is tried"]))
    try:
        with open_media(path) as container:
            packets = container.demux(container.streams[sound.index])
            if not any(_frames(packet) for packet in itertools.islice(packets, _TRIED)):
                return False
        with av.open(io.BytesIO(), "w", format=kind) as made:
            track.open(made, kind)
            made.start_encoding()
            for _, written in itertools.islice(track.packets, 2):
                made.mux(written)
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError):
        # Of a container that cannot hold it, or a codec that cannot encode it.
        return False
    finally:
        track.close()
    return True


def _frames(packet: Any) -> list[Any]:
    """What a packet of sound holds; nothing where it is damaged."""
    import av

    try:
        return [frame for frame in packet.decode() if frame.samples]
    except av.error.FFmpegError:
        return []


class SoundTrack:
    """A sound track of a file, from a moment of its video on.

    Convention: moments are seconds since the file's first video frame, as `Frame.time`.

    Args:
        path: a media file; one without sound that can be used gives no sound.
        start: the moment that becomes the start of the new video; None for the file's own start.
        sound: which track; found when needed unless given.

    Attributes:
        packets: what is to be written, each with its moment in the new video.
    """

    def __init__(
        self,
        path: str | Path,
        start: Fraction | None = Fraction(0),
        sound: UsableSound | None = None,
    ) -> None:
        self.path, self.start, self.sound = Path(path), start, sound
        self.packets: Iterator[tuple[Fraction, Any]] = iter(())
        self._input: InputContainer | None = None
        self._encoder: AudioStream | None = None
        self._next: tuple[Fraction, Any] | None = None

    def open(self, container: OutputContainer, kind: str) -> None:
        """Add a stream to a container that is being written; `kind` is FFmpeg's name of it.

        Raises:
            InputError: a file that cannot be read.
        """
        sound = self.sound = self.sound or usable_sound(self.path, kind)
        if sound is None:
            return
        origin = Fraction(0) if self.start is None else self.start + self._first_frame()
        self._input = open_media(self.path, "its sound cannot be read")
        source: Any = self._input.streams[sound.index]
        if sound.copied:
            stream = container.add_stream_from_template(source)
            self.packets = self._copied(self._input, source, stream, origin)
        else:
            rate = source.codec_context.sample_rate
            stream = container.add_stream("aac", rate=rate if rate in _AAC_RATES else 48_000)
            # Some files do not name the places of their channels, so that only few can be told.
            stream.codec_context.layout = "mono" if source.codec_context.channels == 1 else "stereo"
            self._encoder = stream
            self.packets = self._encoded(self._input, source, stream, origin)

    def _first_frame(self) -> Fraction:
        """When the first video frame is shown, in seconds of the file's clock; 0 without video."""
        import av

        with open_media(self.path) as container:
            try:
                picture = picture_stream(container, self.path)
            except InputError:
                return Fraction(0)  # a file of sound alone
            for packet in container.demux(picture):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    continue
                if frames:
                    return shown_from(picture, frames[0])
        return Fraction(0)

    def mux_until(self, container: OutputContainer, time: Fraction) -> None:
        """Write the sound that begins before a moment of the new video."""
        while True:
            self._next = self._next or next(self.packets, None)
            if self._next is None or self._next[0] >= time:
                return
            self._mux(container, self._next[1])
            self._next = None

    def _mux(self, container: OutputContainer, packets: Any) -> None:
        """Write packets, but for those that the container finds damaged."""
        import av

        try:
            container.mux(packets)
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            self._tell("a part of the sound of %s is damaged: %s", error.strerror)

    def finish(self, container: OutputContainer, end: Fraction) -> None:
        """Write the rest of the sound before the end of the new video."""
        self.mux_until(container, end)
        if self._encoder is not None:
            self._mux(container, self._encoder.encode(None))

    def close(self) -> None:
        """Let go of the file."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def _tell(self, text: str, *values: Any) -> None:
        assert self.sound is not None
        if not self.sound.told:
            self.sound.told.append(text)
            _log.warning(text, self.path, *values)

    def _demux(self, container: InputContainer, source: AudioStream) -> Iterator[Any]:
        """Packets up to the end or to damage, which is reported."""
        import av

        try:
            yield from container.demux(source)
        except av.error.FFmpegError as error:
            self._tell("the sound of %s ends early: %s", error.strerror)

    def _copied(
        self, container: InputContainer, source: AudioStream, stream: Any, origin: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        base = Fraction(source.time_base or 1)
        shift = round(origin / base)
        last = None
        for packet in self._demux(container, source):
            if packet.dts is None or packet.pts is None or packet.pts < shift:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            # A container takes no packet that comes before the one written last.
            if last is not None and packet.dts <= last:
                continue
            last = packet.dts
            moment = packet.pts * base
            packet.stream = stream
            yield moment, packet

    def _encoded(
        self, container: InputContainer, source: AudioStream, stream: Any, origin: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        import av

        resampler = sort = None
        last = Fraction(-1)
        for packet in self._demux(container, source):
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                self._tell("a part of the sound of %s is damaged: %s", error.strerror)
                continue
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                moment = frame.pts * frame.time_base - origin
                if moment < 0 or moment <= last:
                    continue
                last = moment
                frame.pts = round(moment / frame.time_base)
                # Broadcasts change between stereo and surround sound within a track.
                if sort != (frame.format.name, frame.layout.name, frame.sample_rate):
                    sort = (frame.format.name, frame.layout.name, frame.sample_rate)
                    resampler = av.AudioResampler(
                        stream.format, stream.codec_context.layout, stream.rate
                    )
                assert resampler is not None
                parts = resampler.resample(frame)
                yield moment, [p for part in parts for p in stream.encode(part)]
