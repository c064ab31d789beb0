"""Pseudo-labelled correspondence data sets: images, masks, filtered matches, writers.

A run is planned as pairs with ids (`plan`), made in chunks that depend on nothing but the plan
(`pair_pipeline`, on images of `generation` or from files, with `masks` and `labels`), kept as one
tar a chunk (`records`), then measured (`measures`), written (`writers`), described and verified.
"""
