"""The toy model with a dictionary made by hand: its decoder rows are the planted directions."""

import pytest
import torch

from monoscope.core.site import Site
from monoscope.core.toy_text import toy_texts
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.relu import ReluDictionary
from monoscope.model.chat import render_plain
from monoscope.model.sinks import sink_limit
from monoscope.model.toy import planted_directions
from monoscope.model.transformer import LanguageModel, load_model

SITE = Site(2)


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return load_model("toy")


@pytest.fixture(scope="session")
def concepts(model: LanguageModel) -> list[str]:
    return planted_directions(model, SITE)[0]


@pytest.fixture(scope="session")
def dictionary(model: LanguageModel) -> Dictionary:
    """Reads each planted direction alone: encoder columns are the pseudo-inverse, so a unit push reads as 1."""
    directions = planted_directions(model, SITE)[1]
    rows = []
    for _, text in toy_texts(0, 12):
        rows.append(model.residual(torch.tensor([render_plain(model, text).ids]), SITE)[0, 1:])
    x = torch.cat(rows)
    limit = sink_limit(x.norm(dim=-1))
    x = x[x.norm(dim=-1) <= limit]
    encoder = torch.linalg.pinv(directions)
    codes = (x @ encoder).relu()
    stats = Stats(
        max=codes.amax(0),
        p999=codes.quantile(0.999, dim=0),
        density=(codes > 0).float().mean(0),
        mean_vector=x.mean(0),
        tokens=len(x),
        mean_norm=float(x.norm(dim=-1).mean()),
        sink_limit=limit,
    )
    weights = Weights(encoder, torch.zeros(len(directions)), directions, torch.zeros(model.d_model))
    return ReluDictionary(weights, site=SITE, name="planted", stats=stats, settings={})


@pytest.fixture(scope="session")
def prompts(model: LanguageModel) -> list[tuple[int, ...]]:
    texts = ["The fox sees the bridge near London.", "A", "Tell me a story about the sea and the moon. The ship"]
    return [render_plain(model, text).ids for text in texts]
