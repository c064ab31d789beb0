"""Uploads and jobs of the page's service."""

from __future__ import annotations

import shutil
from pathlib import Path

from app_jobs import LONG

from warpkit.app.queue import Job
from warpkit.app.service import Service
from warpkit.app.workspace import Upload
from warpkit.describe.options import ModelOptions

OPTIONS = ModelOptions(model="tiny", device="cpu", size=32)


def landed(service: Service, path: Path) -> str:
    """The path under which a copy of a file was uploaded."""
    place = service.workspace.uploads / path.name
    shutil.copyfile(path, place)
    return str(place)


def picture(service: Service, path: Path, visitor: str = "v") -> Upload:
    return service.take_picture(visitor, landed(service, path), path.name)


def finished(job: Job) -> Job:
    assert job.wait(LONG)
    assert job.state == "done", job.error
    return job
