"""The shortest use: train, save now and then, resume where it stopped.

    python examples/quickstart.py [FOLDER]

Run it twice with another number of steps, or kill it: it goes on from its newest checkpoint.
"""

import sys

import torch

import understudy
import understudy.torch

folder = sys.argv[1] if len(sys.argv) > 1 else "demo-out/quickstart"
steps = 300
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)


def train_one_step() -> float:
    x = torch.randn(32, 8)
    loss = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


ckpt = understudy.Checkpointer(folder, keep=3)
app = {"model": model, "optimizer": optimizer, "rng": understudy.torch.RngState()}
step = ckpt.resume(app) or 0  # newest step, in place; None when there is none
print(f"starting after step {step}")
while step < steps:
    loss = train_one_step()
    step += 1
    if step % 100 == 0:
        ckpt.save(step, app)  # returns at once; training goes on
        print(f"step {step}: loss {loss:.4f}")
ckpt.close()  # waits; raises the first failure
print(f"complete steps in {folder}: {ckpt.steps()}")
