"""The command line: fast help, configuration, one line for bad input and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

import warpkit
from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.cli.main import main
from warpkit.image import warp as warping
from warpkit.io.images import write_image

Cli = Callable[..., Ran]
Tree = Callable[[Path], dict[str, bytes | None]]

COMMANDS = ("demo", "warp", "match", "propagate", "extract", "models", "train")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def assert_refused(ran: Ran, *expected: str) -> None:
    """Exit code 2 and one line on stderr that says what is expected of it."""
    assert ran.code == 2
    assert len(ran.messages) == 1, ran.messages
    for text in expected:
        assert text in ran.messages[0]


# ------------------------------------------------------------------------------------ imports


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom warpkit.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'torch', 'numpy', 'cv2', 'av', 'PIL', 'diffusers'} & set(sys.modules)))"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"
    assert all(f"    {name}" in ran.stdout for name in COMMANDS)


def test_warp_and_match_with_the_default_model_import_little(tmp_path: Path) -> None:
    """Most of the time that a command on a small pair takes is that of its imports."""
    rng = np.random.default_rng(0)
    for name in "ab":
        write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (24, 32, 3), np.uint8))
    late = {"accelerate", "diffusers", "faiss", "kornia", "numba", "scipy", "sympy", "transformers"}
    code = (
        f"import os, sys\nfrom warpkit.cli.main import main\nos.chdir({str(tmp_path)!r})\n"
        "main(['warp', 'a.png', 'b.png', '-o', 'out', '--size', '64'])\n"
        "main(['match', 'a.png', 'b.png', '--points', '3,4', '-o', 'out.json', '--size', '64'])\n"
        f"print(sorted({late | {'torch._dynamo', 'torch._inductor'}} & set(sys.modules)))"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_nobody_looks_for_garbage_in_what_a_command_imports() -> None:
    """Where the process is the command; else the collector is the caller's affair."""
    ran = python(
        "-c",
        "import gc, sys\nfrom warpkit.cli import main as program\n"
        "kept = lambda args: print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "program._COMMANDS['mask'] = kept\n"
        "program.main(['mask', 'a.png', '-o', 'b.png'])\n"
        "sys.argv = ['warpkit', 'mask', 'a.png', '-o', 'b.png']\nprogram.main()",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["True False", "True True"]


def test_import_is_light_and_names_come_when_used() -> None:
    ran = python(
        "-c",
        "import sys, warpkit\nprint('torch' in sys.modules, 'numpy' in sys.modules)\n"
        "warpkit.InputError\nprint('torch' in sys.modules)",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["False False", "False"]


def test_module_is_the_command() -> None:
    ran = python("-m", "warpkit", "--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"warpkit {warpkit.__version__}\n", "")


def test_public_names_resolve() -> None:
    assert sorted(warpkit.__all__) == sorted(set(warpkit.__all__))
    for name in warpkit.__all__:
        assert getattr(warpkit, name) is not None
    assert set(warpkit._HOMES) | {"__version__"} == set(warpkit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'wrap'"):
        _ = warpkit.wrap


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"warpkit {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "named"),
    [([], "propagate"), (["eval"], "davis"), (["train"], "aggregator")],
)
def test_a_bare_command_says_what_there_is(
    told: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(told)
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and err == ""
    with pytest.raises(SystemExit):
        main([*told, "--help"])
    assert out == capsys.readouterr().out
    assert out.startswith("usage: warpkit") and named in out


def test_models(cli: Cli) -> None:
    table = cli("models", small=False)
    assert table.code == 0
    names = [line.split()[0] for line in table.out.splitlines()]
    assert names[:5] == ["model", "embedded", "efficientnet-lite0", "tiny", "sd15"]
    assert cli("models", "list", small=False).out == table.out
    rows = json.loads(cli("models", "--json", small=False).out)
    assert [row["model"] for row in rows] == names[1:]
    assert all(set(row) == {"model", "what", "licence", "weights", "here"} for row in rows)


# ------------------------------------------------------------------------------ configuration


def test_file_then_flags_then_set(cli: Cli, files: Path, tmp_path: Path) -> None:
    config = tmp_path / "warp.yaml"
    config.write_text("size: 16\nblend: paste\ninterpolation: nearest\nfeather: 1\ndevice: cpu\n")
    out = tmp_path / "out"
    pair = (files / "frames/000.png", files / "frames/001.png")
    given = ("-c", config, "--size", 48, "--blend", "feather")
    overrides = ("--set", "size=32", "--set", "feather=9", "--set", "feather=3")
    assert cli("warp", *pair, "-o", out, *given, *overrides, small=False).code == 0
    record = json.loads((out / "run.json").read_text())
    assert record["command"] == "warp"
    assert record["config"] == {
        "model": "embedded",
        "device": "cpu",
        "aggregator": None,
        "size": 32,  # --set over flag over file
        "fit": None,
        "engine": "auto",
        "batch_size": 8,
        "acceleration": "auto",
        "descriptor_cache": None,
        "descriptor_cache_gb": 20.0,
        "mask": "auto",
        "segmenter": None,
        "text": None,
        "field": "coherent",
        "mirror": "auto",
        "tolerance": 0.1,
        "fill": True,
        "layers": 4,
        "interpolation": "nearest",  # only in the file
        "blend": "feather",  # flag over file
        "feather": 3.0,  # the last --set
        "tone": "keep",
        "shading": "none",
        "strength": 1.0,
        "min_similarity": None,
        "mutual": False,
        "cycle_distance": None,
        "subpixel": False,
        "max_pairs": 4e9,
    }
    assert record["versions"]["warpkit"] == warpkit.__version__
    assert record["versions"]["torch"]
    assert set(record["timings"]) == {"find masks", "load model", "warp", "write"}
    assert all(seconds >= 0 for seconds in record["timings"].values())
    assert record["inputs"]["source"] == str(pair[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blnd: paste", ["unknown key 'blnd'", "bad.yaml", "did you mean 'blend'?"]),
        ("feather: wide", ["bad.yaml", "'feather' must be a number", "'wide'"]),
        ("blend: featherd", ["one of paste, feather, poisson", "did you mean 'feather'?"]),
        ("size: [1", ["bad.yaml", "not valid YAML"]),
    ],
)
def test_bad_configuration_file(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, text: str, expected: list[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    before = tree(tmp_path)
    pair = (files / "frames/000.png", files / "frames/001.png")
    ran = cli("warp", *pair, "-o", tmp_path / "out", "-c", tmp_path / "bad.yaml")
    assert_refused(ran, "warpkit warp: ", *expected)
    assert tree(tmp_path) == before


# ---------------------------------------------------------------------------------- bad input

PAIR = ("{files}/frames/000.png", "{files}/frames/001.png")
WARP = ("warp", *PAIR, "-o", "{here}/out")
MATCH = ("match", *PAIR, "-o", "{here}/out.json")
CLIP = ("propagate", "{files}/frames", "-o", "{here}/out")
MASKED = (*CLIP, "--mask", "{files}/mask.png")
EXTRACT = ("extract", "{files}/frames/000.png", "-o", "{here}/out")
DEMO = ("demo", "-o", "{here}/out")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # Files that cannot be used.
        (("warp", "{here}/no.png", PAIR[1], "-o", "{here}/out"), ["no.png: no such file"]),
        (("warp", "{files}/text.png", PAIR[1], "-o", "{here}/out"), ["text.png: not an image"]),
        (("warp", "{files}", PAIR[1], "-o", "{here}/out"), ["expected an image", "a folder"]),
        ((*WARP, "--source-mask", "{here}/no.png"), ["source mask", "no file"]),
        ((*WARP, "--source-mask", "{files}/narrow.png"), ["48 x 60", "48 x 80", "own size"]),
        ((*WARP, "--target-mask", "{files}/empty.png"), ["target mask", "empty"]),
        ((*WARP, "--target-mask", "{files}/text.png"), ["text.png: not an image"]),
        ((*MATCH, "--points", "3,3", "--target-mask", "{files}/empty.png"), ["empty.png is empty"]),
        ((*MATCH, "--points", "3,3", "--target-mask", "{files}/narrow.png"), ["48 x 60"]),
        ((*CLIP, "--mask", "{files}/narrow.png"), ["48 x 60", "48 x 80", "must agree"]),
        ((*CLIP, "--mask", "{files}/empty.png"), ["empty.png is empty"]),
        ((*CLIP, "--mask", "{here}/no.png"), ["no.png: no such file"]),
        ((*CLIP, "--edit", "{files}/narrow.png"), ["48 x 60", "must agree"]),
        ((*CLIP, "--edit", "{files}/frames/000.png"), ["does not differ"]),
        (("extract", "{files}/text.png", "-o", "{here}/out"), ["text.png: not an image"]),
        (("extract", PAIR[0], *EXTRACT[1:]), ["several images are called '000'"]),
        (("extract", "{here}/.hidden.png", "-o", "{here}/out"), ["'.hidden'", "rename it"]),
        # Points.
        ((*MATCH, "--points", "3,3;4"), ['"x,y;x,y"', "3,3;4"]),
        ((*MATCH, "--points", ""), ['"x,y;x,y"']),
        ((*MATCH, "--points", "{here}/no.json"), ["no points file"]),
        ((*MATCH, "--points", "{here}/object.json"), ["'source_points'"]),
        ((*MATCH, "--points", "{here}/broken.json"), ["not valid JSON"]),
        ((*MATCH, "--points", "{here}/nan.json"), ["finite"]),
        ((*MATCH, "--points", "3,3;80,3"), ["(80, 3)", "80 x 48 (width x height)"]),
        ((*MASKED, "--points", "3,48"), ["(3, 48)", "80 x 48 (width x height)"]),
        ((*MASKED, "--points", "one,two"), ['"x,y;x,y"']),
        # Contradictions, and nothing to do.
        (CLIP, ["nothing to propagate: give a mask, an edit or points"]),
        ((*MASKED, "--colormap", "--edit", "{files}/layer.png"), ["--edit or --colormap"]),
        ((*CLIP, "--colormap"), ["--colormap needs --mask"]),
        ((*MASKED, "--start", "7"), ["start=7", "7 frames"]),
        ((*MASKED, "--stride", "0"), ["stride must be 1 or more"]),
        ((*MASKED, "--end", "0"), ["end must be greater"]),
        ((*DEMO, PAIR[0]), ["a pair", "got 1"]),
        ((*DEMO, "--source-mask", "{files}/mask.png"), ["source and target"]),
        # Models, devices, engines, settings.
        ((*WARP, "--model", "tinny"), ["unknown model 'tinny'", "Did you mean 'tiny'?"]),
        ((*MASKED, "--model", "sd-15"), ["unknown model 'sd-15'", "Did you mean 'sd15'?"]),
        ((*WARP, "--device", "gpu"), ["unknown device 'gpu'", "auto, cpu, cuda"]),
        ((*MASKED, "--device", "gpu"), ["unknown device 'gpu'"]),
        ((*WARP, "--engine", "fiass"), ["unknown", "'fiass'", "Did you mean 'faiss'?"]),
        ((*MASKED, "--engine", "fiass"), ["unknown", "'fiass'", "Did you mean 'faiss'?"]),
        ((*WARP, "--aggregator", "{here}/no.safetensors"), ["no aggregator checkpoint"]),
        ((*WARP, "--aggregator", "{here}/other.safetensors"), ["does not fit", "'tiny'"]),
        ((*MASKED, "--aggregator", "{here}/other.safetensors"), ["does not fit", "'tiny'"]),
        ((*EXTRACT, "--aggregator", "{files}/mask.png"), ["not a readable PyTorch checkpoint"]),
        ((*WARP, "--size", "0"), ["size must be 1 pixel or more"]),
        ((*WARP, "--set", "feathr=2"), ["unknown key 'feathr'", "did you mean 'feather'?"]),
        ((*WARP, "--set", "feather"), ["key=value", "'feather'"]),
        ((*WARP, "--set", "feather=-1"), ["must not be negative", "-1"]),
        ((*MASKED, "--set", "label.topk=3"), ["did you mean 'label.top_k'?"]),
        ((*MASKED, "--set", "label.top_k=0"), ["top_k must be at least 1"]),
        ((*MASKED, "--set", "chunk=0"), ["chunk must be at least 1"]),
        ((*DEMO, "--set", "frames=1"), ["frames must lie in 6..16"]),
        ((*WARP, "-c", "{here}/no.yaml"), ["no such configuration file"]),
        # Places that cannot be written.
        (("warp", *PAIR, "-o", "{here}/nan.json/out"), ["nan.json is a file, not a folder"]),
        (("warp", *PAIR, "-o", "{here}/nan.json"), ["it is a file, not a folder"]),
        (("extract", PAIR[0], "-o", "{here}/nan.json/a/b"), ["is a file, not a folder"]),
        ((*CLIP[:2], "-o", "{here}/nan.json/a", "--points", "1,1"), ["is a file, not a folder"]),
        (("demo", "-o", "{here}/nan.json/out"), ["is a file, not a folder"]),
        (("match", *PAIR, "--points", "3,3", "-o", "{here}/no/a.json"), ["does not exist"]),
        (("match", *PAIR, "--points", "3,3", "-o", "{here}", "--overwrite"), ["is a folder"]),
        ((*MATCH, "--points", "3,3", "--picture", "{here}/no/a.png"), ["does not exist"]),
        ((*MATCH, "--points", "3,3", "--picture", "{here}/a.gif"), ["suffix '.gif'", ".png"]),
    ],
)
def test_bad_input(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, arguments: tuple[str, ...], expected: list
) -> None:
    (tmp_path / "object.json").write_text('{"dots": [[1, 2]]}')
    (tmp_path / "broken.json").write_text("[[1, 2]")
    (tmp_path / "nan.json").write_text("[[NaN, 2]]")
    (tmp_path / ".hidden.png").write_bytes((files / "mask.png").read_bytes())
    other = AggregationConfig(
        model="other",
        layers=("a",),
        channels=(8,),
        steps=(0,),
        num_steps=50,
        width=16,
        bottleneck=8,
        groups=4,
    )
    save_aggregator(tmp_path / "other.safetensors", AggregationNetwork(other))
    before, inputs = tree(tmp_path), tree(files)
    ran = cli(*(text.format(here=tmp_path, files=files) for text in arguments))
    assert_refused(ran, f"warpkit {arguments[0]}: ", *expected)
    assert ran.out == ""
    assert tree(tmp_path) == before
    assert tree(files) == inputs


def test_a_gpu_that_is_not_there(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    pair = (files / "frames/000.png", files / "frames/001.png")
    ran = cli("warp", *pair, "-o", tmp_path / "out", "--device", "cuda")
    assert_refused(ran, "device 'cuda'", "use --device cpu")
    assert tree(tmp_path) == {}


def test_a_place_that_the_system_refuses(cli: Cli, files: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder in which not even root can write")
    pair = (files / "frames/000.png", files / "frames/001.png")
    ran = cli("warp", *pair, "-o", "/proc/warpkit/out")
    assert_refused(ran, "cannot write to /proc/warpkit/out", "choose another output folder")


@pytest.mark.parametrize(
    "arguments",
    [
        ("warp", *PAIR, "-o", "{here}"),
        ("propagate", "{files}/frames", "--mask", "{files}/mask.png", "-o", "{here}"),
        ("extract", PAIR[0], "-o", "{here}"),
        ("demo", *PAIR, "-o", "{here}"),
        ("match", *PAIR, "--points", "3,3", "-o", "{here}/run.json"),
        ("match", *PAIR, "--points", "3,3", "--picture", "{here}/note.txt"),
    ],
)
def test_existing_results_stay_untouched(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "run.json").write_text("mine")
    (tmp_path / "note.txt").write_text("mine too")
    before = tree(tmp_path)
    ran = cli(*(text.format(here=tmp_path, files=files) for text in arguments))
    assert_refused(ran, "exists", "--overwrite")
    assert tree(tmp_path) == before


def test_overwrite_replaces_only_files_of_the_same_name(
    cli: Cli, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text("old")
    (tmp_path / "note.txt").write_text("mine")
    pair = (files / "frames/000.png", files / "frames/001.png")
    assert cli("warp", *pair, "-o", tmp_path, "--overwrite").code == 0
    assert (tmp_path / "note.txt").read_text() == "mine"
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "warp"


def test_bad_input_keeps_what_overwrite_would_replace(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree
) -> None:
    (tmp_path / "run.json").write_text("old")
    before = tree(tmp_path)
    ran = cli(
        *("propagate", files / "frames", "--mask", files / "empty.png"),
        *("-o", tmp_path, "--overwrite"),
    )
    assert_refused(ran, "empty")
    assert tree(tmp_path) == before


def test_interrupted_warp_leaves_nothing(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(warping, "composed", interrupt)
    pair = (files / "frames/000.png", files / "frames/001.png")
    ran = cli("warp", *pair, "-o", tmp_path / "out")
    assert (ran.code, ran.messages) == (130, ["warpkit warp: interrupted"])
    assert tree(tmp_path) == {}
