"""Training: aggregators on pairs, the small diffusion model of `embedded`, the foreground head.

Holds sources of images, pairs and masks, losses, state that survives a kill, validation, trackers.
Must not import `image`, `video`, `synthesize` or the surface.
"""
