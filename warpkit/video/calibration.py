"""What J is predicted from: written by `examples/calibrate_report.py`.

Fitted on 667 frames of blackswan, bmx-trees, breakdance, car-shadow, dance-twirl, dog,
drift-chicane, horsejump-high, libby, paragliding-launch, scooter-black.
"""

__all__ = ["CLIP_ERROR", "COEFFICIENTS", "CONSTANT", "ERROR", "FADING", "LISTED"]

COEFFICIENTS = {
    "decided": (0.8792, 0.0764, 0.9079, 0.1078),
    "model": (0.6742, 0.1697, 0.7389, -0.1150),
    "look": (0.7818, 0.2029, 0.8440, 0.1895),
    "lead": (0.8703, 0.1900, 0.9370, 0.2877),
    "found": (0.7930, 0.1953, 0.8465, 0.1764),
    "alike": (0.7976, 0.0759, 0.8231, 0.2726),
    "shrinkage": (0.2724, 0.4447, 0.1632, 0.2933),
    "pieces": (0.0324, 0.0801, 0.0163, -0.1174),
    "distance": (3.1167, 0.9300, 2.8494, -0.2453),
    "change": (0.1708, 0.1566, 0.1287, 0.1883),
}
"""Of every input its mean, its standard deviation, its mean where J is over 0.75, and what a
standard deviation adds to the log odds of J in the most it can be."""

CONSTANT = 2.2171
"""Log odds of J, in the most it can be, where every input is at its mean."""

ERROR, CLIP_ERROR = 0.056, 0.030
"""Mean absolute error of a frame's predicted J, and of a clip's mean, in sequences left out."""

LISTED = 0.710
"""Frames are listed where J is predicted to be less."""

FADING = (0.9011, 0.0405)
"""True J in the frame beside an annotated one, and what it loses with the distance's logarithm."""
