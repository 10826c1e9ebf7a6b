"""Subclasses of tensors, wrappers, parameters: their parts, attributes and slots."""

import torch
from staging import (
    STAGERS,
    Pair,
    Plain,
    Slotted,
    SlottedMore,
    both,
    everywhere,
    stager_class,  # noqa: F401
    unlike_original,
)


@unlike_original("a wrapper becomes a tensor over memory that nobody wrote", AssertionError)
def test_a_wrapper_that_says_of_what_it_is_made(Stager):  # rule 9
    stager, a = Stager(), torch.ones(3)
    x = Pair(a, torch.zeros(3))
    x.note = ["n"]
    for n in range(3):
        a.fill_(n)
        y, plain = stager.stage([x, a])
        assert type(y) is Pair and y.size() == x.size() and y.note == ["n"]
        assert y.a is plain and plain.tolist() == [n] * 3 and y.b.tolist() == [0] * 3


@both
def test_slots_of_a_class_and_its_bases(Stager):
    class Text(torch.Tensor):
        __slots__ = "scale"

    class Private(torch.Tensor):
        __slots__ = ("_Private__twice", "__hidden")

        def hide(self, value):
            self.__hidden = value

        def hidden(self):
            return self.__hidden

    class _Under(Private):
        __slots__ = ("__hidden",)

        def hide_more(self, value):
            self.__hidden = value

        def hidden_more(self):
            return self.__hidden

    wrong = []
    make = torch.ones(2).as_subclass
    text, more, private = make(Text), make(SlottedMore), make(_Under)
    text.scale, more.below, more.above = [1], [2], [3]
    private.hide([4])
    private.hide_more([5])
    stager = Stager()
    for x, get, value in [
        (text, lambda y: y.scale, [1]),
        (more, lambda y: y.below, [2]),
        (more, lambda y: y.above, [3]),
        (private, lambda y: y.hidden(), [4]),
        (private, lambda y: y.hidden_more(), [5]),
    ]:
        try:
            y = stager.stage(x)
            right = get(y) == value and get(y) is not get(x)
        except AttributeError:
            right = False
        wrong += [] if right else value
    assert wrong == ([] if Stager is not STAGERS["original"] else [1, 2, 4, 5])


@everywhere
def test_a_slot_that_its_class_always_answers_for(Stager):
    class Answers(Slotted):
        def __getattr__(self, name):
            return None

    x = torch.ones(2).as_subclass(Answers)
    x.below = [1]
    y = Stager().stage(x)
    assert y.below == [1] and y.below is not x.below


@both
def test_subclasses_of_parameters_and_buffers(Stager):
    class Mine(torch.nn.Parameter):
        pass

    state = [Mine(torch.ones(2)), torch.nn.Buffer(torch.ones(2)), torch.ones(2).as_subclass(Plain)]
    staged, model = Stager().stage(state), STAGERS["original"]().stage(state)
    assert [type(y) for y in staged] == [type(y) for y in model]
    assert isinstance(staged[1], torch.nn.Buffer)
    assert all(y.tolist() == [1, 1] for y in staged)


@everywhere
def test_a_subclass_that_hands_its_attributes_on(Stager):
    class Meta(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            y = super().__torch_function__(func, types, args, kwargs or {})
            if isinstance(y, Meta) and args and isinstance(args[0], Meta):
                y.__dict__.update(args[0].__dict__)
            return y

    x = torch.ones(3).as_subclass(Meta)
    x.meta, x.affine = {"history": []}, torch.zeros(2)
    y = Stager().stage({"x": x, "affine": x.affine})
    x.meta["history"].append(1)
    x.affine.fill_(5)
    assert y["x"].meta == {"history": []}
    assert y["x"].affine is y["affine"] and y["affine"].tolist() == [0, 0]


@everywhere
def test_a_subclass_keeps_its_type_and_attributes(Stager):
    x = torch.arange(6.0).as_subclass(Plain)
    x.note = ["a"]
    stager = Stager()
    y = stager.stage({"x": x, "part": x[2:]})
    assert type(y["x"]) is Plain and type(y["part"]) is Plain and y["x"].note == ["a"]
    assert y["part"].data_ptr() == y["x"].data_ptr() + 8
    x.add_(1)
    again = stager.stage(x)
    assert again.data_ptr() == y["x"].data_ptr() and again.tolist() == [1, 2, 3, 4, 5, 6]


@everywhere
def test_attributes_of_tensors(Stager):
    x = torch.ones(2)
    x.items, x.twin, x.me = [1, torch.zeros(2)], torch.arange(3.0), x
    staged = Stager().stage([x, x.twin])
    y = staged[0]
    x.items[1].fill_(5)
    x.items.append(2)
    assert y.items[0] == 1 and y.items[1].tolist() == [0, 0] and len(y.items) == 2
    assert y.twin is staged[1] and y.me is y


@unlike_original("slots of the class alone are copied, not those of its bases", AssertionError)
def test_an_attribute_in_a_slot(Stager):
    class Two(Slotted):
        __slots__ = ("above",)

    x = torch.ones(3).as_subclass(Two)
    x.below, x.above = [1], torch.ones(2)
    y = Stager().stage(x)
    assert type(y) is Two and not hasattr(y, "other")
    assert y.above.tolist() == [1, 1] and y.above is not x.above
    assert getattr(y, "below", None) == [1] and y.below is not x.below
