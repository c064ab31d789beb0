"""`warpkit models`: nothing without a yes, every byte hashed, the cache before the network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from published_checkpoints import SD15_CHANNELS
from safetensors import safe_open
from small_models import save_published, save_small_vit
from small_pipeline import save_small_pipeline

from warpkit.aggregate.checkpoint import load_aggregator
from warpkit.checks import InputError
from warpkit.describe import load_extractor
from warpkit.describe.manage import convert_model, download_model, list_models, verify_model
from warpkit.describe.published import published_aggregator
from warpkit.features.architecture import decoder_layers
from warpkit.features.model_sources import RELEASES, find_source
from warpkit.features.tiny import TINY_WEIGHTS

SD15, OLD_SD15 = RELEASES["sd15"].hub_ids
AUTHORS = "g-luo/diffusion-hyperfeatures"
PARTS = {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub would hold, with much that nobody needs."""
    root = tmp_path_factory.mktemp("hub")
    model = save_small_pipeline(root / "sd")
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        shutil.copyfile(weights, weights.with_name(name))
    (model / "safety_checker").mkdir()
    shutil.copyfile(weights, model / "safety_checker" / "model.safetensors")
    shutil.copyfile(weights, model / "v1-5-pruned.safetensors")
    (model / "README.md").write_text("a model card")
    save_small_vit(root / "vit", "vit")
    for file in ("aggregation_network.pt", "aggregation_network_sdv2-1.pt"):
        save_published(root / "authors" / "weights" / file, one_step=False)
    save_published(root / "authors" / "weights" / "aggregation_network_one-step.pt", one_step=True)
    return root


