"""What the page says of a job, and how a handler follows one."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator

from warpkit.app.queue import Job, JobQueue
from warpkit.checks import counted

__all__ = ["failed", "follow", "said", "status", "warned"]

_PAUSE = 0.15  # seconds between two looks at a job


def said(text: str) -> str:
    """A line that is neither progress nor an error."""
    return f'<div class="job">{html.escape(text)}</div>'


def failed(text: str) -> str:
    """A line of an error."""
    return f'<div class="job job-failed" role="alert">{html.escape(text)}</div>'


def warned(text: str) -> str:
    """A line of doubt: it went well, and is likely bad."""
    return f'<div class="job job-doubt" role="alert">{html.escape(text)}</div>'


def status(job: Job, before: int) -> str:
    """One line for a job, with a bar while it runs.

    Args:
        before: jobs before it in its queue.
    """
    if job.state == "waiting":
        if before == 0:
            return _bar("starting", None)
        are = "is" if before == 1 else "are"
        return _bar(f"waiting: {counted(before, 'job')} {are} before this one", None)
    if job.state == "running":
        known = job.total is not None and job.total > 0
        share = job.done / job.total if known and job.total else None
        count = f" ({job.done} of {job.total})" if known else ""
        return _bar(f"{job.stage}{count}, {job.seconds:.1f} s", share)
    if job.state == "done":
        return said(f"done in {job.seconds:.1f} s")
    if job.state == "cancelled":
        return said("cancelled")
    return failed(job.error)


def _bar(text: str, share: float | None) -> str:
    kind = "job-bar" if share is not None else "job-bar job-moving"
    width = 100 if share is None else round(100 * min(1.0, share))
    return (
        f'<div class="job" role="status">{html.escape(text)}'
        f'<div class="{kind}"><i style="width:{width}%"></i></div></div>'
    )


async def follow(queue: JobQueue, job: Job) -> AsyncIterator[str]:
    """Status lines of a job as long as it waits or runs, and somebody waits for it."""
    shown = ""
    while not (job.ended or queue.dropped(job)):
        line = status(job, queue.position(job))
        if line != shown:
            shown = line
            yield line
        await asyncio.sleep(_PAUSE)
