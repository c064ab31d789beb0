"""How well it works: PCK of points, J and F of masks, errors of fields, and baselines to beat.

Holds scores, methods, sets and the commands of `warpkit eval`; names are imported from modules,
so that scoring masks starts without torch. Must not import `train`, `synthesize` or `bench`.
"""
