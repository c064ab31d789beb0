"""Calls of a UNet with its taps: plain, replayed as a CUDA graph, or compiled and replayed.

A replayed call runs the same kernels without the time Python takes to launch each of them; a
compiled one runs fewer, fused kernels. Both are made for one set of input shapes: compiled when it
first comes, captured at the third call, since the calls before must warm up what a capture forbids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from warpkit.checks import one_of, require
from warpkit.features.compiling import compile_call, kept_program
from warpkit.features.taps import record_taps

__all__ = ["Acceleration", "UnetCalls", "resolve_acceleration"]

Acceleration = Literal["auto", "none", "graphs", "compile"]
"""`none` calls the UNet as it is, `graphs` replays CUDA graphs, `compile` also compiles, the UNet
and the VAE (a minute or two for every input size and batch size); `auto` is `graphs` on CUDA, else
`none`."""

Conditioning = Mapping[str, Any]

# Calls before a graph is captured: they warm up what must not happen during the capture.
_CALLS_BEFORE_CAPTURE = 2


def resolve_acceleration(acceleration: str, device: torch.device) -> Acceleration:
    """The way of calling that `auto` stands for on a device.

    Raises:
        InputError: unknown, or not possible on the device.
    """
    one_of(acceleration, get_args(Acceleration), "acceleration")
    if acceleration == "auto":
        return "graphs" if device.type == "cuda" else "none"
    require(
        acceleration == "none" or device.type == "cuda",
        f"acceleration '{acceleration}' replays CUDA graphs, but the model runs on {device.type}:"
        " use acceleration auto or none",
    )
    return acceleration  # type: ignore[return-value]


class TappedUnet(nn.Module):
    """A UNet whose forward pass returns its taps beside its output.

    Args:
        final: return the taps alone; a compiler then leaves out what comes after the last one.
    """

    def __init__(self, unet: nn.Module, names: Sequence[str], *, final: bool) -> None:
        super().__init__()
        self.unet, self.names, self.final = unet, tuple(names), final

    def forward(
        self, sample: Tensor, timestep: Tensor, conditioning: dict[str, Any]
    ) -> dict[str, Tensor]:
        with record_taps(self.unet, self.names) as taps:
            output = self.unet(sample, timestep, return_dict=False, **conditioning)[0]
        return dict(taps) if self.final else {**taps, _OUTPUT: output}


_OUTPUT = "output"  # no module path: a UNet has no child of this name


class UnetCalls:
    """Calls one UNet and hands out its taps.

    Replayed calls write into the same tensors every time: taps are good until the next call. The
    output is a copy, since guidance combines those of two calls.

    Args:
        unet: called as `unet(sample, timestep, return_dict=False, **conditioning)`.
        names: paths of the modules to tap.
        acceleration: `none`, `graphs` or `compile`, see `Acceleration`.
    """

    def __init__(self, unet: nn.Module, names: Sequence[str], acceleration: Acceleration) -> None:
        self.unet, self.names, self.acceleration = unet, tuple(names), acceleration
        self._programs: dict[tuple[Any, bool, int], _Program] = {}  # shapes, final, rows
        self._pool: Any = None

    @torch.no_grad()
    def __call__(
        self,
        sample: Tensor,
        timestep: int,
        conditioning: Conditioning,
        *,
        record: bool = False,
        final: bool = False,
    ) -> tuple[Tensor | None, Mapping[str, Tensor]]:
        """One call.

        Args:
            sample: latents (B, C, h, w) in the UNet's dtype.
            timestep: one for the whole batch.
            record: hand out the taps.
            final: the output is not needed: the pass ends after the last tap.

        Returns:
            The output (B, C, h, w), None where `final`; and the taps, name to (B, c, h, w).
        """
        if self.acceleration == "none":
            return self._plain(sample, timestep, conditioning, record=record, final=final)
        program, rows = self._program(sample, conditioning, final), len(sample)
        found = program(sample, timestep, conditioning)
        taps = {name: found[name][:rows] for name in self.names} if record or final else {}
        return (None if final else found[_OUTPUT][:rows].clone()), taps

    def _plain(
        self,
        sample: Tensor,
        timestep: int,
        conditioning: Conditioning,
        *,
        record: bool,
        final: bool,
    ) -> tuple[Tensor | None, Mapping[str, Tensor]]:
        t = torch.full((len(sample),), timestep, device=sample.device, dtype=torch.long)
        output: Tensor | None = None
        if not (record or final):
            return self.unet(sample, t, return_dict=False, **conditioning)[0], {}
        with record_taps(self.unet, self.names, stop_after_last=final) as taps:
            output = self.unet(sample, t, return_dict=False, **conditioning)[0]
        return output, taps

    def _program(self, sample: Tensor, conditioning: Conditioning, final: bool) -> _Program:
        """The program for these shapes, or one that is there already and does a little more."""
        shape = (sample.dtype, *sample.shape[1:], *_row_shapes(conditioning))
        rows = len(sample)
        # A whole pass instead of one that ends at the last tap, and up to twice the rows, cost less
        # than preparing another program.
        fitting = [
            key
            for key in self._programs
            if key[0] == shape and key[1] <= final and rows <= key[2] <= 2 * rows
        ]

        def make() -> _Program:
            return _Program(
                TappedUnet(self.unet, self.names, final=final),
                sample,
                conditioning,
                compiled=self.acceleration == "compile",
                pool=self._graph_pool(sample.device),
            )

        _, program = kept_program(self._programs, fitting, (shape, final, rows), make)
        return program

    def _graph_pool(self, device: torch.device) -> Any:
        """Memory that all graphs share, since only one of them is alive at a time."""
        if self._pool is None and device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool


def _row_shapes(conditioning: Conditioning) -> tuple[Any, ...]:
    return tuple(
        (key, None if value is None else tuple(value.shape[1:]))
        for key, value in conditioning.items()
    )


class _Program:
    """The calls of one set of shapes."""

    def __init__(
        self,
        unet: TappedUnet,
        sample: Tensor,
        conditioning: Conditioning,
        *,
        compiled: bool,
        pool: Any,
    ) -> None:
        self._sample = torch.empty_like(sample, memory_format=torch.contiguous_format)
        self._timestep = torch.zeros(len(sample), device=sample.device, dtype=torch.long)
        self._conditioning = {
            key: None if value is None else torch.empty_like(value)
            for key, value in conditioning.items()
        }
        self._pool = pool
        self._run: Callable[..., dict[str, Tensor]] = unet
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: dict[str, Tensor] = {}
        if compiled:
            self._fill(sample, 0, conditioning)
            self._run = compile_call(unet, (self._sample, self._timestep, self._conditioning))

    def _fill(self, sample: Tensor, timestep: int, conditioning: Conditioning) -> None:
        self._timestep.fill_(timestep)
        _fill_rows(self._sample, sample)
        for key, kept in self._conditioning.items():
            if kept is not None:
                _fill_rows(kept, conditioning[key])

    def __call__(
        self, sample: Tensor, timestep: int, conditioning: Conditioning
    ) -> dict[str, Tensor]:
        self._fill(sample, timestep, conditioning)
        self._calls += 1
        if self._graph is None and self._calls > _CALLS_BEFORE_CAPTURE and sample.is_cuda:
            graph = torch.cuda.CUDAGraph()
            # A search in another thread waits for its own stream meanwhile: the usual mode ends a
            # capture at that.
            mode = "thread_local"
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode=mode):
                outputs = self._run(self._sample, self._timestep, self._conditioning)
            self._graph, self._outputs = graph, outputs
        if self._graph is None:
            return self._run(self._sample, self._timestep, self._conditioning)
        self._graph.replay()
        return self._outputs


def _fill_rows(kept: Tensor, given: Tensor) -> None:
    """Copy a batch into a kept one; rows left over repeat the last one given."""
    kept[: len(given)].copy_(given)
    if len(kept) > len(given):
        kept[len(given) :].copy_(given[-1:].expand_as(kept[len(given) :]))
