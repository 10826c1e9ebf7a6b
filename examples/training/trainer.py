"""One training job and everything that must be saved to continue it exactly."""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import understudy
import understudy.torch
from training.model import ModelSize, Transformer
from training.text import TextLoader, standard_library_text


@dataclass(frozen=True)
class Settings:
    size: ModelSize
    steps: int
    save_every: int
    batch: int = 4
    learning_rate: float = 1e-3
    warmup: int = 20
    seed: int = 20
    # A run reads about 300 bytes a row and never comes near the end of this.
    text_bytes: int = 4 << 20


# About 130 MB of state: large enough for a save to take a while, small enough
# for a step to take a fifth of a second on two cores.
FULL = Settings(ModelSize(width=384, layers=6, heads=6, context=64), steps=160, save_every=10)
# About 20 MB of state, for the tests.
QUICK = Settings(ModelSize(width=192, layers=4, heads=3, context=64), steps=40, save_every=4)


class Journal:
    """The losses so far, and with them the number of steps done."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


def prepare_process(seed: int) -> None:
    """Seeds every generator and asks torch to add numbers up in a fixed order."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


class Trainer:
    def __init__(self, settings: Settings) -> None:
        prepare_process(settings.seed)
        self.settings = settings
        text, self.text_files = standard_library_text(settings.text_bytes)
        self.loader = TextLoader(text, batch=settings.batch, context=settings.size.context)
        self.model = Transformer(settings.size)
        self.optimizer = torch.optim.AdamW(
            _weight_decay_groups(self.model), lr=settings.learning_rate, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, self._learning_rate_factor
        )
        self.journal = Journal()
        # What a checkpoint holds: anything with state_dict() and load_state_dict().
        self.app: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "loader": self.loader,
            "journal": self.journal,
            "rng": understudy.torch.RngState(),
        }

    @property
    def steps_done(self) -> int:
        return len(self.journal.losses)

    def step(self) -> float:
        """One step of training; returns its loss."""
        inputs, targets = self.loader.next_batch()
        logits = self.model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.journal.losses.append(loss.item())
        return self.journal.losses[-1]

    def state_dict(self) -> dict[str, Any]:
        """The state as plain containers, for tools that take no objects."""
        return {name: part.state_dict() for name, part in self.app.items()}

    def _learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to a tenth."""
        if step < self.settings.warmup:
            return (step + 1) / self.settings.warmup
        done = (step - self.settings.warmup) / max(1, self.settings.steps - self.settings.warmup)
        return 0.55 + 0.45 * math.cos(math.pi * min(1.0, done))


def _weight_decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
