"""Only parts, what fits, other names, other types."""

import pytest
import torch
from same import assert_same
from torch import nn

from understudy import Checkpointer, Error


def net(*more):
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), *more)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.1)


@pytest.fixture
def resumed(tmp_path):
    """Saves, resumes, and gives what was told of the resume."""

    def go(saved, target, **how):
        with Checkpointer(tmp_path) as ckpt:
            ckpt.save(1, saved, overwrite=True).wait()
            assert ckpt.resume(target, **how) == 1
            told = ckpt.resumed
            return told.missing, told.unexpected, told.mismatched

    return go


def test_a_new_head_on_an_old_body(resumed):
    old, new = (
        nn.ModuleDict({"body": net()}),
        nn.ModuleDict({"body": net(), "head": nn.Linear(8, 2)}),
    )
    head = new["head"].weight.clone()
    told = resumed({"m": old}, {"m": new}, strict=False)
    assert told == (["m.head.bias", "m.head.weight"], [], [])
    assert_same(new["body"].state_dict(), old["body"].state_dict())
    assert torch.equal(new["head"].weight, head)


def test_a_head_of_another_size(resumed):
    old, new = net(nn.Linear(8, 2)), net(nn.Linear(8, 3))
    head = new[2].weight.clone()
    told = resumed({"m": old}, {"m": new}, strict=False)
    assert told == ([], [], ["m.2.weight", "m.2.bias"])
    assert torch.equal(new[0].weight, old[0].weight) and torch.equal(new[2].weight, head)


def test_the_model_out_of_a_full_checkpoint(resumed):
    a, b = net(), net()
    full = {"m": a, "o": adam(a), "step": 3}
    assert resumed(full, {"m": b}, strict=False) == ([], ["o", "step"], [])
    assert_same(b.state_dict(), a.state_dict())
    c = net()
    assert resumed(full, {"m": c, "step": 0}, names="m") == ([], [], [])
    assert_same(c.state_dict(), a.state_dict())


def test_an_optimizer_that_does_not_fit_stays(resumed):
    old, new = net(), net(nn.Linear(8, 2))
    optimizer = adam(new)
    saved = {"m": old, "o": adam(old)}
    missing, unexpected, mismatched = resumed(saved, {"m": new, "o": optimizer}, strict=False)
    assert (missing, unexpected, mismatched) == (["m.2.bias", "m.2.weight"], [], ["o"])
    assert len(optimizer.param_groups[0]["params"]) == 6
    assert torch.equal(new[0].weight, old[0].weight)


def test_what_has_no_place_or_does_not_fit_is_listed(resumed):
    target = {"w": torch.zeros(2), "v": torch.zeros(3), "new": 1, "cfg": {"lr": 0.5, "more": 1}}
    saved = {"w": torch.ones(2), "v": torch.ones(2), "old": 1, "cfg": {"lr": 0.1, "seed": 7}}
    told = resumed(saved, target, strict=False)
    assert told == (["new", "cfg.more"], ["old"], ["v"])
    want = {"w": torch.ones(2), "v": torch.zeros(3), "new": 1}
    assert_same(target, {**want, "cfg": {"lr": 0.1, "seed": 7, "more": 1}})


def test_names_leave_the_rest_alone(resumed):
    saved = {"a": {"x": torch.ones(2), "y": 1}, "b": [torch.ones(1), torch.ones(1)], "only": 3}
    target = {
        "a": {"x": torch.zeros(2), "y": 0, "here": 1},
        "b": [torch.zeros(1), torch.zeros(1)],
        "other": torch.zeros(1),
    }
    assert resumed(saved, target, names=["a.x", "b.1"]) == ([], [], [])
    want = {"a": {"x": torch.ones(2), "y": 0, "here": 1}, "b": [torch.zeros(1), torch.ones(1)]}
    assert_same(target, {**want, "other": torch.zeros(1)})


