"""What every run needs: a result folder, its record, resuming, the cache, a clock, threads.

Holds nothing that knows what a run computes. Must not import models, matching or tasks.
"""
