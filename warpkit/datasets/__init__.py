"""Readers of annotated sets: image pairs with points and boxes, dense fields, clips with masks.

Every reader returns the usable items and a list of problems, one line for every item left out. Must
not import models, matching or tasks.
"""
