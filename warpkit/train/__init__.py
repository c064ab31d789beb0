"""Training: aggregators on pairs or labels of their own, the small diffusion model of `embedded`.

Holds sources of images and pairs, losses, state that survives a kill, validation and trackers.
Must not import `image`, `video`, `synthesize` or the surface.
"""
