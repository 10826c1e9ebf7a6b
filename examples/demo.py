"""A model trains, is killed in the middle of a save, and is resumed to the last bit.

    python examples/demo.py [--out FOLDER] [--quick]

Ends with code 0 only when the resumed run equals the uninterrupted one, bit
for bit, and the folder it leaves is whole.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import understudy
from training.console import ProgressLine, heading, say, table
from training.fingerprint import differences, leaves
from training.picture import draw
from training.supervisor import (
    Event,
    Kill,
    SaveWatch,
    Worker,
    WorkerFailed,
    run_and_kill,
    run_to_end,
)
from training.trainer import FULL, QUICK, Settings

# A kill may come a moment after the save has ended. Three in four hit, so this
# many misses in a row mean that something is wrong.
_ATTEMPTS = 12

# What the demo makes in its folder.
_RUN, _RACE, _RESTART = "run", "race", "restart"
_STRAIGHT, _RESUMED = "straight.safetensors", "resumed.safetensors"
_PICTURE = "step-times.png"


class DemoFailed(RuntimeError):
    """What was to be shown could not be shown."""


@dataclass
class Recorder:
    """Keeps a process's events and moves a progress line along."""

    total: int  # steps
    events: list[Event] = field(default_factory=list)
    progress: ProgressLine = field(default_factory=ProgressLine)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event["event"] == "step":
            self.progress.show(event["step"], self.total, f"loss {event['loss']:.3f}")
        elif event["event"] == "turn":
            self.progress.show(event["done"], event["total"], event["way"])

    def last(self, name: str) -> Event:
        return next(event for event in reversed(self.events) if event["event"] == name)


