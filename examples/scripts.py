"""What these scripts share."""

from __future__ import annotations

import sys
from types import TracebackType

from warpkit.checks import InputError

__all__ = ["errors_in_one_line"]


def errors_in_one_line() -> None:
    """Let a script end on bad input as the command line does: `error: ...` and exit code 2.

    Other errors keep their traceback. Replaces `sys.excepthook` of this process.
    """
    before = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, InputError | OSError):
            before(kind, error, traceback)
            return
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)

    sys.excepthook = hook
