"""Choosing a token: the distribution that the parameters say, at any size of vocabulary."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from server.engine.candidates import Finder, best_of
from server.engine.constraint import Mask
from server.engine.protocol import Sampling
from server.engine.sampling import Picker, Sampler, Turn

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))


def draw(sampling: Sampling, logits: np.ndarray = LOGITS, times: int = 2000) -> dict[int, float]:
    """Shares of the tokens drawn."""
    sampler = Sampler(sampling)
    counts = Counter(sampler.pick(logits.copy()) for _ in range(times))
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


def shares_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The softmax."""
    exponents = np.exp((logits - logits.max()) / temperature)
    return exponents / exponents.sum()


def expect(sampling: Sampling, logits: np.ndarray, times: int = 6000) -> None:
    """The sampler draws as the softmax of these logits says: each within five deviations."""
    shares = draw(sampling, times=times)
    for token, share in enumerate(shares_of(logits)):
        deviation = np.sqrt(share * (1 - share) / times)
        assert shares.get(token, 0) == pytest.approx(share, abs=5 * deviation + 1e-9)


def test_a_bias_is_added_to_its_tokens_logit() -> None:
    """The others keep their proportions; minus a hundred is a ban, plus a hundred a must."""
    expect(Sampling(logit_bias=((0, -1.0), (3, 0.7)), seed=1), LOGITS + np.array([-1.0, 0, 0, 0.7]))
    assert draw(Sampling(logit_bias=((0, -100.0),), seed=1)).keys() == {1, 2, 3}
    assert draw(Sampling(logit_bias=((3, 100.0),), seed=1)).keys() == {3}


def penalised(sampling: Sampling, said: list[int], prompt: list[int] | None = None) -> np.ndarray:
    """The logits that a sampler draws from once it has said these, seen by their order alone."""
    sampler = Sampler(sampling, prompt or [])
    for token in said:
        forced = np.full(4, -np.inf, np.float32)
        forced[token] = 100.0
        assert sampler.pick(forced) == token
    logits = LOGITS.copy()
    sampler.pick(logits)  # shaped in place
    return logits


def test_presence_and_frequency_count_what_was_said() -> None:
    """Once for being there, and once for each time; the prompt does not count."""
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25, seed=1)
    logits = penalised(sampling, [1, 1, 2], prompt=[0, 0, 0])
    assert logits == pytest.approx(LOGITS - np.array([0, 1.0, 0.75, 0]))


def test_repetition_counts_the_prompt_too() -> None:
    """Positive logits are divided by it, negative ones multiplied: both become less likely."""
    sampler = Sampler(Sampling(repetition_penalty=2.0, seed=1), [0, 1, 1])
    logits = np.array([4.0, -4.0, 3.0, -3.0], np.float32)
    sampler.pick(logits)
    assert logits.tolist() == [2.0, -8.0, 3.0, -3.0]


def test_a_negative_penalty_encourages() -> None:
    """As OpenAI allows."""
    logits = penalised(Sampling(frequency_penalty=-1.0, seed=1), [3, 3])
    assert logits == pytest.approx(LOGITS + np.array([0, 0, 0, 2.0]))


def test_penalties_hold_for_many_different_tokens() -> None:
    """The account of what was said grows with it."""
    size = 500
    sampler = Sampler(Sampling(temperature=0, presence_penalty=1000.0))
    said = [sampler.pick(np.arange(size, dtype=np.float32)) for _ in range(size)]
    assert said == list(range(size - 1, -1, -1))


@pytest.mark.parametrize("seed", [0, 7, -7, -(2**63), 2**63 - 1])
def test_a_seed_decides_what_is_drawn(seed: int) -> None:
    """Any that OpenAI takes: the same one the same, another one something else."""

    def drawn(seed: int) -> list[int]:
        sampler = Sampler(Sampling(seed=seed))
        return [sampler.pick(LOGITS.copy()) for _ in range(50)]

    assert drawn(seed) == drawn(seed)
    assert drawn(seed) != drawn(seed // 2 + 1)


def test_min_p_is_measured_against_the_best() -> None:
    """What it leaves keeps its proportions; the best always stays."""
    expect(Sampling(min_p=0.25, seed=1), LOGITS + np.array([0, 0, 0, -np.inf]))
    assert draw(Sampling(min_p=1.0, seed=1)).keys() == {0}


def test_temperature_comes_after_the_cuts() -> None:
    """What top_p and min_p leave does not depend on it."""
    for temperature in (0.2, 5.0):
        sampling = Sampling(temperature=temperature, top_p=0.7, seed=1)
        assert draw(sampling, times=3000).keys() == {0, 1}


SPECIAL = [0.0, -1.5, 3.25, -np.inf, -np.inf]


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 1000, 1024, 5119, 5121, 6000, 32_003])
@pytest.mark.parametrize("count", [1, 2, 39, 40, 45, 1000])
@pytest.mark.parametrize("kind", ["normal", "ties", "flat", "few", "descending", "end"])
def test_the_best_are_those_that_sorting_finds(size: int, count: int, kind: str) -> None:
    """At any width, with ties, and where most tokens are impossible; others may be found, too."""
    random = np.random.default_rng(size + count)
    logits = random.normal(0, 3, size).astype(np.float32)
    if kind == "ties":
        logits = random.choice(SPECIAL, size).astype(np.float32)
    elif kind == "flat":
        logits = np.full(size, 1.5, np.float32)
    elif kind == "few":
        logits[random.random(size) < 0.99] = -np.inf
    elif kind == "descending":
        logits = -np.sort(-logits)
    elif kind == "end":
        logits[:-5] = -np.inf
    found = best_of(logits, count)
    possible = np.sort(logits[logits > -np.inf])[::-1][:count]
    assert len(set(found.tolist())) == len(found)
    held = np.sort(logits[found])[::-1][:count]
    assert np.array_equal(held[held > -np.inf], possible)


