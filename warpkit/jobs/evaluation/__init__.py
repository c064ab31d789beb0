"""The jobs behind `warpkit eval`."""
