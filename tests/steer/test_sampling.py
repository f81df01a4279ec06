import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from monoscope.core.errors import BadRequest
from monoscope.steer.sampling import Sampler, Sampling

CPU = torch.device("cpu")


def reference(logits, prompt, settings):
    """The distribution after Hugging Face's own processors."""
    ids = torch.tensor([prompt])
    scores = RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)(ids, logits[None].clone())
    scores = TemperatureLogitsWarper(settings.temperature)(ids, scores)
    return TopPLogitsWarper(settings.top_p)(ids, scores)[0].softmax(-1)


@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("vocab", [12, 600])
def test_draws_follow_the_distribution_of_the_same_processors(top_p, vocab):
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(1)) * (2.0 if vocab == 12 else 0.3)
    rows = 6_000
    prompt = [0, 3, 3, 5]
    settings = [Sampling(0.8, top_p, 1.3, seed) for seed in range(rows)]
    sampler = Sampler(settings, [prompt] * rows, vocab, CPU)
    tokens, sound = sampler.draw(logits.expand(rows, -1))
    wanted = reference(logits, prompt, settings[0])
    share = torch.bincount(tokens, minlength=vocab) / rows
    assert sound.all()
    assert not share[wanted == 0].any()
    # Pearson's statistic has as many degrees of freedom as there are tokens beyond one; five deviations are allowed.
    kept = wanted > 0
    statistic = float((rows * (share - wanted)[kept] ** 2 / wanted[kept]).sum())
    freedom = max(1, int(kept.sum()) - 1)
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_a_row_does_not_depend_on_the_others():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    settings = [Sampling(0.7, 0.9, 1.1, 5), Sampling(0.0), Sampling(2.0, 1.0, 1.0, 6)]
    together = Sampler(settings, [[1], [2], [3]], 50, CPU)
    alone = [Sampler([settings[row]], [[row + 1]], 50, CPU) for row in range(3)]
    for _ in range(20):
        tokens = together.draw(logits)[0].tolist()
        assert tokens == [int(sampler.draw(logits[row : row + 1])[0]) for row, sampler in enumerate(alone)]
    together.arrange([0, 2])
    tokens = together.draw(logits[[0, 2]])[0].tolist()
    assert tokens == [int(alone[row].draw(logits[row : row + 1])[0]) for row in (0, 2)]


def test_the_last_bits_of_equal_logits_decide_nothing():
    logits = torch.zeros(1, 600)
    logits[0, 40:60] = 8.0
    noise = torch.randn(40, 600, generator=torch.Generator().manual_seed(3)) * 1e-7
    for seed in range(20):
        settings = [Sampling(1.0, 0.9, 1.0, seed)] * 40
        tokens = Sampler(settings, [[0]] * 40, 600, CPU).draw(logits + noise * logits)[0]
        assert len(set(tokens.tolist())) == 1
        assert 40 <= int(tokens[0]) < 60


def test_ties_beyond_the_candidates_are_kept():
    rows = 4_000
    settings = [Sampling(1.0, 0.3, 1.0, seed) for seed in range(rows)]
    tokens = Sampler(settings, [[0]] * rows, 600, CPU).draw(torch.zeros(rows, 600))[0]
    counts = torch.bincount(tokens, minlength=600).float()
    assert float(((counts - rows / 600) ** 2 / (rows / 600)).sum()) < 599 + 5 * (2 * 599) ** 0.5


def test_extremes():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    for settings in (Sampling(0.0), Sampling(1e-30, 1.0, 1.0), Sampling(1.0, 0.0, 1.0)):
        assert int(Sampler([settings], [[0]], 3, CPU).draw(logits)[0]) == 1
    token, sound = Sampler([Sampling()], [[0]], 3, CPU).draw(torch.full((1, 3), torch.nan))
    assert (int(token), bool(sound)) == (0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": 1e308},
        {"top_p": 1.5},
        {"repetition_penalty": 0.0},
        {"temperature": "hot"},
        {"seed": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(BadRequest):
        Sampling(**wrong)
