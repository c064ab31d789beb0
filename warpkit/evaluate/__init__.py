"""How well it works: PCK of points, J and F of masks, errors of fields, and baselines to beat.

Names are imported when they are first used: processes that score masks start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warpkit.evaluate.baselines import (
        Hog,
        RgbPatches,
        copy_first_labels,
        flow_field,
        flow_labels,
        flow_places,
        identity_points,
        predict_identity,
    )
    from warpkit.evaluate.bootstrap import bootstrap_mean
    from warpkit.evaluate.davis import score_davis
    from warpkit.evaluate.edits import edit_error, flicker, flow_edits
    from warpkit.evaluate.fields import (
        FieldError,
        FieldReport,
        FieldTruth,
        field_error,
        score_fields,
    )
    from warpkit.evaluate.jaccard import (
        DavisMeans,
        DavisReport,
        SequenceScore,
        boundary_accuracy,
        disk_dilation,
        frame_statistics,
        mask_boundary,
        mean_sequence_scores,
        region_similarity,
        score_sequence,
    )
    from warpkit.evaluate.keypoints import PckReport, correct_points, pck, score_pairs
    from warpkit.evaluate.methods import baseline_describer, fingerprint
    from warpkit.evaluate.predict import PairPrediction, predict_pairs
    from warpkit.evaluate.prediction_files import (
        read_predictions,
        write_pair_list,
        write_predictions,
    )

_HOMES = {
    "DavisMeans": "jaccard",
    "DavisReport": "jaccard",
    "FieldError": "fields",
    "FieldReport": "fields",
    "FieldTruth": "fields",
    "PairPrediction": "predict",
    "PckReport": "keypoints",
    "Hog": "baselines",
    "RgbPatches": "baselines",
    "SequenceScore": "jaccard",
    "baseline_describer": "methods",
    "bootstrap_mean": "bootstrap",
    "boundary_accuracy": "jaccard",
    "copy_first_labels": "baselines",
    "correct_points": "keypoints",
    "disk_dilation": "jaccard",
    "edit_error": "edits",
    "field_error": "fields",
    "fingerprint": "methods",
    "flicker": "edits",
    "flow_edits": "edits",
    "flow_field": "baselines",
    "flow_labels": "baselines",
    "flow_places": "baselines",
    "frame_statistics": "jaccard",
    "identity_points": "baselines",
    "mask_boundary": "jaccard",
    "mean_sequence_scores": "jaccard",
    "pck": "keypoints",
    "predict_identity": "baselines",
    "predict_pairs": "predict",
    "read_predictions": "prediction_files",
    "region_similarity": "jaccard",
    "score_davis": "davis",
    "score_fields": "fields",
    "score_pairs": "keypoints",
    "score_sequence": "jaccard",
    "write_pair_list": "prediction_files",
    "write_predictions": "prediction_files",
}

__all__ = [
    "DavisMeans",
    "DavisReport",
    "FieldError",
    "FieldReport",
    "FieldTruth",
    "Hog",
    "PairPrediction",
    "PckReport",
    "RgbPatches",
    "SequenceScore",
    "baseline_describer",
    "bootstrap_mean",
    "boundary_accuracy",
    "copy_first_labels",
    "correct_points",
    "disk_dilation",
    "edit_error",
    "field_error",
    "fingerprint",
    "flicker",
    "flow_edits",
    "flow_field",
    "flow_labels",
    "flow_places",
    "frame_statistics",
    "identity_points",
    "mask_boundary",
    "mean_sequence_scores",
    "pck",
    "predict_identity",
    "predict_pairs",
    "read_predictions",
    "region_similarity",
    "score_davis",
    "score_fields",
    "score_pairs",
    "score_sequence",
    "write_pair_list",
    "write_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'warpkit.evaluate' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"warpkit.evaluate.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
