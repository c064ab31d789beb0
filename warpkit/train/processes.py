"""One process or several of one run: who writes, how the pairs of a step and gradients are shared.

With several processes (`accelerate launch --multi_gpu -m warpkit train ...` or `torchrun`) each
takes its share of a step's pairs, and the sum of their gradients is that of one process with all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from warpkit.checks import InputError

__all__ = ["Processes"]


class Processes:
    """This process among those of a run. A single one needs nothing but torch.

    Attributes:
        rank: number of this process.
        count: number of processes.
        device: where this one computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.count, self.device = 0, 1, device
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise InputError(
                    "several processes need accelerate: pip install 'warpkit-hyperfeatures[train]'"
                ) from error
            # The run says itself what is computed in bfloat16.
            self._accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
            self.rank = int(self._accelerator.process_index)
            self.count = int(self._accelerator.num_processes)
            self.device = self._accelerator.device

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self._accelerator is None:
            return value
        total: Tensor = self._accelerator.reduce(value, reduction="sum")
        return total

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every process the sum of all gradients."""
        if self._accelerator is None:
            return
        listed = list(parameters)
        for p in listed:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = self.sum(torch.cat([p.grad.flatten() for p in listed if p.grad is not None]))
        for p, part in zip(listed, flat.split([p.numel() for p in listed]), strict=True):
            p.grad = part.view_as(p).clone()

    def agree(self, decision: bool) -> bool:
        """The main process's decision, in every process."""
        if self._accelerator is None:
            return decision
        mine = torch.tensor(float(decision and self.main), device=self.device)
        return bool(self.sum(mine) > 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        if self._accelerator is not None:
            self._accelerator.end_training()
