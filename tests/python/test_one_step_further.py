"""Saved, resumed into objects made anew, and one step further: equal to the run that went on."""

import copy

import pytest
import torch
from same import assert_same
from torch import nn
from torch.optim import lr_scheduler, swa_utils
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from torchdata.stateful_dataloader import StatefulDataLoader

from understudy import Checkpointer


def half(step):
    return 0.5**step


SCHEDULERS = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, mode="triangular2"),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, half),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.5, 1.0, 4),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4], 0.1),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, half),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 6),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.1),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.05, 3),
}


def test_every_scheduler_of_torch_is_here():
    of_torch = {
        name
        for name, kind in vars(lr_scheduler).items()
        if isinstance(kind, type)
        and issubclass(kind, lr_scheduler.LRScheduler)
        and not name.startswith("_")
    }
    assert of_torch - {"LRScheduler"} <= set(SCHEDULERS)


class Training:
    """A small run; two made with different seeds have nothing in common until one is resumed."""

    def __init__(self, seed, wrap=lambda module: module, schedule=None, scaler=None):
        torch.manual_seed(seed)
        self.model = wrap(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.scheduler = schedule and schedule(self.optimizer)
        self.average = swa_utils.AveragedModel(
            self.model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9)
        )
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.data = torch.Generator().manual_seed(seed)
        self.app = {
            "model": self.model,
            "optimizer": self.optimizer,
            "average": self.average,
            "scaler": self.scaler,
            "data": self.data,
        }
        if self.scheduler:
            self.app["scheduler"] = self.scheduler

    def step(self):
        x = torch.randn(16, 4, generator=self.data)
        loss = (self.model(x) - x[:, :2]).square().mean()
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(1.0)  # never better, so that the rate falls
        elif self.scheduler:
            self.scheduler.step()
        self.average.update_parameters(self.model)

    def state(self):
        """As deep a copy as another library makes."""
        parts = {name: part for name, part in self.app.items() if name != "data"}
        state = {name: part.state_dict() for name, part in parts.items()}
        return copy.deepcopy({**state, "data": self.data.get_state()})


def require_one_step_further(tmp_path, **how):
    went_on, resumed = Training(1, **how), Training(2, **how)
    for _ in range(3):
        went_on.step()
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(3, went_on.app).wait()
        assert ckpt.resume(resumed.app) == 3
    assert_same(resumed.state(), went_on.state())
    for run in (went_on, resumed):
        run.step()
    assert_same(resumed.state(), went_on.state())


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*:UserWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name, tmp_path):
    require_one_step_further(tmp_path, schedule=SCHEDULERS[name])


def test_a_gradient_scaler(tmp_path):
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=2) for _ in range(2)]
    went_on, resumed = (Training(i, scaler=scaler) for i, scaler in enumerate(scalers))
    for _ in range(3):
        went_on.step()
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(3, went_on.app).wait()
        ckpt.resume(resumed.app)
    for run in (went_on, resumed):
        run.step()
    assert scalers[0].get_scale() == 2.0**6  # it has grown twice
    assert_same(resumed.state(), went_on.state())


def wrap_first(norm):
    def wrap(module):
        norm(module[0])
        return module

    return wrap


@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
    ],
    ids=lambda norm: norm.__name__,
)
def test_parametrised_modules(norm, tmp_path):
    require_one_step_further(tmp_path, wrap=wrap_first(norm))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_data_loader(workers, tmp_path):
    def make(seed):
        order = torch.Generator().manual_seed(seed)
        return StatefulDataLoader(
            list(range(24)), batch_size=2, shuffle=True, num_workers=workers, generator=order
        )

    went_on, resumed = make(1), make(2)
    batches = iter(went_on)
    for _ in range(5):
        next(batches)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(5, {"loader": went_on}).wait()
        ckpt.resume({"loader": resumed})
    rest = list(batches)
    assert len(rest) == 7
    assert_same(list(resumed), rest)


def test_a_quantised_module_of_torchao(tmp_path):
    def make(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        quantize_(model, Int8WeightOnlyConfig())
        return model

    went_on, resumed = make(1), make(2)
    x = torch.randn(4, 64)
    assert not torch.equal(went_on(x), resumed(x))
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"model": went_on}).wait()
        ckpt.resume({"model": resumed})
    assert torch.equal(went_on(x), resumed(x))
    assert type(resumed[0].weight.data) is type(went_on[0].weight.data)
