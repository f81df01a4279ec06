"""Generation for one caller: all requests in one batch, each with its own edits, sampling and length.

A reader that stops listening leaves the model as it was. Many callers at once share a `batcher.Batcher`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from monoscope.model.transformer import LanguageModel
from monoscope.steer.request import BoundRequest, Dictionaries, Event, Generation, Request, bind_request
from monoscope.steer.rows import Rows
from monoscope.steer.watching import Watcher


def generate(
    model: LanguageModel,
    dictionary: Dictionaries,
    requests: Sequence[Request],
    *,
    on_token: Callable[[int, int], None] | None = None,
    should_stop: Callable[[int], bool] | None = None,
    watchers: Sequence[Watcher] = (),
) -> list[Generation]:
    """Generate all requests in one batch. `on_token(request, token)` hears each token as it comes.

    Cost    one forward pass for each token of the longest reply; edits add a few vector operations to it.

    Raises
        BadRequest, BadEdit, FeatureNotFound  as `bind_request` says, before anything runs.
        SiteNotFound  a watcher reads where the model has no such site.
    """
    done: dict[int, Generation] = {}
    for event in stream(model, dictionary, requests, should_stop=should_stop, watchers=watchers):
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
    watchers: Sequence[Watcher] = (),
) -> Iterator[Event]:
    """The same, token by token. Stop iterating to cancel everything; `should_stop(request)` cancels one.

    Refusals are raised by the call itself. The last event of a request has no token, what text was left, and the
    generation.
    """
    bound = [bind_request(model, dictionary, request) for request in requests]
    return _stream(Rows(model, watchers), bound, should_stop)


def _stream(rows: Rows, requests: Sequence[BoundRequest], should_stop: Callable[[int], bool] | None) -> Iterator[Event]:
    with contextlib.closing(rows):
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
