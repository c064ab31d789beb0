"""Files: images, masks, videos, sound, points, flow, run-length codes, tensors, YAML.

Every reader says in one line what is wrong with a file; every writer writes it whole or not at
all (`whole`). Must not import models, matching or tasks: below it stand `checks` and `types` alone.
"""
