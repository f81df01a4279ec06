"""A dictionary of random directions, to see what figures are worth: what it reaches, nobody needs to train for.

Its features fire as often as those of the dictionary it is compared with.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.jumprelu import JumpReluDictionary

MOST, _FEWEST = 512, 32
_SEED = 20_240_521


def random_dictionary(dictionary: Dictionary, x: Float[Tensor, "rows d"]) -> Dictionary:
    """Random unit rows about the mean, each with the threshold at which it fires as often as one of the living
    features.

    `x` are some activations to set the thresholds by.
    """
    count = min(MOST, max(_FEWEST, dictionary.n_latents))
    generator = torch.Generator().manual_seed(_SEED)
    rows = torch.nn.functional.normalize(torch.randn(count, dictionary.d_in, generator=generator), dim=1)
    x, mean = x.float(), dictionary.stats.mean_vector.float()
    density = dictionary.stats.density.float()
    alive = density[density > 0]
    if not len(alive):
        alive = torch.full((1,), 1e-3)
    density = alive[torch.randint(len(alive), (count,), generator=generator)]
    pre = ((x - mean) @ rows.T).sort(dim=0).values
    place = ((1 - density) * len(x)).long().clamp(0, max(0, len(x) - 1))
    threshold = pre[place, torch.arange(count)].clamp(min=1e-4) if len(x) else torch.full((count,), 1e-4)
    largest = pre[-1].clamp(min=1e-3) if len(x) else torch.ones(count)
    stats = Stats(
        max=largest,
        p999=largest,
        density=density,
        mean_vector=mean,
        tokens=len(x),
        mean_norm=dictionary.stats.mean_norm,
        sink_limit=dictionary.stats.sink_limit,
    )
    weights = Weights(rows.T.contiguous(), -(rows @ mean), rows, mean, threshold)
    return JumpReluDictionary(weights, site=dictionary.site, name="random", stats=stats, settings={})
