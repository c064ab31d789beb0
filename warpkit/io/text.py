"""Text files as other tools write them, and names of files whatever their encoding.

In: UTF-8, with a byte-order mark or without, UTF-16 and UTF-32 as Windows tools write them, any
line ends; paths with backslashes. Out: text, JSON values, paths of this system.

A file's name may be bytes that are no UTF-8. Python holds such a byte as a surrogate, U+DC80 to
U+DCFF, and what is written has it as the escape `\\udce9`: JSON reads the same name from it. A list
of names that is read, or written to name files, has the byte itself.
"""

from __future__ import annotations

import io
import json
from pathlib import Path, PureWindowsPath
from typing import Any

from warpkit.checks import InputError, first_line, is_file

__all__ = ["local_path", "read_json", "read_lines", "read_text", "valid_text"]


def read_text(path: Path, *, errors: str = "strict") -> str:
    """What a text file holds, without a byte-order mark, its lines ended by "\\n".

    Args:
        errors: `surrogateescape` keeps bytes that are no UTF-8, for lists of names.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    encoding = json.detect_encoding(raw)
    try:
        return io.StringIO(raw.decode(encoding, errors), newline=None).read()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is no text in {encoding.removesuffix('-sig').upper()} ({error.reason} in line"
            f" {line}): save it as UTF-8"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a list that are not blank, without surrounding spaces.

    Raises:
        InputError: as `read_text`.
    """
    lines = read_text(path, errors="surrogateescape").split("\n")
    return [line.strip() for line in lines if line.strip()]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: as `read_text`; it is no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {first_line(error)}") from error


def valid_text(text: str) -> str:
    """The text for a format that holds UTF-8 alone: other bytes of names as backslash escapes."""
    return text.encode(errors="backslashreplace").decode()


def local_path(name: str) -> Path:
    """A path that a text file names: backslashes separate folders unless a file is called so."""
    path = Path(name)
    return Path(PureWindowsPath(name).as_posix()) if "\\" in name and not is_file(path) else path
