import pytest
import torch
from torch import nn

from tutelage.base.errors import AuditError
from tutelage.train import audits

NAN = float("nan")


def test_the_first_minibatch_passes_at_ratio_one():
    audits.check_first_minibatch(torch.ones(5) + 1e-5, 1e-9, 0.0)
    audits.check_first_minibatch(torch.ones(0), 0.0, 0.0)


@pytest.mark.parametrize(("ratio", "kl", "clipfrac"), [(1.01, 0, 0), (1, 0.01, 0), (1, -0.01, 0), (1, 0, 0.1), (NAN, 0, 0), (1, NAN, 0),
                                                       (1, 0, NAN)])
def test_the_first_minibatch_goes_red_on_any_difference_and_on_nan(ratio, kl, clipfrac):
    with pytest.raises(AuditError, match="first minibatch"):
        audits.check_first_minibatch(torch.tensor([1.0, ratio]), kl, clipfrac)


def test_stale_rollouts_are_named_by_their_version():
    audits.check_fresh_rollout([3, 3], 3)
    with pytest.raises(AuditError, match=r"weight version \[2\], expected 3"):
        audits.check_fresh_rollout([3, 2, 2], 3)


def squared_error(module: nn.Linear, count_of):
    x = torch.linspace(-1, 1, 10).view(5, 2)
    return lambda rows: module(x[rows]).square().sum() / count_of(x[rows])


def test_a_loss_that_divides_by_the_whole_batch_passes_the_split_and_leaves_no_gradient():
    module = nn.Linear(2, 1)
    audits.check_microbatch_gradients(squared_error(module, lambda rows: 5), [module], 5)
    assert module.weight.grad is None


@pytest.mark.parametrize("fault", [len, lambda rows: NAN], ids=["divides by its micro-batch", "nan"])
def test_the_split_audit_goes_red(fault):
    module = nn.Linear(2, 1)
    with pytest.raises(AuditError, match="two halves"):
        audits.check_microbatch_gradients(squared_error(module, fault), [module], 5)


@pytest.mark.parametrize("after", [1.1, NAN])
def test_the_reload_audit_goes_red(tmp_path, after):
    audits.check_reload(torch.ones(3), torch.ones(3) + 1e-7, tmp_path)
    with pytest.raises(AuditError, match="differ"):
        audits.check_reload(torch.ones(3), torch.tensor([1.0, after, 1.0]), tmp_path)


def test_a_row_that_trains_nothing_is_refused_and_the_others_are_written(tmp_path):
    audits.dump_masks(tmp_path / "masks.txt", [("a ⟦b⟧", 1), ("⟦c⟧", 2)])
    assert (tmp_path / "masks.txt").read_text() == "a ⟦b⟧\n\n⟦c⟧\n"
    with pytest.raises(AuditError, match="row 1 has no trained token"):
        audits.dump_masks(tmp_path / "masks.txt", [("a ⟦b⟧", 1), ("c", 0)])


def test_a_loss_that_is_no_number_is_seen():
    assert audits.check_finite(torch.tensor(1.0)) and not audits.check_finite(torch.tensor(NAN))
    assert not audits.check_finite(torch.tensor(float("inf")))
