"""Matching: nearest neighbours between descriptor maps, filters, keypoints."""

from warpkit.match.farthest import farthest_points
from warpkit.match.filters import (
    above_similarity,
    affine_residual,
    chosen_keys,
    competing_similarity,
    cycle_distance,
    distance_ratio,
    inside_mask,
    ratio_test,
    refine_subpixel,
    round_trip,
)
from warpkit.match.matcher import (
    Matcher,
    Neighbours,
    asked_matcher,
    check_search,
    create_matcher,
    matcher_names,
    register_matcher,
)
from warpkit.match.pair import (
    PairMatcher,
    PairMatches,
    Refined,
    Window,
    search_many,
    search_pair,
)
from warpkit.match.points import candidate_sites, default_matcher, match_points
from warpkit.match.settings import MatchFilters

__all__ = [
    "MatchFilters",
    "Matcher",
    "Neighbours",
    "PairMatcher",
    "PairMatches",
    "Refined",
    "Window",
    "above_similarity",
    "affine_residual",
    "asked_matcher",
    "candidate_sites",
    "check_search",
    "chosen_keys",
    "competing_similarity",
    "create_matcher",
    "cycle_distance",
    "default_matcher",
    "distance_ratio",
    "farthest_points",
    "inside_mask",
    "match_points",
    "matcher_names",
    "ratio_test",
    "refine_subpixel",
    "register_matcher",
    "round_trip",
    "search_many",
    "search_pair",
]
