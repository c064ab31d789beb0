"""A file that a library writes by its name: whole, or as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from warpkit.checks import OutputError, first_line
from warpkit.io.images import partial_path

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to; what is written there comes to `path` in one step.

    Raises:
        OutputError: it cannot be written.
    """
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)  # noqa: PTH105 - the name says that it is atomic
    # Writers report a full disk or a missing folder in classes of their own.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"{path} cannot be written: {first_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
