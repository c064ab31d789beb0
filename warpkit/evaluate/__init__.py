"""How well it works: PCK of points, J and F of masks, and the baselines to beat."""

from warpkit.evaluate.baselines import (
    RgbPatches,
    copy_first_labels,
    flow_labels,
    identity_points,
    predict_identity,
)
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.jaccard import (
    DavisReport,
    SequenceScore,
    boundary_accuracy,
    mask_boundary,
    mean_scores,
    region_similarity,
    score_sequence,
)
from warpkit.evaluate.pck import PckReport, correct_points, pck, score_pairs
from warpkit.evaluate.predict import PairPrediction, predict_pairs

__all__ = [
    "DavisReport",
    "PairPrediction",
    "PckReport",
    "RgbPatches",
    "SequenceScore",
    "bootstrap_mean",
    "boundary_accuracy",
    "copy_first_labels",
    "correct_points",
    "flow_labels",
    "identity_points",
    "mask_boundary",
    "mean_scores",
    "pck",
    "predict_identity",
    "predict_pairs",
    "region_similarity",
    "score_pairs",
    "score_sequence",
]
