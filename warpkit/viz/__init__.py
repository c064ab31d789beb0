"""Arrays for people to look at: RGB uint8 in, RGB uint8 out, nothing is saved."""

from warpkit.viz.curves import plot_curves
from warpkit.viz.fields import field_colors, heat, pca_colors, pca_shares, source_colors
from warpkit.viz.masks import checkerboard, over_checkerboard, overlay_labels
from warpkit.viz.matches import draw_matches
from warpkit.viz.palette import OBJECT_COLORS, object_colors, position_colors, scale_colors
from warpkit.viz.panel import add_scale, panel
from warpkit.viz.points import draw_points
from warpkit.viz.similarity import draw_similarity, mark_point
from warpkit.viz.svg import curves_svg
from warpkit.viz.tables import heat_table
from warpkit.viz.timings import plot_timings

__all__ = [
    "OBJECT_COLORS",
    "add_scale",
    "checkerboard",
    "curves_svg",
    "draw_matches",
    "draw_points",
    "draw_similarity",
    "field_colors",
    "heat",
    "heat_table",
    "mark_point",
    "object_colors",
    "over_checkerboard",
    "overlay_labels",
    "panel",
    "pca_colors",
    "pca_shares",
    "plot_curves",
    "plot_timings",
    "position_colors",
    "scale_colors",
    "source_colors",
]
