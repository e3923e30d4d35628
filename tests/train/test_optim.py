import math

import pytest
import torch
from torch import nn

from tutelage.base.errors import AuditError, ConfigError
from tutelage.train.batches import rows_of_step
from tutelage.train.optim import build_optimizer, clip_and_step, lr_factor, set_lr
from tutelage.train.sections import Budget, OptimSection

TOTAL = 100


def curve(**settings) -> list[float]:
    optim = OptimSection(**settings)
    return [lr_factor(step, TOTAL, optim) for step in range(TOTAL)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_the_warm_up_climbs_by_equal_steps_to_the_peak_and_wastes_none(schedule):
    shape = curve(schedule=schedule, warmup_frac=0.1)
    assert shape[:10] == pytest.approx([k / 10 for k in range(1, 11)]) and max(shape) == pytest.approx(1.0)


def test_cosine_is_halfway_at_half_time_and_falls_to_the_floor():
    shape = curve(schedule="cosine", warmup_frac=0.0, min_lr_frac=0.1)
    assert shape[50] == pytest.approx(0.55) and shape[25] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert 0.1 <= shape[-1] < 0.101 and all(a > b for a, b in zip(shape, shape[1:], strict=False))


def test_linear_falls_by_equal_steps_and_reaches_its_floor_one_step_after_the_last():
    shape = curve(schedule="linear", warmup_frac=0.0, min_lr_frac=0.0)
    assert shape == pytest.approx([1 - k / 100 for k in range(100)])


def test_wsd_holds_the_peak_until_the_last_share_and_then_falls():
    shape = curve(schedule="wsd", warmup_frac=0.1, decay_frac=0.2, min_lr_frac=0.1)
    assert shape[9:81] == [1.0] * 72 and shape[90] == pytest.approx(0.55) and shape[99] == pytest.approx(0.1 + 0.9 / 20)


def test_constant_stays():
    assert set(curve(schedule="constant", warmup_frac=0.0)) == {1.0}


class TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(4, 3), nn.LayerNorm(3), nn.Linear(3, 4)
        self.out.weight = self.embed.weight                          # tied


def test_only_matrices_are_decayed():
    model = TwoParts()
    optimizer = build_optimizer([(model, 1e-2)], OptimSection(weight_decay=0.1))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model.embed.weight)}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}


def test_a_tensor_shared_by_two_modules_is_listed_once_under_the_first():
    first, second = TwoParts(), TwoParts()
    second.embed.weight = second.out.weight = first.embed.weight
    optimizer = build_optimizer([(first, 1e-2), (second, 1e-3)], OptimSection())
    listed = [(id(p), g["peak_lr"]) for g in optimizer.param_groups for p in g["params"]]
    assert len({i for i, _ in listed}) == len(listed) and (id(first.embed.weight), 1e-2) in listed


def test_the_schedule_scales_each_group_from_its_own_peak():
    optimizer = build_optimizer([(nn.Linear(2, 2), 1e-2), (nn.Linear(2, 2), 1e-4)], OptimSection())
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.25)                                          # not compounding
    assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([2.5e-5, 2.5e-3])


class Recording(torch.optim.SGD):
    """The gradients that reached the optimizer."""

    def step(self, closure=None):
        self.seen = torch.cat([p.grad.flatten().clone() for g in self.param_groups for p in g["params"]])
        return super().step(closure)


def two_layers() -> tuple[list[nn.Linear], Recording]:
    modules = [nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False)]
    for module, size in zip(modules, (30.0, 0.5), strict=True):
        module.weight.grad = torch.full_like(module.weight, size / math.sqrt(module.weight.numel()))      # norm = size
    return modules, Recording([p for m in modules for p in m.parameters()], lr=1.0)


def test_the_gradient_that_reaches_the_optimizer_is_clipped_per_module_and_the_norm_before_is_told():
    # Peer bug 8: a max_grad_norm that is never read. Adam hides it, since its step does not depend on the gradient's size.
    modules, optimizer = two_layers()
    assert clip_and_step(optimizer, modules, 1.0) == pytest.approx([30.0, 0.5])
    assert optimizer.seen[:6].norm() == pytest.approx(1.0, rel=1e-5) and optimizer.seen[6:].norm() == pytest.approx(0.5)
    assert all(m.weight.grad is None for m in modules)


def test_a_tiny_max_grad_norm_moves_nothing_under_sgd():
    modules, optimizer = two_layers()
    before = modules[0].weight.detach().clone()
    clip_and_step(optimizer, modules, 1e-9)
    assert (modules[0].weight - before).norm() <= 1e-9 + 1e-8 * before.norm()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused_and_no_weight_moves(bad):
    modules, optimizer = two_layers()
    modules[1].weight.grad[0, 0] = bad
    before = [m.weight.detach().clone() for m in modules]
    with pytest.raises(AuditError, match="no step was taken"):
        clip_and_step(optimizer, modules, 1.0)
    assert all(torch.equal(m.weight, b) for m, b in zip(modules, before, strict=True)) and modules[1].weight.grad is None


def test_the_advice_on_a_broken_gradient_names_no_saved_batch_because_there_is_none():
    modules, optimizer = two_layers()
    modules[1].weight.grad[0, 0] = float("nan")
    with pytest.raises(AuditError) as caught:
        clip_and_step(optimizer, modules, 1.0)
    assert "learning_rate" in caught.value.hint and "batch" not in caught.value.hint


def test_each_epoch_shows_every_row_at_most_once_in_a_new_order():
    epochs = [[rows_of_step(step, 10, 3, seed=4) for step in range(e * 3, e * 3 + 3)] for e in range(2)]
    for steps in epochs:
        assert all(len(rows) == 3 for rows in steps) and len({int(i) for rows in steps for i in rows}) == 9
    assert epochs[0][0].tolist() != epochs[1][0].tolist()
    assert rows_of_step(5, 10, 3, seed=4).tolist() == epochs[1][2].tolist()          # a function of the step alone
    assert sorted(rows_of_step(7, 4, 32, seed=0).tolist()) == [0, 1, 2, 3]           # fewer rows than a batch: all of them


def test_a_budget_counts_whole_batches_and_takes_exactly_one_limit():
    assert Budget(epochs=2).steps(100, 32) == 6 and Budget(epochs=0.5).steps(100, 10) == 5 and Budget(max_steps=7).steps(100, 32) == 7
    assert Budget(epochs=0.01).steps(40, 32) == 1
    with pytest.raises(ConfigError, match="train.batch_size=32 is more than the 3 rows"):
        Budget(epochs=1).steps(3, 32)
    for wrong in ({}, {"epochs": 1, "max_steps": 1}):
        with pytest.raises(ValueError, match="exactly one of max_steps and epochs"):
            Budget(**wrong)