class Demo:
    def __init__(self, out: Path, *, quick: bool) -> None:
        self.out = out
        self.run_folder = out / _RUN
        self.settings: Settings = QUICK if quick else FULL
        self._flags = ["--quick"] if quick else []
        self._cli = command_line()

    def play(self) -> None:
        begin = time.perf_counter()
        reference = self.train_straight()
        killed, kill = self.train_and_kill()
        resumed = self.resume(kill)
        self.compare(reference, resumed)
        self.restart()
        results = self.race()
        picture = self.out / _PICTURE
        draw(picture, killed.events, resumed.events, results)
        say(f"picture of the step times: {picture}")
        self.inspect()
        heading(f"Done in {time.perf_counter() - begin:.0f} s.")

    def _worker_arguments(self, final: str, checkpoints: Path | None) -> list[str]:
        arguments = ["--final", str(self.out / final), *self._flags]
        return arguments + (["--checkpoints", str(checkpoints)] if checkpoints else [])

    def _recorder(self) -> Recorder:
        return Recorder(self.settings.steps)

    def train_straight(self) -> Recorder:
        size = self.settings.size
        heading(f"(a) Training straight to the end: {self.settings.steps} steps, no checkpoints")
        say(f"a transformer of {size.layers} layers, width {size.width}, dropout {size.dropout},")
        say("reads the source of Python's standard library byte by byte")
        recorder = self._recorder()
        run_to_end("training.worker", self._worker_arguments(_STRAIGHT, None), recorder)
        recorder.progress.clear()
        self._show_losses(recorder)
        return recorder

    def train_and_kill(self) -> tuple[Recorder, Kill]:
        heading(f"(b) The same training, a checkpoint every {self.settings.save_every} steps")
        # Somewhere in the middle half, so that there is much to lose and much to redo.
        steps = self.settings.steps
        not_before = random.SystemRandom().randint(steps // 4, steps // 2)
        say(f"the parent will kill it during a save, some time after step {not_before}")
        watch = SaveWatch(self.run_folder)
        recorder = self._recorder()
        arguments = self._worker_arguments(_RESUMED, self.run_folder)
        for attempt in range(1, _ATTEMPTS + 1):
            kill = run_and_kill(
                "training.worker",
                arguments,
                watch,
                not_before=not_before,
                on_event=recorder,
            )
            recorder.progress.clear()
            if kill is None:
                say(f"attempt {attempt}: it reached the end before a kill hit a save; once more")
                shutil.rmtree(self.run_folder)
            elif kill.hit:
                self._show_kill(kill, attempt)
                return recorder, kill
            else:
                say(f"attempt {attempt}: the save was done {kill.delay * 1e3:.0f} ms after it came")
                say("into sight: the kill missed it. The run goes on; the next save is the target")
        raise DemoFailed(f"none of {_ATTEMPTS} kills hit a save in flight")

    def _show_kill(self, kill: Kill, attempt: int) -> None:
        say(f"SIGKILL {kill.delay * 1e3:.0f} ms after a save came into sight (attempt {attempt});")
        say(f"the last step it told of was {kill.after_step}. It left behind:")
        for name, files in kill.unfinished:
            inside = ", ".join(files) or "empty"
            say(f"  {name}: {inside}  <- the save in flight: not a step")
        steps = understudy.Checkpointer(self.run_folder).steps()
        say(f"  complete steps: {', '.join(map(str, steps)) or 'none'}")

    def resume(self, kill: Kill) -> Recorder:
        heading("(c) Resumed to the end")
        recorder = self._recorder()
        arguments = self._worker_arguments(_RESUMED, self.run_folder)
        run_to_end("training.worker", arguments, recorder)
        recorder.progress.clear()
        step = recorder.last("ready")["resumed"]
        say(f"resumed from step {step or 'none: began anew'} and went on to {self.settings.steps}")
        still_there = [name for name, _ in kill.unfinished if (self.run_folder / name).exists()]
        if still_there:
            raise DemoFailed(f"leftovers of the killed process were not cleared: {still_there}")
        say("the leftovers of the killed process were cleared")
        self._show_losses(recorder)
        return recorder

    def _show_losses(self, recorder: Recorder) -> None:
        steps = [event for event in recorder.events if event["event"] == "step"]
        median = statistics.median(event["seconds"] for event in steps) * 1e3
        first, last = steps[0], steps[-1]
        say(
            f"loss {first['loss']:.3f} at step {first['step']}, {last['loss']:.3f} at step "
            f"{last['step']}; {median:.0f} ms a step"
        )

    def compare(self, straight: Recorder, resumed: Recorder) -> None:
        heading("Is (c) equal to (a), bit for bit?")
        a, c = straight.last("done")["fingerprint"], resumed.last("done")["fingerprint"]
        rows = [[part, a[part][:16], c[part][:16], _verdict(a[part] == c[part])] for part in a]
        table(["SHA-256 of", "straight (a)", "resumed (c)", ""], rows)
        same = a == c

        files = [self.out / name for name in (_STRAIGHT, _RESUMED)]
        states = [understudy.load_file(file) for file in files]
        found = differences(*states)
        count = sum(1 for _ in leaves(states[0]))
        say(f"torch.equal and == over {count} leaves: {len(found)} differ  {_verdict(not found)}")
        for line in found[:10]:  # enough to see what kind of difference it is
            say(f"  {line}")
        code = self._run_cli("diff", *map(str, files))
        say(f"understudy diff: code {code}  {_verdict(code == 0)}")
        if not same or found or code != 0:
            raise DemoFailed("the resumed run differs from the uninterrupted one")

    def restart(self) -> None:
        heading("(d) Killed once more: a restart from memory that survived, and one from disk")
        folder = self.out / _RESTART
        saved = self._killed_after_save(folder)
        if saved["survival"] != "sealed":
            say(f"not shown, because nothing survives here: {saved['survival']}")
            shutil.rmtree(folder)
            return
        say(f"SIGKILL after a save: {saved['nbytes'] / 2**20:.0f} MiB, which would outlive the")
        say(f"process {saved['sealed_s'] * 1e3:.0f} ms after the call, and a power cut after")
        say(f"{saved['durable_s'] * 1e3:.0f} ms")
        rows = []
        for source in ("memory", "disk"):
            recorder = self._recorder()
            run_to_end("training.restart", self._restart_arguments(source, folder), recorder)
            resumed = recorder.last("resumed")
            same = resumed["fingerprint"] == saved["fingerprint"]
            rows.append([source, f"{resumed['seconds'] * 1e3:.0f} ms", _verdict(same)])
            if not same:
                raise DemoFailed(f"the state resumed from {source} is not the one that was saved")
        table(["resumed from", "took, verified", ""], rows)
        shutil.rmtree(folder)

    def _restart_arguments(self, what: str, folder: Path) -> list[str]:
        return [what, "--folder", str(folder), *self._flags]

    def _killed_after_save(self, folder: Path) -> Event:
        """What a process told of its save, before it was killed."""
        worker = Worker("training.restart", self._restart_arguments("save", folder))
        try:
            event = worker.next_event()
            if event is None:
                worker.finish()
                raise DemoFailed("the process that saves told nothing")
            return event
        finally:
            worker.kill()

    def race(self) -> list[dict[str, Any]]:
        heading("What a save costs, beside two others, on this state and in this loop")
        folder = self.out / _RACE
        recorder = self._recorder()
        run_to_end("training.race", ["--folder", str(folder), *self._flags], recorder)
        recorder.progress.clear()
        shutil.rmtree(folder)
        results: list[dict[str, Any]] = recorder.last("results")["results"]
        table(
            [
                "medians",
                "loop stopped",
                "until durable",
                "training added",
                "stopped, first save",
            ],
            [_race_row(result) for result in results],
        )
        turns = len(results[0]["turns"])
        say(f"medians of {turns} saves each, taken in turns; durable means after fsync;")
        say("added: what the loop lost until the save was done, against steps without a save")
        return results

    def inspect(self) -> None:
        heading(f"understudy ls {self.run_folder}")
        listed = self._run_cli("ls", str(self.run_folder))
        heading("understudy verify, each step")
        steps = sorted(path for path in self.run_folder.glob("step-*"))
        verified = max(self._run_cli("verify", str(step)) for step in steps)
        if listed != 0 or verified != 0:
            raise DemoFailed("the command line found something wrong with the folder")

    def _run_cli(self, *arguments: str) -> int:
        return subprocess.run([self._cli, *arguments], check=False).returncode


def command_line() -> str:
    """The `understudy` program: the one named by the environment, or the one beside Python."""
    beside = Path(sysconfig.get_path("scripts"), "understudy")
    path = os.environ.get("UNDERSTUDY_CLI") or str(beside)
    if not Path(path).is_file():
        raise DemoFailed(f"the command-line program is not at {path} (see UNDERSTUDY_CLI)")
    return path


def clear(out: Path) -> None:
    """Makes the folder, without what an earlier demo left in it. Touches nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (_RUN, _RACE, _RESTART):
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in (_STRAIGHT, _RESUMED, _PICTURE):
        (out / name).unlink(missing_ok=True)


def _verdict(same: bool) -> str:
    return "same" if same else "DIFFERENT"


def _race_row(result: dict[str, Any]) -> list[str]:
    def median_ms(name: str) -> float:
        return 1e3 * float(statistics.median(turn[name] for turn in result["turns"]))

    return [
        result["way"],
        f"{median_ms('stopped'):.1f} ms",
        f"{median_ms('durable') / 1e3:.3f} s",
        f"{median_ms('added'):+.0f} ms",
        f"{result['first']['stopped'] * 1e3:.1f} ms",
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="a small model, for tests")
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    clear(out)
    try:
        Demo(out, quick=options.quick).play()
    except (DemoFailed, WorkerFailed) as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
