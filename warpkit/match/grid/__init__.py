"""The exact matcher on grids: a plan of blocks, compiled loops for CPU and GPU, refinement."""
