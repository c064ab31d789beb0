"""The task of a clip: masks, edits and points propagated from its first frame to the later ones.

Reads frames, describes each of them once, propagates, stores, reports, and resumes where a killed
run ended. Must not import other tasks.
"""
