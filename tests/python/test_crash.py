"""A training process that is killed again and again on one folder."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
from conftest import child_environment

import understudy

KILLS = 55
# A slow disk makes few steps between kills: more kills, until enough was seen.
MOST_KILLS = 4 * KILLS
ENOUGH_STEPS = 10

# Saves as fast as it can; says what is durable as soon as it is told so.
TRAINER = """
import sys
import numpy as np
import understudy

run, acknowledged = sys.argv[1:]
state = {"w": np.zeros(100_000), "step": 0, "log": [0]}
with open(acknowledged, "a") as out, understudy.Checkpointer(run, keep=3) as ckpt:
    step = ckpt.resume(state) or 0
    assert state["step"] == step and (state["w"] == step).all(), "torn"
    print("running", flush=True)
    while True:
        step += 1
        state["w"][:] = step
        state["step"] = step
        state["log"][0] = step
        ticket = ckpt.save(step, state)
        if step % 3 == 0:
            state["w"][:] = -1  # whatever comes after the call is not in it
        ticket.wait()
        out.write(f"{step}\\n")
        out.flush()
"""


def time_of_a_save(directory) -> float:
    with understudy.Checkpointer(directory) as ckpt:
        start = time.monotonic()
        for step in range(3):
            ckpt.save(step, {"w": np.zeros(100_000)}).wait()
        return (time.monotonic() - start) / 3


def test_killed_at_random_moments(tmp_path):
    run, acknowledged = tmp_path / "run", tmp_path / "acknowledged"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    acknowledged.touch()
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    command = [sys.executable, "-c", TRAINER, str(run), str(acknowledged)]
    save_s = time_of_a_save(tmp_path / "other")
    promised = leftovers = 0
    for kill in range(MOST_KILLS):
        if kill >= KILLS and promised > ENOUGH_STEPS and leftovers:
            break
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=child_environment(), text=True
        ) as trainer:
            assert trainer.stdout.readline() == "running\n", f"the trainer ended, seed {seed}"
            time.sleep(moments.uniform(0, 4 * save_s))
            trainer.send_signal(signal.SIGKILL)
        assert trainer.returncode == -signal.SIGKILL
        leftovers += any("tmp" in name for name in os.listdir(run))
        lines = acknowledged.read_text().split("\n")[:-1]
        promised = max([promised, *map(int, lines)])
        reader = understudy.Checkpointer(run)
        latest = reader.latest() or 0
        assert latest >= promised, f"kill {kill}: step {promised} was acknowledged, seed {seed}"
        for step in reader.steps():
            state = reader.restore(step).state
            assert state["step"] == step and (state["w"] == step).all(), f"torn, seed {seed}"
            assert state["log"] == [step]
    assert promised > ENOUGH_STEPS, "the trainer made progress"
    assert leftovers, "no kill ever fell into a save, so this tested nothing"
    with understudy.Checkpointer(run, keep=3) as ckpt:
        ckpt.save(promised + 1000, {"w": 1}).wait()
        assert len(ckpt.steps()) == 3
    assert not [n for n in os.listdir(run) if "tmp" in n], "leftovers are cleared"
    assert (run / "notes.txt").read_text() == "mine"