def test_names_inside_a_module(resumed):
    old, new = net(nn.Linear(8, 2)), net(nn.Linear(8, 5))
    head = new[2].weight.clone()
    assert resumed({"m": old}, {"m": new}, names=["m.0", "m.1.weight"]) == ([], [], [])
    assert torch.equal(new[0].weight, old[0].weight) and torch.equal(new[2].weight, head)


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        ("nowhere", "not_found", "named 'nowhere'"),
        ("m.nowhere", "not_found", "named 'm.nowhere'"),
        ("o.state", "invalid", "takes its part whole"),
        ("lacking", "invalid", "'lacking' is missing"),
        ("more", "invalid", "'more' is in the checkpoint and not expected"),
        ([], "invalid", "names is empty"),
    ],
)
def test_names_that_cannot_be(names, code, message, resumed):
    a, b = net(), net()
    with pytest.raises(Error, match=message) as e:
        resumed(
            {"m": a, "o": adam(a), "more": 1}, {"m": b, "o": adam(b), "lacking": 1}, names=names
        )
    assert e.value.code == code
    assert not torch.equal(a[0].weight, b[0].weight)


WRAPPERS = {
    "compiled": ("_orig_mod.", lambda m: torch.compile(m, backend="eager")),
    "DDP": ("module.", nn.DataParallel),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_into_a_plain_one_and_back(wrapper, resumed):
    prefix, wrap = WRAPPERS[wrapper]
    a, b = net(), net()
    with pytest.raises(Error) as e:
        resumed({"m": wrap(a)}, {"m": b})
    assert f"rename={{'{prefix}': ''}}" in str(e.value)
    assert resumed({"m": wrap(a)}, {"m": b}, rename={prefix: ""}) == ([], [], [])
    assert_same(b.state_dict(), a.state_dict())
    c = net()
    with pytest.raises(Error) as e:
        resumed({"m": a}, {"m": wrap(c)})
    assert f"rename={{'m.': 'm.{prefix}'}}" in str(e.value)
    resumed({"m": a}, {"m": wrap(c)}, rename={"m.": f"m.{prefix}"})
    assert_same(c.state_dict(), a.state_dict())


def test_a_state_dict_of_a_compiled_model(resumed):
    a, b = net(), net()
    saved, target = torch.compile(a, backend="eager").state_dict(), b.state_dict()
    with pytest.raises(Error, match=r"rename=\{'_orig_mod\.': ''\}"):
        resumed(saved, target)
    resumed(saved, target, rename={"_orig_mod.": ""})
    assert_same(b.state_dict(), a.state_dict())


def test_a_layer_that_was_compiled(resumed):
    a, b = net(), net()
    wrapped = nn.Sequential(torch.compile(a[0], backend="eager"), a[1])
    with pytest.raises(Error, match=r"rename=\{'0._orig_mod\.': '0\.'\}"):
        resumed({"m": wrapped}, {"m": b})
    resumed({"m": wrapped}, {"m": b}, rename={"0._orig_mod.": "0."})
    assert_same(b.state_dict(), a.state_dict())


def test_whole_parts_under_other_names(resumed):
    a, b = net(), net()
    x = torch.randn(8, 4)
    optimizer = adam(a)
    a(x).sum().backward()
    optimizer.step()
    target = {"net": b, "opt": {"first": adam(b)}, "n": 0}
    rename = {"model.": "net.", "optimizer.": "opt.first.", "step": "n"}
    resumed({"model": a, "optimizer": optimizer, "step": 5}, target, rename=rename)
    assert_same(b.state_dict(), a.state_dict())
    assert_same(target["opt"]["first"].state_dict(), optimizer.state_dict())
    assert target["n"] == 5


def test_a_function_renames(resumed):
    a, b = net(), net()
    seen = []

    def rename(path):
        seen.append(path)
        return path.replace("backbone.", "m.")

    resumed({"backbone": a, "n": 1}, {"m": b, "n": 0}, rename=rename)
    assert_same(b.state_dict(), a.state_dict())
    assert "backbone.0.weight" in seen and "n" in seen


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"a": "b"}, "two saved values the path 'b'"),
        (lambda path: path if "l" in path else "x", "two saved values the path 'x'"),
        (lambda path: 5, "what rename gives is 5"),
        ({1: "x"}, "a prefix of rename is 1"),
        ({"a": None}, "becomes is None"),
        ("a", "must be a dict of prefixes or a function"),
        (lambda path: path.replace("l.0", "other"), "items of 'l' apart"),
    ],
)
def test_renames_that_cannot_be(rename, message, resumed):
    target = {"a": torch.zeros(1), "b": torch.zeros(1), "l": [torch.zeros(1)] * 2}
    saved = {"a": torch.ones(1), "b": torch.ones(1), "l": [torch.ones(1), torch.ones(1)]}
    with pytest.raises(Error, match=message) as e:
        resumed(saved, target, rename=rename)
    assert e.value.code == "invalid" and not target["a"].any()


