"""MATLAB files: matrices of numbers are read; damaged files are one line, not the end of all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from warpkit.checks import InputError
from warpkit.datasets.mat_files import load_mat

POINTS = np.arange(20.0).reshape(2, 10)


def saved(**options: Any) -> bytes:
    file = io.BytesIO()
    content = {"note": "text", "kps": POINTS, "cells": np.array([1, "a"], object), "z": POINTS * 1j}
    if options.get("format") == "4":
        del content["cells"]
    savemat(file, content, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_the_named_matrices_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(saved(**options))
    found = load_mat(path, "kps", "z", "none")
    assert np.array_equal(found["kps"], POINTS)
    assert np.array_equal(found["z"], POINTS * 1j)
    assert "none" not in found
    if "format" not in options:  # others would be read by parts of SciPy that trust every byte
        assert not {"note", "cells"} & set(load_mat(path, "note", "cells"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_download_whose_rest_is_zeros_is_one_line(tmp_path: Path, compressed: bool) -> None:
    whole = saved(do_compression=compressed)
    path = tmp_path / "a.mat"
    for length in range(0, len(whole), 7):
        for content in (whole[:length], whole[:length].ljust(len(whole), b"\0")):
            path.write_bytes(content)
            try:
                found = load_mat(path, "kps")
            except InputError as error:
                assert "is not a readable .mat file" in str(error)
            else:
                assert set(found) - {"kps"} == {"__header__", "__version__", "__globals__"}
    path.write_bytes(whole[:140].ljust(len(whole), b"\0"))
    with pytest.raises(InputError, match=r"is not a readable \.mat file"):
        load_mat(path, "kps")
