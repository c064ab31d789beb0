"""The tasks of one image or one pair: warp, match, extract, inspect, cut out.

Each is a function for Python and the command line alike. Must not import other tasks: `video`,
`evaluate`, `synthesize`, `train` and `bench` stand beside it.
"""
