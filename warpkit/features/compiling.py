"""Modules traced and compiled for the shapes that come.

In: modules. Out: calls of the same results, up to float rounding, in fewer kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["CompiledRows", "compile_call", "kept_program"]

K = TypeVar("K", bound=tuple[Any, ...])
P = TypeVar("P")

# Sets of shapes kept; the one that was used longest ago goes first.
_KEPT_PROGRAMS = 8


def compile_call(module: nn.Module, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Trace a call into one graph, and compile it for these shapes.

    Exporting first makes plain outputs of what hooks record; the compiler never sees a hook. It
    also gives every set of shapes a program of its own, of which the compiler limits no number.

    Args:
        module: on its device, in evaluation mode.
        arguments: tensors of the shapes, types and device that calls will have, and containers.

    Returns:
        What is called with such arguments and returns what the module does.
    """
    with torch.no_grad():
        traced = torch.export.export(module, arguments, strict=False).module()
    compiled: Callable[..., Any] = torch.compile(traced, dynamic=False, fullgraph=True)
    return compiled


def kept_program(
    programs: dict[K, P], fitting: Iterable[K], new: K, make: Callable[[], P]
) -> tuple[K, P]:
    """The program of the fewest rows among those that fit, or one that is made and kept.

    Args:
        programs: those that are there, the least recently used first. Keys end with their rows.
        fitting: keys of those that would do.
        new: the key of the one to make where none does.
        make: makes it.

    Returns:
        Its key, and the program.
    """
    key = min(fitting, key=lambda kept: int(kept[-1]), default=new)
    program = programs.pop(key, None)
    if program is None:
        program = make()
    programs[key] = program  # entered anew: the order is that of the last use
    for oldest in list(programs)[:-_KEPT_PROGRAMS]:
        del programs[oldest]
    return key, program


class CompiledRows:
    """A module of one tensor whose rows do not depend on each other, compiled when a shape comes.

    Rows (R, ...) run in a program of up to 2 R rows if there is one, the last row repeated: that
    costs less than to compile another.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._programs: dict[tuple[tuple[Any, ...], int], Callable[..., Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The module's result, as many rows as `x` (R, ...) has."""
        x, rows = x.contiguous(), len(x)
        shape = (x.dtype, x.device, *x.shape[1:])
        fitting = [key for key in self._programs if key[0] == shape and rows <= key[1] <= 2 * rows]
        (_, kept), program = kept_program(
            self._programs, fitting, (shape, rows), lambda: compile_call(self._module, (x,))
        )
        padded = torch.cat([x, x[-1:].expand(kept - rows, *x.shape[1:])]) if kept > rows else x
        return program(padded)[:rows]
