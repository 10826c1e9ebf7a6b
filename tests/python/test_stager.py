"""Snapshots: the instant, leases, states that change, tickets, options."""

import gc
import threading

import numpy as np
import pytest
import torch
from same import assert_same

import understudy
from understudy import Error, Stager


def test_the_instant_lies_inside_the_call():
    state = {"w": torch.ones(1000), "n": np.ones(10), "list": [1], "step": 1}
    with Stager() as stager:
        ticket = stager.stage(state)
        state["w"].zero_()
        state["n"][:] = 0
        state["list"].append(2)
        state["step"] = 2
        assert_same(
            ticket.wait().state(), {"w": torch.ones(1000), "n": np.ones(10), "list": [1], "step": 1}
        )


def test_snapshots_are_immutable_and_leased():
    weight = torch.zeros(100_000)
    with Stager(images=2) as stager:
        first = stager.stage({"w": weight}).wait()
        held = first.state()["w"]
        held.fill_(9)  # private: nothing else changes
        weight.fill_(1)
        second = stager.stage({"w": weight}).wait()
        assert first.state()["w"].sum() == 0
        assert second.state()["w"].sum() == 100_000
        first.close()
        second.close()
        gc.collect()
        weight.fill_(2)
        third = stager.stage({"w": weight}).wait()  # the second's image: held keeps the first's
        assert third.state()["w"][0] == 2
        assert held.sum() == 900_000


def test_skip_when_busy():
    with Stager(images=1, when_busy="skip") as stager:
        kept = stager.stage([torch.ones(2)]).wait()
        ticket = stager.stage([torch.zeros(2)])
        assert ticket.done()
        with pytest.raises(Error) as e:
            ticket.wait()
        assert e.value.code == "busy"
        assert_same(kept.state(), [torch.ones(2)])
        kept.close()
        assert_same(stager.stage([torch.zeros(2)]).wait().state(), [torch.zeros(2)])


def test_waiting_for_a_free_image_lets_other_threads_run():
    with Stager(images=1) as stager:
        kept = stager.stage([torch.ones(2)]).wait()
        closer = threading.Timer(0.2, kept.close)
        closer.start()  # runs Python while stage() waits: only without the GIL
        ticket = stager.stage([torch.zeros(2)])
        closer.join()
        assert_same(ticket.wait().state(), [torch.zeros(2)])
        assert ticket.metrics()["waited_s"] > 0


def test_a_lease_ends_with_the_last_tensor():
    with Stager(images=1, when_busy="error") as stager:
        tensor = stager.stage([torch.ones(5)]).wait().state()[0]
        gc.collect()
        with pytest.raises(Error):
            stager.stage([torch.ones(5)]).wait()
        view = tensor[2:]
        del tensor
        with pytest.raises(Error):
            stager.stage([torch.ones(5)]).wait()
        del view
        assert_same(stager.stage([torch.ones(5)]).wait().state(), [torch.ones(5)])


def test_states_that_change_between_calls():
    base = torch.randn(6, 4)
    states = [
        {"a": base, "n": 1},
        {"a": base, "n": 2},
        {"a": base.clone(), "n": 2.5},
        {"a": base[:3], "n": "text"},
        {"a": base.t(), "extra": [1, 2]},
        {"a": base.double()},
        {"a": np.asarray(base)},
        {"b": base, "a": base},
        {"a": base[1:], "b": base[:5]},
        {"a": 3, "b": None},
        {},
        {"a": base, "n": 1},
    ]
    with Stager() as stager:
        for state in states:
            with stager.stage(state).wait() as snapshot:
                assert_same(snapshot.state(), state)


def test_data_that_is_replaced_behind_the_same_tensor():
    parameter = torch.nn.Parameter(torch.zeros(8))
    with Stager() as stager:
        for value in range(1, 4):
            parameter.data = torch.full((8,), float(value))
            with stager.stage({"p": parameter}).wait() as snapshot:
                assert torch.equal(snapshot.state()["p"], parameter)


def test_ten_thousand_small_tensors():
    state = {f"layer.{i}": torch.full((16,), float(i)) for i in range(10_000)}
    with Stager() as stager:
        for scale in (1, 2):
            for tensor in state.values():
                tensor.mul_(scale)
            with stager.stage(state).wait() as snapshot:
                loaded = snapshot.state()
                assert list(loaded) == list(state)
                assert torch.equal(torch.stack([*loaded.values()]), torch.stack([*state.values()]))