def test_what_a_renaming_function_raises_comes_through(resumed):
    w = torch.zeros(1)
    with pytest.raises(KeyError):
        resumed({"a": torch.ones(1)}, {"a": w}, rename={}.__getitem__)
    assert w == 0


TYPES = ["float64", "float32", "bfloat16", "float16", "int64", "int16", "uint8", "bool"]


@pytest.mark.parametrize("there", [*TYPES, "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("here", TYPES)
def test_conversion_is_that_of_torch(here, there, resumed):
    saved = torch.tensor([0.0, 1.0, 2.0, 3.14159, 100.0, 0.1]).to(getattr(torch, there))
    target = {"t": torch.zeros(6, dtype=getattr(torch, here)), "v": torch.zeros(2, 3).t()}
    target["v"] = target["v"].to(getattr(torch, here))
    resumed({"t": saved, "v": saved.view(3, 2)}, target, convert=True)
    want = torch.zeros(6, dtype=getattr(torch, here)).copy_(saved)
    assert_same(target, {"t": want, "v": want.view(3, 2)})


def test_without_convert_another_type_is_refused_and_the_error_says_what_helps(resumed):
    for target in ({"m": nn.Linear(2, 2).bfloat16()}, {"m": {"w": torch.zeros(2).bfloat16()}}):
        saved = (
            {"m": nn.Linear(2, 2)}
            if isinstance(target["m"], nn.Module)
            else {"m": {"w": torch.ones(2)}}
        )
        with pytest.raises(Error, match="convert=True"):
            resumed(saved, target)
        resumed(saved, target, convert=True)


def test_a_model_and_its_optimizer_in_another_type(resumed):
    a, b = net(), net().bfloat16()
    optimizer = adam(a)
    a(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    target = {"m": b, "o": adam(b)}
    resumed({"m": a, "o": optimizer}, target, convert=True)
    assert_same(b.state_dict(), net_in_bfloat16(a))
    moments = target["o"].state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, optimizer.state_dict()["state"][0]["exp_avg"].bfloat16())


def net_in_bfloat16(model):
    copy = net().bfloat16()
    copy.load_state_dict(model.state_dict())
    return copy.state_dict()


def test_complex_into_real_is_never_converted(resumed):
    with pytest.raises(Error, match="complex64"):
        resumed({"t": torch.ones(2) * 1j}, {"t": torch.zeros(2)}, convert=True)
    assert resumed(
        {"t": torch.ones(2) * 1j}, {"t": torch.zeros(2)}, convert=True, strict=False
    ) == ([], [], ["t"])


def test_a_resume_that_fits_lists_nothing(resumed):
    assert resumed({"m": net(), "n": 1}, {"m": net(), "n": 0}) == ([], [], [])


@pytest.mark.parametrize("source", ["memory", "tape"])
def test_sources(source, resumed):
    with pytest.raises(Error, match="memory"):
        resumed({"n": 1}, {"n": 0}, source=source)
