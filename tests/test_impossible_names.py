"""Names that no file can have, too long or with a zero byte: one line, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from warpkit.checks import InputError, check_file, exists, is_dir, is_file
from warpkit.image.pair import ImagePair
from warpkit.io.config import load_config
from warpkit.io.images import check_target
from warpkit.runs.folder import OutputFolder, check_result_file
from warpkit.train.state import training_folder
from warpkit.video import run as video_module
from warpkit.video.config import PropagateSettings

NAMES = ("x" * 300, "a\0b")
MATCH = ("match", "a.png", "a.png", "--points", "3,3")
CLIP = ("propagate", "clip.mp4", "-o", "out")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_called_so(name: str, tmp_path: Path) -> None:
    assert not exists(name) and not is_dir(tmp_path / name) and not is_file(name)
    with pytest.raises(InputError, match="no such file"):
        check_file(Path(name))
    with pytest.raises(InputError, match="no such configuration file"):
        load_config(PropagateSettings, name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_can_be_written_so(name: str, tmp_path: Path) -> None:
    for check in (check_target, lambda path: check_result_file(path, overwrite=True)):
        with pytest.raises(
            InputError, match=r"no such file can be written: (File name too|embedd)"
        ):
            check(tmp_path / name)
    for folder in (tmp_path / name, tmp_path / name / "below"):
        with pytest.raises(
            InputError, match=r"cannot write to .*(File name too long|embedded null)"
        ):
            OutputFolder(folder).check()
        with pytest.raises(InputError, match="cannot write to"), OutputFolder(folder):
            pass
        with pytest.raises(InputError, match="cannot write to"), training_folder(folder):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        (*MATCH, "--model", "NAME"),
        (*MATCH, "--model", "NAME.yaml"),
        (*MATCH, "--model", "NAME.safetensors"),
        (*MATCH, "--model", "tiny", "--aggregator", "NAME.pt"),
        (*MATCH, "--source-mask", "NAME"),
        (*MATCH, "-o", "NAME"),
        (*MATCH, "--picture", "NAME.png"),
        (*MATCH, "-c", "NAME"),
        ("warp", "a.png", "a.png", "-o", "NAME"),
        ("warp", "NAME", "a.png", "-o", "out"),
        (*CLIP, "--mask", "NAME"),
        (*CLIP, "--mask", "0=NAME"),
        (*CLIP, "--edit", "NAME"),
        (*CLIP, "--points", "NAME.npz"),
        ("propagate", "clip.mp4", "--mask", "mask.png", "-o", "NAME"),
        ("extract", "NAME", "-o", "out"),
        ("synthesize", "--images", "NAME", "-o", "out"),
        ("synthesize", "verify", "NAME"),
        ("train", "aggregator", "-c", "NAME", "-o", "out"),
        ("train", "backbone", "--set", "data=NAME", "-o", "out"),
        ("train", "aggregator", "--set", "weights=NAME", "-o", "out"),
        ("train", "aggregator", "--set", "initial=NAME", "-o", "out"),
        ("models", "verify", "NAME"),
        ("bench", "match", "--json", "NAME"),
    ],
)
def test_commands_say_it_in_one_line(
    cli: Callable[..., Ran],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: tuple[str, ...],
) -> None:
    for file, given in (("a.png", "frames/000.png"), ("clip.mp4",) * 2, ("mask.png",) * 2):
        (tmp_path / file).symlink_to(files / given)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ImagePair, "describe", None)
    monkeypatch.setattr(video_module, "propagate_clip", None)
    ran = cli(*(part.replace("NAME", name) for part in command), small=False)
    assert ran.code == 2 and len(ran.err.splitlines()) == 1
    assert "[Errno" not in ran.err and name[:3] in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "clip.mp4", "mask.png"]
