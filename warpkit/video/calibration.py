"""What J is predicted from: written by `examples/calibrate_report.py`.

Fitted on 570 frames: blackswan, bmx-trees, breakdance, car-shadow, dance-twirl, dog, drift-chicane, paragliding-launch and
scooter-black.
"""

__all__ = ["CLIP_ERROR", "COEFFICIENTS", "CONSTANT", "ERROR", "FADING", "LISTED"]

COEFFICIENTS = {
    "decided": (0.8826, 0.0776, 0.9139, 0.0855),
    "context": (0.9362, 0.0396, 0.9462, -0.0174),
    "model": (0.6900, 0.1682, 0.7656, -0.0536),
    "look": (0.7841, 0.2116, 0.8497, 0.1267),
    "lead": (0.8681, 0.1988, 0.9460, 0.2657),
    "found": (0.7736, 0.2067, 0.8303, 0.0911),
    "strayed": (0.0066, 0.0123, 0.0062, 0.0061),
    "alike": (0.7986, 0.0802, 0.8281, 0.2275),
    "rim": (0.3699, 0.1409, 0.3156, -0.0260),
    "confidence": (0.7561, 0.1222, 0.8039, -0.0557),
    "growth": (0.2998, 0.5841, 0.2882, -0.0156),
    "shrinkage": (0.2532, 0.4492, 0.1367, 0.1152),
    "pieces": (0.0246, 0.0623, 0.0060, -0.1279),
    "distance": (3.1559, 0.9367, 2.8592, -0.2282),
}
"""Of every input its mean, its standard deviation, its mean where J is over 0.75, and what a standard
deviation adds to the log odds of J in the most it can be."""

CONSTANT = 2.0066
"""Log odds of J, in the most it can be, where every input is at its mean."""

ERROR, CLIP_ERROR = 0.078, 0.059
"""Mean absolute error of a frame's predicted J, and of a clip's mean, in sequences left out."""

LISTED = 0.695
"""Frames are listed where J is predicted to be less."""

FADING = (0.8872, 0.0375)
"""True J in the frame beside an annotated one, and what it loses with the distance's logarithm."""
