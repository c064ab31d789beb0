"""Moments of a video as people write them: a frame's number or name, seconds, a timecode."""

from __future__ import annotations

import bisect
import re
from fractions import Fraction

from warpkit.checks import InputError, counted, require
from warpkit.io.frame import Frames

__all__ = ["frame_at"]

_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*s")
_TIMECODE = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)([:;])(\d{1,3})")


def frame_at(frames: Frames, moment: str) -> int:
    """The index of the frame that is shown at a moment.

    Args:
        frames: of the video or folder.
        moment: a frame's number from 0, or its name in a folder; seconds since the first frame
            (`2.5s`); or a timecode from 00:00:00:00, hours, minutes, seconds and frames
            (`00:00:02:12`, with `;` before the frames where numbers are dropped, as at 29.97 Hz).

    Raises:
        InputError: it names no frame, or one that is not there.

    Source: SMPTE ST 12-1 for timecodes.
    """
    text = moment.strip()
    if seconds := _SECONDS.fullmatch(text):
        return _shown_at(frames, Fraction(seconds[1]))
    if timecode := _TIMECODE.fullmatch(text):
        index = _counted(timecode, frames.frame_rate)
    elif ":" in text:
        raise InputError(
            f"'{moment}' is no moment: give a frame's number, seconds such as 2.5s, or a timecode"
            " hours:minutes:seconds:frames such as 00:00:02:12"
        )
    else:
        index = frames.find(text)
    require(
        frames.count is None or index < frames.count,
        f"{frames.path}: there is no frame {index}: it has {counted(frames.count or 0, 'frame')}",
    )
    return index


def _counted(timecode: re.Match[str], rate: Fraction) -> int:
    """The frame that a timecode counts."""
    hours, minutes, seconds, number = (int(timecode[k]) for k in (1, 2, 3, 5))
    nominal = round(rate)
    dropped = 0
    if timecode[4] == ";":
        require(
            nominal % 30 == 0 and rate != nominal,
            f"';' in a timecode stands for dropped numbers, as at 29.97 and 59.94 frames a second;"
            f" this has {float(rate):g}: write ':' before the frames",
        )
        # The first numbers of every minute but each tenth are left out.
        minute = 60 * hours + minutes
        dropped = nominal // 15 * (minute - minute // 10)
    require(
        number < nominal,
        f"the timecode {timecode[0]} counts {number} frames, but a second has {nominal}",
    )
    return ((60 * hours + minutes) * 60 + seconds) * nominal + number - dropped


def _shown_at(frames: Frames, seconds: Fraction) -> int:
    """The last frame that begins no later; frames may last unequally."""
    if frames.count is not None:
        times = range(frames.count)
        found = bisect.bisect_right(times, seconds, key=lambda index: frames.read(index).time) - 1
        last, end = frames.count - 1, frames.read(frames.count - 1).time
    else:
        found, last, end = 0, 0, Fraction(0)
        for frame in frames:
            found, last, end = (
                (frame.index if frame.time <= seconds else found),
                frame.index,
                frame.time,
            )
            if frame.time > seconds:
                break
    require(
        found < last or seconds < end + 1 / frames.frame_rate,
        f"{frames.path}: nothing is shown at {float(seconds):g} s: it lasts"
        f" {float(end + 1 / frames.frame_rate):.3g} s",
    )
    return found