@pytest.fixture
def hub(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    fake.repositories = {
        SD15: repositories / "sd",
        OLD_SD15: repositories / "sd",
        AUTHORS: repositories / "authors",
        "facebook/dino-vits8": repositories / "vit",
        "someone/fine-tune": repositories / "sd",
    }
    fake.install(monkeypatch)
    monkeypatch.setenv("WARPKIT_CACHE", str(tmp_path / "warpkit"))
    return fake


def test_a_download_shows_licence_and_size_and_waits_for_a_yes(hub):
    asked: list[str] = []
    with pytest.raises(InputError, match="not downloaded: sd15: stable-diffusion-v1-5/stable-diff"):
        download_model("sd15", confirm=lambda question: bool(asked.append(question)))
    size = sum(
        item.size for item in hub.info(SD15).siblings if item.rfilename.split("/")[0] in PARTS
    )
    extra = 2 * (hub.repositories[SD15] / "unet/diffusion_pytorch_model.bin").stat().st_size
    assert asked == [
        f"sd15: {SD15} at aaaaaaaaaaaa, {(size - extra) / 1e9:.2f} GB, licence CreativeML Open"
        " RAIL-M"
    ]
    assert hub.downloads == []


def test_a_model_is_downloaded_without_what_nobody_needs(hub, tmp_path):
    lines = download_model("sd15")
    names = [name.removeprefix(f"{SD15}/") for name in hub.downloads if SD15 in name]
    assert {name.split("/")[0] for name in names} == PARTS
    assert [name for name in names if name.startswith("unet")] == [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert hub.downloads[-1] == f"{AUTHORS}/weights/aggregation_network.pt"
    assert len(lines) == 2
    # Once more: nothing comes again, and the network is not needed.
    hub.downloads.clear()
    hub.online = False
    download_model("sd15", confirm=lambda _: True)
    assert hub.downloads == []
    extractor = load_extractor("sd15", device="cpu", size=64, local_files_only=True)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert extractor.describe([image])[0].channels == 384
    rows = {row["model"]: row["here"] for row in list_models()}
    assert (rows["tiny"], rows["sd15"], rows["sd21"], rows["dino"]) == ("yes", "yes", "no", "no")


def test_hashes_are_kept_and_verified(hub, tmp_path):
    download_model("sd15")
    (record,) = (tmp_path / "warpkit" / "models").glob("*.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    assert (content["repository"], content["revision"]) == (SD15, "a" * 40)
    assert content["licence"] == "CreativeML Open RAIL-M"
    assert len(content["files"]["vae/config.json"]["sha256"]) == 64
    assert verify_model("sd15")[0].endswith("is as it was downloaded")
    folder = find_source("sd15", local_files_only=True).folder
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(InputError) as caught:
        verify_model("sd15")
    assert "vae/diffusion_pytorch_model.safetensors: SHA-256 differs from" in str(caught.value)
    assert "tokenizer/tokenizer_config.json: missing" in str(caught.value)
    assert "run `warpkit models download sd15`" in str(caught.value)


def test_a_changed_aggregator_does_not_verify(hub, tmp_path):
    download_model("sd15")
    (file,) = (tmp_path / "warpkit" / "aggregators").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=rf"{file.name}: SHA-256 differs from"):
        verify_model("sd15")


def test_a_download_that_is_damaged_on_its_way_is_refused(hub):
    hub.damage = "diffusion_pytorch_model.safetensors"
    with pytest.raises(InputError, match=r"was damaged on its way: its SHA-256 is .* the hub stat"):
        download_model("sd15")


def test_the_second_id_is_tried_when_the_first_is_gone(hub):
    del hub.repositories[SD15]
    assert find_source("sd15").name == OLD_SD15
    hub.online = False
    assert find_source("sd15").name == OLD_SD15


def test_a_revision_is_pinned(hub):
    commit = "b" * 40
    assert find_source("sd15", revision=commit).commit == commit
    hub.online = False
    assert find_source("sd15", revision=commit).folder.name == commit
    with pytest.raises(InputError, match=r"not found .* at revision 'cccc'; tried"):
        find_source("sd15", revision="cccc")
    # The newest one was never asked for.
    with pytest.raises(InputError, match="'sd15' was not found in the local cache"):
        find_source("sd15", local_files_only=True)


def test_a_model_that_is_neither_here_nor_reachable_names_every_id(hub):
    hub.online = False
    with pytest.raises(InputError) as caught:
        find_source("sd15")
    message = str(caught.value)
    assert f"{SD15}: Name or service not known" in message
    assert f"{OLD_SD15}: Name or service not known" in message
    assert "`warpkit models download sd15`" in message
    with pytest.raises(InputError, match="'sd15' cannot be downloaded; tried"):
        download_model("sd15")


def test_an_unfinished_download_is_not_taken_for_a_model(hub):
    folder = find_source("sd15").folder
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="its files in the cache are not complete"):
        find_source("sd15", local_files_only=True)
    assert (find_source("sd15").folder / "unet/diffusion_pytorch_model.safetensors").is_file()


def test_any_repository_of_the_family_can_be_downloaded(hub):
    asked: list[str] = []
    download_model("someone/fine-tune", confirm=lambda q: not asked.append(q))
    assert asked[0].endswith("licence see its page on the hub")
    hub.repositories["someone/else"] = hub.repositories["facebook/dino-vits8"]
    with pytest.raises(InputError, match=r"someone/else holds no diffusers model: expected unet"):
        download_model("someone/else")
    download_model("dino")
    assert load_extractor("dino", device="cpu", size=32).backbone.patch == 8
    with pytest.raises(InputError, match="'tiny' has nothing to download"):
        download_model("tiny")
    with pytest.raises(InputError, match="no hashes were kept of"):
        verify_model(str(hub.repositories[SD15]))


def test_a_published_aggregator_is_converted_bit_for_bit(hub, repositories):
    path = published_aggregator("sd21")
    assert path.suffix == ".safetensors"
    original = repositories / "authors" / "weights" / "aggregation_network_sdv2-1.pt"
    expected = torch.load(original, weights_only=True)["aggregation_network"]
    network = load_aggregator(path)
    state = network.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert network.config.model == "stabilityai/stable-diffusion-2-1-base"
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
    assert record["converted_from"] == "aggregation_network_sdv2-1.pt"
    hub.online = False
    assert published_aggregator("sd21") == path


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b"{}"])
def test_a_damaged_converted_aggregator_is_made_again(hub, caplog, damage):
    path = published_aggregator("sd21")
    whole = {name: one.clone() for name, one in load_aggregator(path).state_dict().items()}
    path.write_bytes(damage)
    assert published_aggregator("sd21") == path
    made = load_aggregator(path).state_dict()
    assert all(torch.equal(made[name], whole[name]) for name in whole)
    assert caplog.messages == [f"{path} is damaged: it is made again"]


