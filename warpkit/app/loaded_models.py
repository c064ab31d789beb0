"""The models of the page: which may be chosen, and those that are loaded."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict

from warpkit.checks import InputError, one_of, require
from warpkit.describe.extractor import ModelDescriber
from warpkit.describe.manage import list_models
from warpkit.describe.options import ModelOptions
from warpkit.describe.table import resolve_model
from warpkit.runs.memory import release, resident

__all__ = ["ModelShelf"]


class ModelShelf:
    """Loads a model once, keeps the last few.

    Only models whose weights are on this machine can be chosen: the page downloads nothing.

    Args:
        options: the model that is chosen at first and where all run. Its size, aggregator and
            fit are for that model alone.
        most: models kept loaded.
    """

    def __init__(self, options: ModelOptions, *, most: int = 2) -> None:
        self._options, self._most = options, most
        self._loaded: OrderedDict[str, ModelDescriber] = OrderedDict()
        self._lock = threading.Lock()
        here = [row["model"] for row in list_models() if row["here"] == "yes"]
        self.names = list(dict.fromkeys([options.model, *here]))

    @property
    def default(self) -> str:
        """The model that is chosen at first."""
        return self._options.model

    def single_names(self) -> list[str]:
        """The models that are one model: mixing weights are of one."""
        found = []
        for name in self.names:
            try:
                resolve_model(name).single()
            except InputError:
                continue
            found.append(name)
        return found

    def options(self, name: str) -> ModelOptions:
        """What a job's configuration says of a model.

        Raises:
            InputError: one that cannot be chosen.
        """
        require(bool(name), "choose a model first")
        one_of(name, self.names, "model")
        if name == self._options.model:
            return self._options
        return dataclasses.replace(self._options, model=name, aggregator=None, size=None, fit=None)

    def load(self, name: str) -> ModelDescriber:
        """The model, loaded now if it is not yet; the one used longest ago may go for it."""
        options = self.options(name)
        with self._lock:
            found = self._loaded.pop(name, None)
            if found is not None:
                self._loaded[name] = found
                return found
        found = options.load_extractor()
        with self._lock:
            self._loaded[name] = found
            gone = [self._loaded.popitem(last=False) for _ in range(len(self._loaded) - self._most)]
        if gone:
            del gone
            release()
        return found

    def device(self, name: str) -> str:
        """Where a model runs, or would."""
        with self._lock:
            found = self._loaded.get(name)
        return str(found.device) if found is not None else self._options.device

    def state(self) -> dict[str, str]:
        """`loaded` or `on disk`, a model."""
        with self._lock:
            return {name: "loaded" if name in self._loaded else "on disk" for name in self.names}

    def memory(self) -> str:
        """Memory of this process, and of the GPU if it is used, in words."""
        import torch

        words = [f"{resident() / 1e6:.0f} MB"] if resident() else []
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            words.append(f"{torch.cuda.memory_allocated() / 1e6:.0f} MB on the GPU")
        return ", ".join(words) or "unknown"
