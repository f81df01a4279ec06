from dataclasses import replace

from monoscope.steer.batcher import Batcher
from monoscope.steer.engine import generate
from steer.streams import TIE, answers, excused, forced, gap, requests_of

STREAMS = 40


def test_many_streams_with_an_edit_each_answer_as_they_do_alone(model, dictionary):
    requests = requests_of(model, dictionary, STREAMS, tokens=6)
    batcher = Batcher(model, most_rows=12)
    try:
        together = answers(batcher, dictionary, requests)
        alone = [generate(model, dictionary, [request])[0] for request in requests]
        ties = sum(excused(*pair) for pair in zip(together, alone, strict=True))
        assert ties <= STREAMS // 100

        again = [forced(request, reply) for request, reply in zip(requests, alone, strict=True)]
        scored = answers(batcher, dictionary, again)
    finally:
        batcher.close()
    gaps = [gap(mine, generate(model, dictionary, [each])[0]) for mine, each in zip(scored, again, strict=True)]
    assert max(gaps) <= TIE


def test_the_edits_of_the_streams_matter(model, dictionary):
    """What the test above compares would be worth little if every edit left the reply as it is."""
    requests = requests_of(model, dictionary, STREAMS, tokens=6)
    plain = generate(model, dictionary, [replace(each, edits=()) for each in requests])
    edited = generate(model, dictionary, requests)
    assert sum(mine.ids != other.ids for mine, other in zip(edited, plain, strict=True)) >= STREAMS // 4
