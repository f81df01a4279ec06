"""The words a feature speaks for, chosen one by one: each adds firing windows to those that the words before it found.

What is maximised is the share of firing windows with one of the words, less the share of silent ones. Only words that
the feature itself peaks on are taken, mostly where they occur, so that the list says what it fires on and not what is
near.
"""

import numpy as np

from monoscope.atlas.candidates import Corpus, Rule, Test, form_of_each
from monoscope.atlas.sample import Sample
from monoscope.atlas.trials import Trial
from monoscope.atlas.trying import Tried

_MOST_WORDS, _LEAST_GAIN, _LEAST_WINDOWS, _LEAST_PEAKED = 8, 0.01, 2, 0.4


def chosen_words(corpus: Corpus, tried: Tried, sample: Sample, trial: Trial) -> list[Rule]:
    """One rule, or none where no word tells firing windows from silent ones; `tried` are the windows of the trial."""
    words = corpus.words
    word = words.of_token[sample.token[trial.peak]]
    known, peaked = np.unique(words.stem[word], return_counts=True)
    table = _table(tried.tokens("stem"), known, len(words.stems))
    firing, silent = table[: len(trial.firing)], table[len(trial.firing) :]
    seen = firing.sum(0)
    usable = (seen >= _LEAST_WINDOWS) & (peaked >= _LEAST_WINDOWS) & (peaked >= _LEAST_PEAKED * seen)
    chosen = _greedy(firing, silent, trial.weight, usable)
    if not chosen:
        return []
    stems = known[chosen].tolist()
    share = float(words.stem_share[stems].sum())
    text = ", ".join(form_of_each(words, word, trial.weight, stems))
    holds = np.zeros(0, bool)
    return [Rule("words", text, holds, share, Test("stem", tuple(stems)))]


def _table(stems: np.ndarray, known: np.ndarray, n_stems: int) -> np.ndarray:
    """Which of the known stems occur in each window: [windows, known]."""
    place = np.full(n_stems, len(known), np.int32)
    place[known] = np.arange(len(known))
    found = np.zeros((len(stems), len(known) + 1), bool)
    np.put_along_axis(found, place[stems], True, axis=1)
    return found[:, :-1]


def _greedy(firing: np.ndarray, silent: np.ndarray, weight: np.ndarray, usable: np.ndarray) -> list[int]:
    gains, losses = firing * weight[:, None], silent / max(1, len(silent))
    chosen: list[int] = []
    while len(chosen) < _MOST_WORDS and usable.any():
        gain = np.where(usable, gains.sum(0) - losses.sum(0), -1.0)
        best = int(gain.argmax())
        if gain[best] < _LEAST_GAIN:
            break
        chosen.append(best)
        usable[best] = False
        gains[firing[:, best]] = 0
        losses[silent[:, best]] = 0
        usable &= ((gains > 0).sum(0)) >= _LEAST_WINDOWS
    return chosen
