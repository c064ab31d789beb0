"""Pseudo-labelled correspondence data sets: images, masks, filtered matches, writers.

A run is planned as pairs with ids (`plan`), made in chunks that depend on nothing but the plan
(`maker`, on images of `generation` or from files, with `masks` and `labels`), kept as one tar a
chunk (`records`), and then measured (`quality`), written (`writers`), described and verified.
"""