def test_a_row_with_a_few_broken_numbers_is_still_drawn_from() -> None:
    """Not a number, and infinity: some token comes of it, and nothing warns or raises."""
    random = np.random.default_rng(5)
    for broken in (np.nan, np.inf):
        for count in (1, 40, 0):
            for size in (100, 9000):
                logits = random.normal(0, 1, size).astype(np.float32)
                logits[random.integers(0, size, 3)] = broken
                assert 0 <= Sampler(Sampling(top_k=count, seed=1)).pick(logits) < size


def any_sampling(dice: random.Random, size: int) -> Sampling:
    """One of all that can be asked for."""
    return Sampling(
        temperature=dice.choice([0, 0.2, 1.0, 1.0, 2.0]),
        top_p=dice.choice([0, 0.5, 0.95, 1.0, 1.0]),
        top_k=dice.choice([0, 1, 5, 40, 40, 100, 1000]),
        min_p=dice.choice([0, 0, 0.05, 1.0]),
        seed=dice.randrange(1 << 60),
        presence_penalty=dice.choice([0, 0, 0.5]),
        repetition_penalty=dice.choice([1, 1, 1.3]),
        logit_bias=dice.choice([(), ((1, 3.0), (size - 1, -100.0))]),
    )


def any_rows(dice: random.Random, count: int, size: int) -> np.ndarray:
    """Logits as models give them, with ties, and as broken ones give them."""
    numbers = np.random.default_rng(dice.randrange(1 << 60))
    logits = numbers.normal(0, dice.choice([0.1, 2, 8]), (count, size)).astype(np.float32)
    for row in logits:
        match dice.randrange(8):
            case 0:
                row[numbers.random(size) < 0.99] = -np.inf
            case 1:
                row[numbers.random(size) < 0.01] = dice.choice([np.nan, np.inf])
            case 2:
                row[:] = dice.choice([0, np.nan, -np.inf])
            case 3:
                row[:] = row.round()
    return logits


def any_mask(dice: random.Random, size: int) -> Mask | None:
    """Of few, some or nearly all tokens; at least one."""
    share = dice.choice([None, None, 0, 0.5, 0.999, 1])
    if share is None:
        return None
    bits = np.zeros((size + 31) // 32 * 32, np.bool_)
    bits[:size] = np.random.default_rng(dice.randrange(1 << 60)).random(size) < share
    bits[dice.randrange(size)] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_drawn_does_not_depend_on_the_rows_beside_it(seed: int, threads: int) -> None:
    """The same seeds draw the same tokens together and one by one, whatever is asked of each."""
    dice = random.Random(seed)
    size, rows = dice.choice([2, 6001, 10_000, 32_003, 64_000]), dice.choice([5, 8, 17, 40])
    samplings = [any_sampling(dice, size) for _ in range(rows)]
    if seed % 3 == 0:  # as is usual: all the same
        samplings = [Sampling(top_p=0.95, temperature=0.8, seed=number) for number in range(rows)]
    together, alone = ([Sampler(each, [0, 1]) for each in samplings] for _ in range(2))
    picker = Picker(threads)
    for _ in range(4):
        logits = any_rows(dice, rows, size)
        masks = [any_mask(dice, size) for _ in range(rows)]
        turns = [row for row in range(rows) if dice.random() < 0.9]  # a grammar may give up
        expected = [alone[row].pick(logits[row].copy(), masks[row]) for row in turns]
        drawn = picker.pick(logits, [Turn(row, together[row], masks[row]) for row in turns])
        assert drawn == expected


def test_greedy_rows_take_the_first_of_the_best_together_too() -> None:
    """As alone; the logits that they are given are not looked at beyond their own row."""
    logits = np.zeros((9, 1000), np.float32)
    for row in range(9):
        logits[row, [30 * row + 1, 30 * row + 7]] = 1.0
    turns = [Turn(row, Sampler(Sampling(temperature=0))) for row in range(9)]
    assert Picker(2).pick(logits, turns) == [30 * row + 1 for row in range(9)]


@pytest.mark.parametrize("temperature", [0, 1])
def test_what_a_mask_allows_is_chosen_though_it_is_impossible(temperature: float) -> None:
    """A model that finds all of it impossible says something that is allowed."""
    logits = np.zeros(20_000, np.float32)
    bits = np.zeros(20_000, np.bool_)
    bits[100:15_000] = True
    logits[bits] = -np.inf
    mask = np.packbits(bits, bitorder="little").view(np.uint32)
    assert bits[Sampler(Sampling(temperature=temperature)).pick(logits, mask)]


def test_a_row_of_equals_is_not_read_together_with_others() -> None:
    """All of it would be a candidate, and a list as long for every other row, too."""
    logits = np.random.default_rng(1).normal(0, 2, (8, 20_000)).astype(np.float32)
    logits[3] = 0.5
    found = Finder().best(logits, [40] * 8)
    assert set(found.rows) == {0, 1, 2, 4, 5, 6, 7}
    samplers = [[Sampler(Sampling(seed=row)) for row in range(8)] for _ in range(2)]
    expected = [each.pick(row) for each, row in zip(samplers[0], logits.copy(), strict=True)]
    turns = [Turn(row, each) for row, each in enumerate(samplers[1])]
    assert Picker().pick(logits, turns) == expected
