"""docs/cli.md from the parser: run this after a change of the command line; a test compares."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from warpkit.cli.arguments import add_model
from warpkit.cli.main import command_parser

TARGET = Path(__file__).parents[1] / "cli.md"
HEAD = """# Commands

Written from the parser by `python docs/api/write_cli.py`. Keys of YAML and of `--set` are those of the
classes of settings and of `ModelOptions`, side by side ([tasks](api/tasks.md)), and a wrong key names
the right ones. Those that fill a folder leave a `run.json` (`eval`: `result.json`) with the whole configuration,
versions and times in it. Bad input gives one line and exit code 2.

| file | content |
|---|---|
| `warped.png` | RGBA: the source's colours at the target's pixels, transparent where nothing was warped; 16 bits and colour profile as `composite.png` |
| `composite.png`, `overview.png` | the target with the object on it (its transparency and colour profile; 16 bits where an input has them); inputs, field and result in one picture |
| `warp.npz` | `source_xy` float32 (H, W, 2), `similarity` float32 (H, W), `valid` bool (H, W): where the way back leads to the start |
| `masks/*.png` | palette PNGs of object ids; named by the frame's number from 0, or as the frame (`--names`) |
| `overlay.mp4`, `edited.mp4`, `frames/*.png` | masks drawn in; with an edit or colour map the edited frames |
| `frames.jsonl` | one line per frame: time, area and mean confidence of each object, who is absent, scene cuts |
| `points.csv`, `.json`, `.npz` | where each point is in every frame, and whether it is seen |
| `report.html`, `report.json`, `contact_sheet.png` | how good the result promises to be, and which frames to check first |
| `match` JSON | `source_points`, `target_points`, `similarity`, and `valid`: whether matching back ends near the point, or the filters asked for are passed ([below](#warpkit-match)) |

With a model come

| argument | |
|---|---|
{model}

Masks may be binary, palette or several objects, and of any frames: `--mask 40=fixed.png`. A video is
anything PyAV reads, or a folder of frames.
"""


def parsers(parser: argparse.ArgumentParser, about: str = "") -> Iterator[tuple[str, str, list]]:
    """Every command: its words, what it does, its arguments."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    own = [a for a in parser._actions if a not in below and "--help" not in a.option_strings]
    if own and " " in parser.prog:
        yield parser.prog, parser.description or about, own
    for group in below:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            yield from parsers(command, helps.get(name, ""))


def spelled(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else None)
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return str(value or action.dest)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    return f"{', '.join(action.option_strings)} {value or action.dest.upper()}"


def row(action: argparse.Action) -> str:
    """A row of a table."""
    text = (action.help or "").replace("|", "\\|").replace("%%", "%")
    typed = spelled(action).replace("|", "\\|")
    return f"| `{typed}` | {text} |"


def render() -> str:
    """The whole page."""
    model = argparse.ArgumentParser()
    add_model(model)
    shared = [row(action) for action in model._actions[1:]]
    lines = [HEAD.replace("{model}", "\n".join(shared))]
    for words, about, arguments in parsers(command_parser()):
        rows = [row(action) for action in arguments]
        described = set(shared) <= set(rows)
        own = [text for text in rows if not described or text not in shared]
        text = about.rstrip(".")
        lines += [f"## {words}", "", f"{text[:1].upper()}{text[1:]}.", ""]
        lines += ["| argument | |", "|---|---|", *own]
        lines += ["| those of a model | |"] * described + [""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
