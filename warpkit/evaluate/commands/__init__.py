"""`warpkit eval ...`: the commands of the evaluation, from a set's name to a scored record."""
