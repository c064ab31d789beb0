"""How well it works: PCK of points, J and F of masks, errors of fields, and baselines to beat.

Holds scores, the methods that are compared, the sets and the commands of `warpkit eval`. `train`
and `synthesize` read scores from it. Must not import `train`, `synthesize`, `bench` or the surface.
Processes that score masks start without torch: names are imported from their modules.
"""