def test_without_a_cache_models_are_fetched_and_converted_all_the_same(
    hub, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WARPKIT_CACHE", str(tmp_path / "file" / "cache"))
    find_source("sd15")
    path = published_aggregator("sd15")
    assert load_aggregator(path).config.model == OLD_SD15
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert str(tmp_path / "file" / "cache") in warning.getMessage()
    with pytest.raises(InputError, match="no hashes were kept of 'sd15'"):
        verify_model("sd15")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": {"a": {}}}'])
def test_damaged_hashes_of_a_download_are_named(hub, tmp_path, text):
    find_source("dino", family="vit")
    (kept,) = (tmp_path / "warpkit" / "models").glob("*.json")
    kept.write_text(text)
    with pytest.raises(InputError, match=f"{kept}, the hashes kept of 'dino', is damaged"):
        verify_model("dino")


# What pip installs


def test_models_of_the_package_verify(monkeypatch, tmp_path):
    assert verify_model("tiny") == [
        "tiny: the 2 files that pip installed are as they were released"
    ]
    first, second = verify_model("embedded")
    assert first.startswith("efficientnet-lite0: the 2 files") and second.startswith("tiny: the 2")

    for path in TINY_WEIGHTS.parent.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    spoilt = bytearray(TINY_WEIGHTS.read_bytes())
    spoilt[-1] ^= 1
    (tmp_path / TINY_WEIGHTS.name).write_bytes(spoilt)
    (tmp_path / "efficientnet-lite0-aggregator.safetensors").unlink()
    monkeypatch.setattr("warpkit.describe.manage.TINY_WEIGHTS", tmp_path / "tiny-unet.safetensors")
    with pytest.raises(InputError, match=r"'tiny' is not as it was released: .*tiny-unet.safeten"):
        verify_model("tiny")
    with pytest.raises(InputError, match=r"lite0-aggregator.safetensors differs; install"):
        verify_model("efficientnet-lite0")


# The command


def test_the_command_asks_or_is_told_yes(cli, hub):
    refused = cli("models", "download", "dino", small=False)
    assert refused.code == 2
    assert "licence Apache-2.0: add --yes to agree" in refused.err
    done = cli("models", "download", "dino", "--yes", small=False)
    assert done.code == 0, done.err
    assert "licence Apache-2.0" in done.err
    assert done.out.startswith("dino: ")
    assert cli("models", "verify", "dino", small=False).code == 0
    damaged = find_source("dino", family="vit").folder / "config.json"
    damaged.write_text("{}")
    spoilt = cli("models", "verify", "dino", small=False)
    assert spoilt.code == 2
    assert "config.json: SHA-256 differs" in spoilt.err


def test_an_aggregator_is_converted_and_checked_against_its_model(cli, tmp_path):
    file = save_published(tmp_path / "a.pt", SD15_CHANNELS, one_step=True)
    target = tmp_path / "a.safetensors"
    done = cli("models", "convert", file, "-o", target, small=False)
    assert done.code == 0, done.err
    assert "12 layers, 1 of 1 step, for 'runwayml/stable-diffusion-v1-5'" in done.out
    expected = torch.load(file, weights_only=True)["aggregation_network"]
    state = load_aggregator(target).state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    again = cli("models", "convert", file, "-o", target, small=False)
    assert (again.code, "give --overwrite" in again.err) == (2, True)
    narrow = save_published(tmp_path / "b.pt", one_step=True)
    with pytest.raises(InputError, match=r"does not fit 'sd15': it expects layers of \[16, 16"):
        convert_model(narrow, tmp_path / "b.safetensors", model="sd15")
    with pytest.raises(InputError, match=r"name it FILE\.safetensors"):
        convert_model(narrow, tmp_path / "folder")
    assert not (tmp_path / "b.safetensors").exists()
    folder = save_small_pipeline(tmp_path / "sd")
    assert convert_model(narrow, tmp_path / "b.safetensors", model=str(folder))


def test_the_layers_of_the_published_models_are_known():
    for alias in ("sd15", "sd21", "runwayml/stable-diffusion-v1-5"):
        assert tuple(decoder_layers(alias).values()) == SD15_CHANNELS
    with pytest.raises(InputError, match="the layers of 'dino' are not known here"):
        decoder_layers("dino")


def test_a_model_in_one_file_becomes_a_folder(hub, tmp_path, monkeypatch):
    from original_names import save_single_file
    from test_single_file import SIZES

    from warpkit.features import stable_diffusion
    from warpkit.features.single_file import load_single_file
    from warpkit.features.stable_diffusion import load_parts

    original = load_parts(str(hub.repositories[SD15]), torch.float32)
    file = save_single_file(
        tmp_path / "m.safetensors",
        unet=original.unet,
        vae=original.vae,
        text_encoder=original.text_encoder,
    )

    def small(path: Path, dtype: torch.dtype, **options: object) -> object:
        parts = load_single_file(path, dtype, sizes=SIZES, **options)
        import dataclasses

        return dataclasses.replace(parts, tokenizer=tokenizer or parts.tokenizer)

    monkeypatch.setattr(stable_diffusion, "load_single_file", small)
    tokenizer = None
    with pytest.raises(InputError, match="holds no vocabulary, and none is in the cache"):
        convert_model(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tokenizer = original.tokenizer
    convert_model(file, tmp_path / "out")
    again = load_parts(str(tmp_path / "out"), torch.float32)
    state, expected = again.unet.state_dict(), original.unet.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert again.scheduler["prediction_type"] == "epsilon"
