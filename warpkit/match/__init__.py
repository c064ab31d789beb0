"""Nearest neighbours between two descriptor maps: engines, filters, points, refinement.

Knows what a map and a site are, and nothing of images, files or models. Must not import `features`,
`describe`, `coherent`, `warp` or anything above.
"""
