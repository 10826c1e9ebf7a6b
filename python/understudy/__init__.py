"""Understudy: capture the state of a training job out of the loop's way, and keep it.

    ckpt = understudy.Checkpointer("runs/a", keep=3)
    app = {"model": model, "optimizer": optimizer, "rng": understudy.torch.RngState()}
    step = ckpt.resume(app) or 0
    while step < steps:
        train_one_step(); step += 1
        if step % 100 == 0:
            ckpt.save(step, app)
    ckpt.close()

Works without torch and without NumPy; neither is imported until a state needs it.
"""

from understudy import _peers as _peers  # now: a Checkpointer may be made where it cannot be read
from understudy import torch as torch
from understudy._core import (
    Checkpoint,
    Checkpointer,
    Error,
    Keep,
    Resumed,
    Snapshot,
    Stager,
    Ticket,
    __version__,
    load_file,
    save_file,
)
from understudy._per_rank import per_rank
from understudy._preemption import Preemption

__all__ = [
    "Checkpoint",
    "Checkpointer",
    "Error",
    "Keep",
    "Preemption",
    "Resumed",
    "Snapshot",
    "Stager",
    "Ticket",
    "__version__",
    "load_file",
    "per_rank",
    "save_file",
    "torch",
]

# Names as users import them, in messages and pickles.
for _public in (Checkpoint, Checkpointer, Keep, Preemption, Resumed, Snapshot, Stager, Ticket):
    _public.__module__ = __name__
per_rank.__module__ = __name__
del _public
