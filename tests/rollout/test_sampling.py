import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tutelage.base.errors import ConfigError
from tutelage.rollout.sampling import Sampling, draw, kept, uniforms

LOGITS = torch.tensor([1.5, -2.0, 0.3, 0.3, 2.2, -0.7, -np.inf, 1.1])


def kept_by_numpy(p: np.ndarray, top_k: int, top_p: float) -> set[int]:
    """Tokens left by top-k, then top-p, walking down the list one by one; ties to the lower id."""
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))
    if top_k:
        order = order[:top_k]
    if top_p == 1:
        return set(order)
    total, reached, left = sum(float(p[i]) for i in order), 0.0, set()
    for i in order:
        if reached >= top_p * total:
            break
        left.add(i)
        reached += float(p[i])
    return left


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any),
    st.integers(0, 14),
    st.sampled_from([0.05, 0.25, 0.5, 0.9, 0.99, 1.0]),
)
def test_filters_keep_what_a_walk_down_the_list_keeps(weights, top_k, top_p):
    found = kept(torch.tensor([weights], dtype=torch.float32), top_k=top_k, top_p=top_p)[0]
    assert set(found.nonzero().flatten().tolist()) == kept_by_numpy(np.array(weights, dtype=float), top_k, top_p)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 3, 1.0), (1.0, 0, 0.8), (1.0, 4, 0.6)])
def test_draws_follow_the_filtered_distribution(temperature, top_k, top_p):
    n = 20_000
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    u = torch.from_numpy(uniforms(11, range(n), 1)[:, 0])
    tokens, logprobs = draw(LOGITS.expand(n, -1), u, sampling)
    p = np.exp(LOGITS.double().numpy() / temperature)
    p /= p.sum()
    left = sorted(kept_by_numpy(p, top_k, top_p) - {6})
    counts = np.bincount(tokens.numpy(), minlength=len(p))
    assert counts.sum() == counts[left].sum()                       # nothing that was filtered out, nothing impossible
    assert stats.chisquare(counts[left], n * p[left] / p[left].sum()).pvalue > 1e-3
    np.testing.assert_allclose(logprobs, np.log(p[tokens]), rtol=0, atol=1e-6)   # of the distribution before filtering


def test_greedy_takes_the_likeliest_and_reports_its_logprob_at_temperature_1():
    tokens, logprobs = draw(LOGITS[None], torch.tensor([0.999]), Sampling(temperature=0))
    assert tokens.tolist() == [4]
    torch.testing.assert_close(logprobs, LOGITS.double().log_softmax(0)[4:5].float())


@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_interval_never_draw_an_impossible_token(u):
    logits = torch.tensor([[-np.inf, 0.0, 1.0, -np.inf, 0.5, -np.inf]])
    token = draw(logits, torch.tensor([u], dtype=torch.float64), Sampling())[0].item()
    assert token == (1 if u == 0 else 4)


def test_a_number_depends_on_seed_row_and_position_only():
    whole = uniforms(3, [7, 2, 9], 50)
    np.testing.assert_array_equal(uniforms(3, [9], 10)[0], whole[2, :10])
    assert not np.isin(uniforms(4, [7, 2, 9], 50), whole).any()


def test_the_numbers_are_uniform_across_rows_and_uncorrelated_between_them():
    table = uniforms(0, range(4000), 2)
    for column in table.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
        assert stats.pearsonr(column[:-1], column[1:]).pvalue > 1e-3          # neighbouring row ids
    assert stats.pearsonr(*table.T).pvalue > 1e-3                             # neighbouring positions
    assert stats.pearsonr(table[:, 0], uniforms(1, range(4000), 1)[:, 0]).pvalue > 1e-3


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5},
                                   {"max_tokens": 0}, {"seed": -1}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)
