"""How right a set's matches are: its own images bent by known warps, and the files that say so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec

from warpkit.io.images import write_image
from warpkit.io.text import read_json
from warpkit.io.whole import write_json, write_text
from warpkit.match.matcher import Matcher
from warpkit.runs.folder import OutputFolder
from warpkit.runs.progress import Bar
from warpkit.synthesize.config import PairSettings
from warpkit.synthesize.measures import (
    PrecisionRow,
    measure_image,
    precision_doubt,
    precision_rows,
    precision_table,
)
from warpkit.synthesize.records import Record
from warpkit.synthesize.sheets import record_image, record_mask
from warpkit.types import Describer

__all__ = ["measure_set"]

_log = logging.getLogger("warpkit")


def measure_set(
    folder: OutputFolder,
    settings: PairSettings,
    load: Callable[[], tuple[Describer, Matcher | None]],
    shown: Sequence[Record],
) -> tuple[list[PrecisionRow], int]:
    """Precision on known warps of kept pairs' second images: `quality.json`, `.md` and `.png`.

    A table that is there, from before a run was stopped, is read and not made again.

    Args:
        load: gives what describes and matches.
        shown: kept pairs.

    Returns:
        The rows of the table and the number of images it was measured on.
    """
    path = folder.file("quality.json")
    if path.is_file():
        stored = read_json(path)
        return [PrecisionRow(**row) for row in stored["rows"]], stored["images"]
    describer, matcher = load()
    found = [
        measure_image(
            describer,
            record_image(record, "target"),
            record_mask(record, "target"),
            settings,
            seed=int(record.id),
            matcher=matcher,
        )
        for record in Bar(shown, desc="known warps", unit="image")
    ]
    measured = [one for one in found if one is not None]
    if not measured:
        return [], 0
    rows = precision_rows(measured, settings.labels.filters, least=settings.labels.least)
    write_text(folder.file("quality.md"), precision_table(rows) + "\n")
    _draw_curve(folder, rows)
    write_json(path, {"images": len(measured), "rows": [asdict(row) for row in rows]})
    doubt = precision_doubt(rows)
    if doubt is not None:
        _log.warning("%s: see quality.md", doubt)
    return rows, len(measured)


def _draw_curve(folder: OutputFolder, rows: list[PrecisionRow]) -> None:
    if find_spec("matplotlib") is None:
        _log.warning("no quality.png: it needs pip install 'warpkit-hyperfeatures[synth]'")
        return
    from warpkit.viz import plot_curves

    drawn = []
    for row in rows:
        if row.precision5 is not None:
            run = "the run's filters" if row.setting.startswith("...") else row.setting
            drawn.append(("", row.filter or run, 100 * row.kept, 100 * row.precision5))
    curves = plot_curves(
        drawn,
        "known warps of the set's images, one point per setting",
        across="matches kept, %",
        up="of these within 5 % of the object, %",
    )
    write_image(folder.file("quality.png"), curves)
