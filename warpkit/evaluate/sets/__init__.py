"""The sets that an evaluation scores, opened by their names: pairs of images, fields of clips."""
