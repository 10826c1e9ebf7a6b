"""Any two trees: what fits is restored, and the rest is told, as a simple model says."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy import Checkpointer, Error

# Leaves: a tensor of two bytes or three, a number, a text.
leaves = st.one_of(
    st.sampled_from([2, 3]).flatmap(
        lambda n: st.integers(0, 9).map(lambda x: np.full(n, x, np.uint8))
    ),
    st.integers(0, 9),
    st.sampled_from(["a", "b"]),
)
keys = st.sampled_from(["k", "l", "m"])
trees = st.dictionaries(
    keys,
    st.recursive(leaves, lambda below: st.dictionaries(keys, below, max_size=3), max_leaves=8),
    max_size=3,
)


def is_plain(tree) -> bool:
    if isinstance(tree, dict):
        return all(map(is_plain, tree.values()))
    return not isinstance(tree, np.ndarray)


class Model:
    """The rules, said once more."""

    def __init__(self, strict):
        self.strict = strict
        self.missing, self.unexpected, self.mismatched = [], [], []

    def merge(self, path, here, saved, plain=False):
        plain = plain or (path != "" and is_plain(here))
        if isinstance(here, dict) and isinstance(saved, dict):
            return self.merge_dict(path, here, saved, plain)
        if isinstance(here, np.ndarray) and isinstance(saved, np.ndarray):
            if here.shape == saved.shape:
                return saved
        elif type(here) is type(saved):
            return saved
        self.mismatched.append(path)
        return here

    def merge_dict(self, path, here, saved, plain):
        merged = {}
        below = f"{path}." if path else ""
        for key, child in here.items():
            if key in saved:
                merged[key] = self.merge(below + key, child, saved[key], plain)
            elif not plain or not self.strict:
                self.missing.append(below + key)
                merged[key] = child
        for key, child in saved.items():
            if key not in here and plain:
                merged[key] = child
            elif key not in here:
                self.unexpected.append(below + key)
        return merged


def simple(tree):
    if isinstance(tree, dict):
        return {key: simple(child) for key, child in tree.items()}
    return ("tensor", tree.tobytes()) if isinstance(tree, np.ndarray) else tree


def copied(tree):
    if isinstance(tree, dict):
        return {key: copied(child) for key, child in tree.items()}
    return tree.copy() if isinstance(tree, np.ndarray) else tree


def tensors(path, tree):
    if isinstance(tree, dict):
        return {
            k: v for key, below in tree.items() for k, v in tensors((*path, key), below).items()
        }
    return {path: tree} if isinstance(tree, np.ndarray) else {}


# A time limit of each example would be a race with the disk; the suite has one of its own.
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(here=trees, saved=trees)
def test_pairs_of_trees(tmp_path_factory, here, saved):
    strict, loose = Model(True), Model(False)
    want_strict = strict.merge("", here, saved)
    want_loose = loose.merge("", here, saved)
    with Checkpointer(tmp_path_factory.mktemp("run")) as ckpt:
        ckpt.save(1, saved).wait()
        target = copied(here)
        own = tensors((), target)
        try:
            ckpt.resume(target)
        except Error as error:
            assert strict.missing or strict.unexpected or strict.mismatched, error
            for path in strict.missing + strict.unexpected + strict.mismatched:
                assert f"'{path}'" in str(error)
            assert simple(target) == simple(here), "nothing was changed"
        else:
            assert not (strict.missing or strict.unexpected or strict.mismatched)
            assert simple(target) == simple(want_strict)
        target = copied(here)
        own = tensors((), target)
        ckpt.resume(target, strict=False)
        told = ckpt.resumed
        assert sorted(told.missing) == sorted(loose.missing)
        assert sorted(told.unexpected) == sorted(loose.unexpected)
        assert sorted(told.mismatched) == sorted(loose.mismatched)
        assert simple(target) == simple(want_loose)
        for path, tensor in tensors((), target).items():
            assert path not in own or own[path] is tensor, "in place"
