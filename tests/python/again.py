"""For the tests of staging a state again."""

import copy
import os

# What a plan is called that was found by the pass over a state: without reading in place, tensors
# end it, and a walk finds the same plan.
AGAIN = "same" if os.environ.get("UNDERSTUDY_PEEK") == "0" else "again"


class Holder:
    """An object with a state, which counts how often it is asked for it."""

    def __init__(self, state) -> None:
        self.state, self.asked = state, 0

    def state_dict(self):
        self.asked += 1
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def load_state_dict(self, state) -> None:
        raise AssertionError


def stage(stager, state):
    """What was captured, and how it was planned."""
    ticket = stager.stage(state)
    with ticket.wait() as snapshot:
        return copy.deepcopy(snapshot.state()), ticket.metrics()["plan"]
