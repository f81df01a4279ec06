"""Generation for one caller: all requests in one batch, each with its own edits, sampling and length.

A reader that stops listening leaves the model as it was. Many callers at once share a `batcher.Batcher`.
"""

from collections.abc import Callable, Iterator, Sequence

from monoscope.model.transformer import LanguageModel
from monoscope.steer.request import BoundRequest, Dictionaries, Event, Generation, Request, Watch, bind_request
from monoscope.steer.rows import Rows


def generate(
    model: LanguageModel,
    dictionary: Dictionaries,
    requests: Sequence[Request],
    *,
    on_token: Callable[[int, int], None] | None = None,
    should_stop: Callable[[int], bool] | None = None,
    watch: Watch | None = None,
) -> list[Generation]:
    """Generate all requests in one batch. `on_token(request, token)` hears each token as it comes.

    Cost    one forward pass for each token of the longest reply; edits add a few vector operations to it.

    Raises
        BadRequest, BadEdit, FeatureNotFound  as `bind_request` says, before anything runs.
    """
    done: dict[int, Generation] = {}
    for event in stream(model, dictionary, requests, should_stop=should_stop, watch=watch):
        if event.done is not None:
            done[event.request] = event.done
        elif on_token is not None and event.token is not None:
            on_token(event.request, event.token)
    return [done[number] for number in range(len(requests))]


def stream(
    model: LanguageModel,
    dictionary: Dictionaries,
    requests: Sequence[Request],
    *,
    should_stop: Callable[[int], bool] | None = None,
    watch: Watch | None = None,
) -> Iterator[Event]:
    """The same, token by token. Stop iterating to cancel everything; `should_stop(request)` cancels one.

    Refusals are raised by the call itself. The last event of a request has no token, what text was left, and the
    generation.
    """
    bound = [bind_request(model, dictionary, request) for request in requests]
    return _stream(model, bound, should_stop, watch)


def _stream(
    model: LanguageModel,
    requests: Sequence[BoundRequest],
    should_stop: Callable[[int], bool] | None,
    watch: Watch | None,
) -> Iterator[Event]:
    rows = Rows(model, watch)
    rows.admit(list(enumerate(requests)))
    over: set[int] = set()
    while rows.count:
        for event in rows.step():
            if event.request in over:
                continue
            yield event
            stop = event.done is None and should_stop is not None and should_stop(event.request)
            last = rows.cancel(event.request) if stop else None
            if last is not None:
                over.add(event.request)
                yield last
