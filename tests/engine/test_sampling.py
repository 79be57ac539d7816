"""Choosing a token: the distribution that the parameters say, at any size of vocabulary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from server.engine.protocol import Sampling
from server.engine.sampling import Sampler

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))


def draw(sampling: Sampling, logits: np.ndarray = LOGITS, times: int = 2000) -> dict[int, float]:
    """Shares of the tokens drawn."""
    sampler = Sampler(sampling)
    counts = Counter(sampler.pick(logits) for _ in range(times))
    return {token: count / times for token, count in counts.items()}


def test_temperature_zero_is_the_best_token() -> None:
    """Greedy, whatever else is set."""
    assert draw(Sampling(temperature=0, top_p=0.1, seed=1), times=5) == {0: 1.0}


@pytest.mark.parametrize("top_k", [0, 3, 4, 40])
def test_temperature_one_draws_the_models_own_shares(top_k: int) -> None:
    """Only tokens beyond top_k are left out; the others keep their proportions."""
    shares = draw(Sampling(top_k=top_k, seed=1))
    expected = np.array([0.5, 0.25, 0.15, 0.1])
    expected[3 if top_k == 3 else 4 :] = 0
    for token, share in enumerate(expected / expected.sum()):
        assert shares.get(token, 0) == pytest.approx(share, abs=0.04)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    """0.5 and 0.25 reach 0.7; a share that is below the best one's keeps the best."""
    assert draw(Sampling(top_p=0.7, seed=1)).keys() == {0, 1}
    assert draw(Sampling(top_p=0.01, seed=1)).keys() == {0}


def test_min_p_drops_what_is_far_below_the_best() -> None:
    """0.15 is below 0.4 times the best, 0.25 is not."""
    assert draw(Sampling(min_p=0.4, seed=1)).keys() == {0, 1}


def test_a_high_temperature_flattens() -> None:
    """At a very high temperature all are alike."""
    shares = draw(Sampling(temperature=100.0, seed=1))
    assert all(share == pytest.approx(0.25, abs=0.04) for share in shares.values())


def test_a_large_vocabulary_is_cut_to_exactly_its_top_k() -> None:
    """The quick cut finds the same tokens as sorting would, on peaked, wide and flat rows."""
    random = np.random.default_rng(3)
    sampler = Sampler(Sampling(top_k=40, temperature=50.0, seed=1))
    for spread in (0.001, 1.0, 10.0, 200.0):
        logits = random.normal(0, spread, 50_000).astype(np.float32)
        best = set(np.argsort(-logits)[:40].tolist())
        assert {sampler.pick(logits) for _ in range(300)} <= best


def test_logits_that_are_no_numbers_do_not_hang() -> None:
    """A broken model says nonsense; it does not stop the others."""
    broken = np.full(100, np.nan, np.float32)
    assert 0 <= Sampler(Sampling(seed=1)).pick(broken) < 100
    masked = np.full(100, -np.inf, np.float32)
    masked[7] = 1.0
    assert draw(Sampling(seed=1), masked, times=20) == {7: 1.0}
