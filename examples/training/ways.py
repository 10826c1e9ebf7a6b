"""Three ways to save the same state, under one roof, so that they can be timed alike."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

import understudy
from training.trainer import Trainer


class Way(ABC):
    """Saves a trainer's state into a folder of its own. One save at a time."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @abstractmethod
    def save(self, number: int, trainer: Trainer) -> None:
        """Starts a save; returns when training may go on."""

    @abstractmethod
    def durable_at(self) -> float | None:
        """The moment (perf_counter) at which the last save was on disk; None while it is not."""

    @abstractmethod
    def forget(self, number: int) -> None:
        """Deletes a save that is done."""

    def close(self) -> None:
        shutil.rmtree(self.folder)


class UnderstudyWay(Way):
    name = "understudy"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._checkpointer = understudy.Checkpointer(folder)
        self._ticket: Any = None
        self._start = 0.0

    def save(self, number: int, trainer: Trainer) -> None:
        self._start = time.perf_counter()
        self._ticket = self._checkpointer.save(number, trainer.app)

    def durable_at(self) -> float | None:
        if not self._ticket.done():
            return None
        self._ticket.wait()
        return self._start + float(self._ticket.metrics()["durable_s"])

    def forget(self, number: int) -> None:
        shutil.rmtree(self._ticket.wait())

    def close(self) -> None:
        self._checkpointer.close()
        super().close()


class TorchSaveWay(Way):
    name = "torch.save + fsync"

    def save(self, number: int, trainer: Trainer) -> None:
        path = self.folder / f"{number}.pt"
        with path.open("wb") as file:
            torch.save(trainer.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.folder)
        self._done = time.perf_counter()

    def durable_at(self) -> float | None:
        return self._done

    def forget(self, number: int) -> None:
        (self.folder / f"{number}.pt").unlink()


class DcpWay(Way):
    """`async_save` as its authors advise: one stager, kept, so that its buffers are reused."""

    name = "dcp.async_save"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # One process is what is meant here.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        self._stager = DefaultStager(StagingOptions(False, False, False, False))
        self._done: float | None = None

    def save(self, number: int, trainer: Trainer) -> None:
        self._done = None
        future = dcp.async_save(
            trainer.state_dict(),
            checkpoint_id=self.folder / str(number),
            async_stager=self._stager,
            no_dist=True,
        )
        assert isinstance(future, Future)
        future.add_done_callback(self._mark)
        self._future = future

    def _mark(self, future: Future[Any]) -> None:
        self._done = time.perf_counter()

    def durable_at(self) -> float | None:
        if self._done is not None:
            self._future.result()
        return self._done

    def forget(self, number: int) -> None:
        shutil.rmtree(self.folder / str(number))

    def close(self) -> None:
        self._stager.close()
        super().close()


def sync_folder(folder: Path) -> None:
    """A new name in a folder is on disk only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


ALL_WAYS: tuple[type[Way], ...] = (UnderstudyWay, TorchSaveWay, DcpWay)
