"""Whatever lies in a file of settings or in `--set`: settings, or one line."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import damaged, fuzzed, kept_promise, plain_values
from hypothesis import example, given
from hypothesis import strategies as st

from warpkit.describe.model_file import ModelConfig
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.commands.pck import EvalPckSettings
from warpkit.image.match import MatchSettings
from warpkit.image.warp import WarpSettings
from warpkit.io.config import dump_yaml, load_config, load_configs, to_dict
from warpkit.synthesize.config import PairSettings
from warpkit.train.aggregator_config import AggregatorTrainConfig
from warpkit.train.backbone_config import BackboneTrainConfig
from warpkit.video.config import PropagateSettings

TASKS = (WarpSettings, MatchSettings, PropagateSettings, PairSettings)
ALONE = (ModelConfig, AggregatorTrainConfig, BackboneTrainConfig, EvalPckSettings)
WRITTEN = (
    b"backbone: sd15\naggregator: sd15\ntop: 3 # of all\nsize: 512\nfit: stretch\n",
    b"data: &here {kind: same}\nmore: *here\nsteps: [0, 1e-3, .inf, 0x1F, 1:30, 2020-01-01]\n",
    b"%YAML 1.1\n---\nfeather: !!float 3\nblend: 'paste'\nmask: ~\n...\n",
    b"\xef\xbb\xbfsize: 16\r\nlabel:\r\n  refine: 2\r\n",
)


FIRST = (WarpSettings, ModelConfig)
# Ten lines that stand for nine to the power of nine words.
BOMB = b"a: &a [x]\n" + b"".join(
    f"{n}: &{n} [{','.join([f'*{m}'] * 9)}]\n".encode() for m, n in itertools.pairwise("abcdefghij")
)
CONFIGS = Path(__file__).parents[1] / "configs"
FILES = tuple(path.read_bytes() for path in sorted(CONFIGS.rglob("*.yaml")))
TREES = [yaml.safe_load(content) for content in FILES]
TREES += [to_dict(made()) for made in (*TASKS, ModelOptions, EvalPckSettings)]


@st.composite
def trees(draw: st.DrawFn) -> bytes:
    """The YAML of settings in which up to three values are others, of any type."""
    tree = copy.deepcopy(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(1, 3))):
        group = tree
        key = draw(st.sampled_from(sorted(group)))
        while isinstance(group[key], dict) and group[key] and draw(st.integers(0, 3)):
            group = group[key]
            key = draw(st.sampled_from(sorted(group)))
        group[key] = draw(plain_values)
    return yaml.safe_dump(tree).encode()


def names(tree: dict[str, Any]) -> list[str]:
    inner = [f"{k}.{n}" for k, v in tree.items() if isinstance(v, dict) for n in names(v)]
    return [*tree, *inner]


SPELLED = st.sampled_from(sorted({name for tree in TREES for name in names(tree)}))
SPELLINGS = plain_values.map(lambda value: yaml.safe_dump(value)) | st.text(max_size=20)
OVERRIDES = st.builds("{}={}".format, SPELLED, SPELLINGS) | st.text(max_size=20)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "settings.yaml"


def load_both(task: Any, alone: Any, path: Path | None, overrides: list[str]) -> None:
    found = kept_promise(lambda: load_configs((ModelOptions(), task), path, overrides))
    assert found is None or isinstance(found[1], task)
    whole = kept_promise(lambda: load_config(alone, path, overrides))
    if whole is not None and path is not None:
        path.write_text(dump_yaml(whole), encoding="utf-8")
        assert load_config(alone, path) == whole


@fuzzed
@given(trees() | damaged(*WRITTEN, *FILES), st.sampled_from(TASKS), st.sampled_from(ALONE))
@example(BOMB, *FIRST)
@example(b"size: &a [*a, *a]", *FIRST)
@example(b"<<: &a {<<: *a}", *FIRST)
@example(b"size: 0x" + b"f" * 5000, *FIRST)
@example(b"feather: !!timestamp x", *FIRST)
@example(b"date: 0001-01-01 00:00:00 +23:00", *FIRST)
@example(b"fill: !!bool x", *FIRST)
@example(b"feather: 1" + b"0" * 400, *FIRST)
def test_files(path: Path, content: bytes, task: Any, alone: Any) -> None:
    path.write_bytes(content)
    load_both(task, alone, path, [])


@fuzzed
@given(st.lists(OVERRIDES, max_size=3), st.sampled_from(TASKS), st.sampled_from(ALONE))
@example(["model={a: b}"], *FIRST)
@example(["size"], *FIRST)
def test_overrides(overrides: list[str], task: Any, alone: Any) -> None:
    load_both(task, alone, None, overrides)