def test_ten_thousand_small_tensors_through_a_file(round_trip):
    state = {f"layer.{i}": torch.full((4,), float(i)) for i in range(10_000)}
    loaded = round_trip(state)
    assert torch.equal(torch.stack([*loaded.values()]), torch.stack([*state.values()]))


def test_a_snapshot_as_a_file(tmp_path):
    state = {"w": torch.randn(3), "k": (1, "x")}
    with Stager() as stager, stager.stage(state).wait() as snapshot:
        snapshot.save_file(tmp_path / "f", metadata={"a": "b"})
        assert (tmp_path / "f").stat().st_size == snapshot.nbytes
    assert_same(understudy.load_file(tmp_path / "f"), state)


def test_opaque_leaves_of_a_snapshot_do_not_reach_disk(tmp_path):
    with Stager() as stager, stager.stage({"o": {"x": object()}}).wait() as snapshot:
        with pytest.raises(Error, match=r"'o\.x'") as e:
            snapshot.save_file(tmp_path / "f")
        assert e.value.code == "unsupported"
        assert not (tmp_path / "f").exists()


def test_what_is_closed_says_so():
    stager = Stager()
    snapshot = stager.stage([1]).wait()
    snapshot.close()
    snapshot.close()
    with pytest.raises(Error) as e:
        snapshot.state()
    assert e.value.code == "closed"
    stager.close()
    stager.close()
    with pytest.raises(Error) as e:
        stager.stage([1])
    assert e.value.code == "closed"


def test_a_ticket_tells_what_happened():
    with Stager() as stager:
        ticket = stager.stage({"w": torch.ones(1000)})
        snapshot = ticket.wait(timeout=60)
        assert ticket.wait() is not None, "may be called again"
        ticket.wait_captured()
        assert ticket.done() and ticket.is_captured() and ticket.exception() is None
        assert "blocking" in ticket.capture
        done, total = ticket.progress()
        assert done == total > 0
        metrics = ticket.metrics()
        assert metrics["nbytes"] == snapshot.nbytes >= 4000
        assert metrics["blocked_s"] > 0 and metrics["captured_s"] > 0
        assert {"waited_s", "durable_s"} <= set(metrics)


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [
        ("memory", "ram", "'auto', 'pageable', 'pinned', 'shared'"),
        ("capture", "fast", "'auto', 'blocking', 'overlapped'"),
        ("when_busy", "never", "'wait', 'skip', 'error'"),
    ],
)
def test_options_list_their_choices(option, value, choices, tmp_path):
    for make in (Stager, lambda **o: understudy.Checkpointer(tmp_path, **o)):
        with pytest.raises(Error, match=f"{option} is '{value}'.*{choices}") as e:
            make(**{option: value})
        assert e.value.code == "invalid"


@pytest.mark.parametrize("options", [{"images": 0}, {"images": -1}, {"threads": -1}])
def test_numbers_out_of_range(options):
    with pytest.raises(Error) as e:
        Stager(**options)
    assert e.value.code == "invalid"


def test_what_is_not_possible_is_an_error_and_no_silent_fallback():
    with pytest.raises(Error) as e:
        Stager(capture="blocking", huge_pages=True)
    assert e.value.code in ("unsupported", "invalid")


def test_arguments_are_keywords():
    with pytest.raises(TypeError):
        Stager(2)


def test_errors_have_codes_and_can_be_pickled():
    import pickle

    with pytest.raises(Error) as e:
        understudy.load_file("/nowhere/at/all")
    copy = pickle.loads(pickle.dumps(e.value))
    assert (str(copy), copy.code) == (str(e.value), "not_found")
    assert Error.__module__ == "understudy"
    assert isinstance(e.value, FileNotFoundError)


def test_threads_take_turns():
    with Stager(images=4) as stager:
        seen = []

        def work(value):
            with stager.stage({"w": torch.full((5000,), float(value))}).wait() as snapshot:
                seen.append((value, snapshot.state()["w"].unique().tolist()))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen) == [(i, [float(i)]) for i in range(8)]
