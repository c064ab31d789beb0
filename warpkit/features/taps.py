"""Record the outputs of named modules during one forward pass, and leave no trace.

Diffusion Hyperfeatures taps the value of every decoder residual block before the residual
addition: the output of its `conv2`. A forward hook on `conv2` yields it bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from warpkit.checks import InputError, suggest

__all__ = ["TapError", "decoder_taps", "record_taps"]


class TapError(RuntimeError):
    """A tap did not fire, or fired more than once, during the pass that counts."""


class _AllTapsFired(Exception):  # noqa: N818 - control flow, not an error
    """Ends a forward pass whose remaining layers nobody needs."""


@contextmanager
def record_taps(
    model: nn.Module, names: Sequence[str], *, stop_after_last: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules while the block runs ONE forward pass.

    Args:
        names: module paths as in `model.named_modules()`.
        stop_after_last: leave the block, and with it the forward pass, once every tap has fired.

    Yields:
        A dict that holds `name -> output` (B, C, h, w) when the block ends.

    Raises:
        InputError: a name is not a module of the model.
        TapError: a tap fired twice, or not at all.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise InputError(
                f"{type(model).__name__} has no layer '{name}' to tap.{suggest(name, modules)}"
            )
    taps: dict[str, Tensor] = {}
    handles: list[RemovableHandle] = []

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if name in taps:
                raise TapError(f"tap '{name}' fired twice: record one forward pass at a time")
            taps[name] = output
            if stop_after_last and len(taps) == len(names):
                raise _AllTapsFired

        return hook

    try:
        handles.extend(modules[name].register_forward_hook(hook_for(name)) for name in names)
        yield taps
    except _AllTapsFired:
        pass
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in taps]
    if missing:
        raise TapError(f"taps never fired: {', '.join(missing)}")


def decoder_taps(unet: nn.Module) -> tuple[str, ...]:
    """`conv2` of every residual block of a UNet's decoder, deepest block first (12 for SD)."""
    return tuple(
        f"up_blocks.{i}.resnets.{j}.conv2"
        for i, block in enumerate(unet.up_blocks)  # type: ignore[arg-type]
        for j, _ in enumerate(block.resnets)
    )
