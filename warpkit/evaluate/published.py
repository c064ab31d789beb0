"""Numbers that papers state, to stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedRow"]


@dataclass(frozen=True)
class PublishedRow:
    """One published number.

    Attributes:
        datasets: names as results give them (`spair71k`, `dhf-json`, `davis-2017`, ...).
        method: as the paper calls it.
        data: which part of the data set.
        metric: threshold and averaging.
        value: as printed.
        source: paper and table.
    """

    datasets: tuple[str, ...]
    method: str
    data: str
    metric: str
    value: str
    source: str


_SPAIR = ("spair71k", "dhf-json")
_VIDEO = ("davis", "davis-2017")
_TEST = "SPair-71k test, 12,234 pairs"
_DAVIS = "DAVIS-2017 val"
_BOX = "PCK@0.1, box, per"
_CITED = "as later papers cite it"
_DINO = "arXiv 2104.14294, Table 5"
_DIFT = "arXiv 2306.03881"

PUBLISHED: tuple[PublishedRow, ...] = (
    PublishedRow(
        _SPAIR,
        "Diffusion Hyperfeatures",
        "SPair-71k test, 360 pairs",
        "PCK@0.1, image / box, per point",
        "72.56 / 64.61",
        "arXiv 2305.14334, Table 1 (from memory: not checked against the paper)",
    ),
    PublishedRow(
        _SPAIR,
        "Diffusion Hyperfeatures",
        _TEST,
        f"{_BOX} image",
        "64.9",
        f"arXiv 2305.14334, {_CITED}",
    ),
    PublishedRow(_SPAIR, "DIFT (SD)", _TEST, f"{_BOX} image", "52.9", f"{_DIFT}, {_CITED}"),
    PublishedRow(_SPAIR, "SD+DINO", _TEST, f"{_BOX} image", "59.9", f"arXiv 2305.15347, {_CITED}"),
    PublishedRow(_SPAIR, "SD+DINO", _TEST, f"{_BOX} point", "64.0", f"arXiv 2305.15347, {_CITED}"),
    PublishedRow(
        _SPAIR, "GeoAware-SC, zero-shot", _TEST, f"{_BOX} image", "65.4", "arXiv 2311.17034"
    ),
    PublishedRow(
        _SPAIR, "GeoAware-SC, supervised", _TEST, f"{_BOX} image", "85.6", "arXiv 2311.17034"
    ),
    PublishedRow(_VIDEO, "DINO ViT-S/16", _DAVIS, "J&F / J / F", "61.8 / 60.2 / 63.4", _DINO),
    PublishedRow(_VIDEO, "DINO ViT-B/8", _DAVIS, "J&F / J / F", "71.4 / 67.9 / 74.9", _DINO),
    PublishedRow(_VIDEO, "DIFT (SD)", _DAVIS, "J&F", "70.0", f"{_DIFT}, {_CITED}"),
    PublishedRow(_VIDEO, "DIFT (ADM)", _DAVIS, "J&F", "75.7", f"{_DIFT}, {_CITED}"),
)
