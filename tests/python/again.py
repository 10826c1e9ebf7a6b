"""For the tests of staging a state again."""

import copy


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
