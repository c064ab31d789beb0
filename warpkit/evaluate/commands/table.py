"""`warpkit eval table`: many results in one table, with published rows and pictures.

In: result files or folders of `warpkit eval`. Out: `table.md`, `table.html` and `pictures/`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, is_dir, is_file, require
from warpkit.evaluate.commands.pictures import result_pictures
from warpkit.evaluate.tables import (
    as_html,
    as_markdown,
    merge_tables,
    published_rows,
    result_table,
)
from warpkit.io.images import write_image
from warpkit.io.text import read_json
from warpkit.runs.folder import OutputFolder

__all__ = ["read_result", "run_eval_table"]


def read_result(path: Path) -> dict[str, Any]:
    """A result file, or the `result.json` of a folder.

    Raises:
        InputError: no such file, or no result in it.
    """
    file = path / "result.json" if is_dir(path) else path
    require(is_file(file), f"no result at {file}: give files or folders that 'warpkit eval' wrote")
    content = read_json(file)
    require(
        isinstance(content, dict) and content.get("kind") in ("pck", "davis", "warp"),
        f"{file} is no result of 'warpkit eval' (its 'kind' must be pck, davis or warp)",
    )
    return dict(content)


def run_eval_table(
    results: Sequence[Path | str],
    output: Path | str,
    *,
    pictures: bool = True,
    published: bool = True,
    overwrite: bool = False,
) -> str:
    """Write one table of many results.

    Args:
        results: files or folders; a folder's predictions and masks are drawn.
        output: folder for `table.md`, `table.html` and `pictures/`.
        pictures: draw the best, median and worst pairs and the worst frame of each clip.
        published: put the papers' numbers for the same data sets below, marked as such.

    Returns:
        The Markdown.

    Raises:
        InputError: a file that is no result, or a folder that holds something.
    """
    require(len(results) > 0, "give at least one result file or folder")
    paths = [Path(name) for name in results]
    read = [read_result(path) for path in paths]
    tables = []
    for path, result in zip(paths, read, strict=True):
        try:
            tables.append(result_table(result))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    tables = merge_tables(tables)
    if published:
        table = published_rows([str(result.get("dataset")) for result in read])
        tables += [table] if table is not None else []
    markdown = "\n\n".join(map(as_markdown, tables)) + "\n"
    with OutputFolder(output, overwrite=overwrite) as folder:
        folder.file("table.md").write_text(markdown, encoding="utf-8")
        sections = [as_html(table) for table in tables]
        if pictures:
            for number, (path, result) in enumerate(zip(paths, read, strict=True), start=1):
                if is_dir(path):
                    sections.append(_picture_section(folder, path, result, number))
        folder.file("table.html").write_text(_page(sections), encoding="utf-8")
    return markdown


def _picture_section(
    folder: OutputFolder, path: Path, result: Mapping[str, Any], number: int
) -> str:
    title = html.escape(f"{result['title']}: {result['method']}")
    figures = []
    try:
        for picture in result_pictures(path, result):
            name = f"pictures/{number}-{picture.name}.jpg"
            write_image(folder.file(name), picture.image)
            caption = html.escape(picture.caption)
            figures.append(
                f'<figure><img src="{html.escape(name)}" alt="{caption}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    except (InputError, LookupError, TypeError, AttributeError) as error:
        return f"<section><h2>{title}</h2><p>No pictures: {html.escape(str(error))}</p></section>"
    if not figures:
        return ""
    legend = (
        "<p>Blue matches are right, orange ones wrong; a cross is where the point really is.</p>"
        if result["kind"] == "pck"
        else ""
    )
    return f"<section><h2>{title}</h2>{legend}<div>{''.join(figures)}</div></section>"


def _page(sections: Sequence[str]) -> str:
    """A page without scripts or outside requests."""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>warpkit evaluation</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2330; }}
section {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #dde2e8;
  white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
.best {{ font-weight: 700; }}
.published td {{ color: #5a6472; text-align: left; }}
section > div {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; max-width: 100%; }}
img {{ max-width: 100%; border-radius: 4px; }}
figcaption, section > p {{ color: #5a6472; font-size: .9rem; }}
</style>
<h1>warpkit evaluation</h1>
{"".join(sections)}
</html>
"""
