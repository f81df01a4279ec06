import itertools
import threading

import pytest
import torch

from monoscope.core.errors import BadEdit, BadRequest, FeatureNotFound, SiteNotFound
from monoscope.core.site import Site
from monoscope.dictionary.relu import ReluDictionary
from monoscope.model.transformer import load_model
from monoscope.steer import sampling
from monoscope.steer.apply import apply_edits, plan_site
from monoscope.steer.engine import generate, stream
from monoscope.steer.pieces import text_of
from monoscope.steer.request import Request
from monoscope.steer.resolve import Push, push_at, resolve_all
from steer.watchers import Scripted

NEVER = frozenset()


def greedy(prompt, *edits, max_tokens=12, **settings):
    return Request(prompt, edits, temperature=0.0, max_tokens=max_tokens, stop_ids=NEVER, **settings)


def test_greedy_text_is_that_of_the_library(model, prompts):
    found = generate(model, None, [Request(prompt, temperature=0.0, max_tokens=20) for prompt in prompts])
    for prompt, each in zip(prompts, found, strict=True):
        ids = model.module.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            repetition_penalty=1.1,
            max_new_tokens=20,
        )[0, len(prompt) :].tolist()
        if each.finish_reason == "stop":
            assert ids.pop() in model.stop_ids
        assert list(each.ids) == ids
        assert len(ids) > 1


def naive(model, dictionary, prompt, edits, tokens):
    """The slow twin: no cache, no padding, the whole text again for each token, always with the same edits."""
    moves = resolve_all(edits, dictionary)
    plan = plan_site(dictionary.site, [moves], [len(prompt)], torch.device("cpu")) if moves else None
    ids, rows, applied = list(prompt), [], None

    def change(x):
        nonlocal applied
        applied = apply_edits(x, torch.arange(x.shape[1])[None], plan)
        return applied.after

    for _ in range(tokens):
        site = dictionary.site if plan else None
        logits = model.logits(torch.tensor([ids]), site=site, change=change if plan else None)[0, -1]
        rows.append(logits)
        seen = torch.tensor(sorted(set(ids)))
        scores = logits.clone()
        scores[seen] = torch.where(scores[seen] < 0, scores[seen] * 1.1, scores[seen] / 1.1)
        ids.append(int(scores.argmax()))
    return ids[len(prompt) :], torch.stack(rows), applied


EDITS = [
    ("12 add 0.5r",),
    ("3 clamp 2x @prompt", "5 ablate @generated"),
    ("0 scale 3 @last",),
    ("22 add 4 @1:2", "22 project-out @generated", "1 add 0.2r if 3 > 0.5"),
    (),
]


def test_the_cached_batch_equals_reading_the_whole_text_again(model, dictionary, prompts, monkeypatch):
    requests = [greedy(prompt, *edits) for prompt, edits in itertools.product((prompts[0], prompts[2]), EDITS)]
    logits = []
    draw = sampling.Sampler.draw

    def listening(self, scores):
        logits.append(scores.clone())
        return draw(self, scores)

    monkeypatch.setattr(sampling.Sampler, "draw", listening)
    found = generate(model, dictionary, requests)
    for row, (request, each) in enumerate(zip(requests, found, strict=True)):
        ids, wanted, applied = naive(model, dictionary, request.prompt_ids, request.edits, request.max_tokens)
        torch.testing.assert_close(torch.stack([step[row] for step in logits]), wanted, rtol=1e-4, atol=1e-4)
        assert list(each.ids) == ids
        for slot, proof in enumerate(each.proof):
            # The twin's last pass fed the prompt and all but the last token: what the engine fed in all.
            places = applied.edited[slot, 0]
            assert proof.positions_edited == int(places.sum())
            if proof.positions_edited:
                before, after = applied.before[0, places], applied.after[0, places]
                feature = torch.tensor([proof.feature])
                assert proof.mean_norm_change == pytest.approx(float((after - before).norm(dim=-1).mean()), abs=1e-3)
                assert proof.realised_activation == pytest.approx(
                    float(dictionary.activations_of(after, feature).mean()), abs=1e-3
                )
                assert proof.mean_activation_before == pytest.approx(
                    float(dictionary.activations_of(before, feature).mean()), abs=1e-3
                )


def test_rows_equal_their_solo_runs(model, dictionary, prompts):
    requests = [
        greedy(prompts[0], "12 add 0.5r"),
        Request(prompts[1], ("3 clamp 5",), seed=4, temperature=1.2, top_p=0.8, max_tokens=9, stop_ids=NEVER),
        greedy(prompts[2], max_tokens=3),
        Request(prompts[2], seed=9, max_tokens=15, stop_ids=NEVER),
        greedy(prompts[1], "2 ablate", repetition_penalty=1.5, max_tokens=5),
    ]
    together = generate(model, dictionary, requests)
    for request, each in zip(requests, together, strict=True):
        alone = generate(model, dictionary, [request])[0]
        assert each.ids == alone.ids
        assert [proof.positions_edited for proof in each.proof] == [proof.positions_edited for proof in alone.proof]
    assert [len(each.ids) for each in together] == [12, 9, 3, 15, 5]


@pytest.mark.parametrize(
    ("scope", "places"),
    [
        # The prompt's tokens are 0 to 8; 0 is the sink. Six tokens are drawn, and the last is never fed.
        ("all", range(1, 14)),
        ("prompt", range(1, 9)),
        ("last", [8]),
        ("generated", range(9, 14)),
        ("2:5", range(2, 5)),
        ("0:1", []),
    ],
)
def test_scopes_edit_exactly_their_positions(model, dictionary, scope, places):
    prompt = tuple(model.encode_text("The fox sees the bridge and the red"))
    prompt = (model.prefix_id, *prompt)
    assert len(prompt) == 9
    other = (model.prefix_id, *prompt[3:])
    above = Scripted(Site(dictionary.site.layer + 1), holds_back=False)
    edit = f"12 add 0.001 @{scope}"
    requests = [greedy(prompt, edit, max_tokens=6), greedy(other, max_tokens=6), greedy(prompt, max_tokens=6)]
    found = generate(model, dictionary, requests, watchers=[above])
    seen = above.x
    assert found[0].ids == found[2].ids
    assert found[0].proof[0].positions_edited == len(places)
    first_changed = min((p for p in range(14) if not torch.equal(seen[0, p], seen[2, p])), default=None)
    assert first_changed == (min(places) if places else None)
    assert found[0].proof[0].mean_norm_change == pytest.approx(0.001 if places else 0.0, rel=1e-2)


def test_what_the_next_block_reads_is_what_the_edit_made(model, dictionary, prompts):
    """The block above gets the edited residual at the edited positions and the plain one elsewhere."""
    got = []
    prompt = prompts[2]
    block = model.blocks[dictionary.site.layer + 1]
    handle = block.register_forward_pre_hook(lambda _, args: got.append(args[0].clone()))
    try:
        generate(model, dictionary, [greedy(prompt, "12 add 7 @2:4", max_tokens=1)])
    finally:
        handle.remove()
    plain = model.residual(torch.tensor([prompt]), dictionary.site)
    difference = got[0] - plain
    wanted = torch.zeros_like(plain)
    wanted[0, 2:4] = 7 * dictionary.W_dec[12]
    torch.testing.assert_close(difference, wanted, rtol=0, atol=1e-4)


def test_clamped_features_read_as_asked(model, dictionary, prompts):
    proof = generate(model, dictionary, [greedy(prompts[0], "12 clamp 6.5 if 12 > 0", "4 ablate", "9 scale 2")])[
        0
    ].proof
    assert proof[0].value == 6.5
    assert proof[0].realised_activation == pytest.approx(6.5, abs=1e-3)
    assert proof[1].realised_activation == pytest.approx(0, abs=1e-3)
    assert proof[2].realised_activation == pytest.approx(2 * proof[2].mean_activation_before, abs=1e-3)
    assert proof[1].positions_edited == len(prompts[0]) - 1 + 11
    assert 0 < proof[0].positions_edited <= proof[1].positions_edited


def test_an_edit_that_never_acts_has_zeros_as_proof(model, dictionary, prompts):
    proof = generate(model, dictionary, [greedy(prompts[0], "12 clamp 6 if 3 > 9999")])[0].proof[0]
    assert (proof.positions_edited, proof.mean_norm_change, proof.realised_activation) == (0, 0.0, 0.0)


def test_a_condition_that_is_never_met_leaves_the_text(model, dictionary, prompts):
    plain = Request(prompts[0], seed=3, max_tokens=20, stop_ids=NEVER)
    gated = Request(prompts[0], ("12 add 2r if 3 > 9999",), seed=3, max_tokens=20, stop_ids=NEVER)
    open_gate = Request(prompts[0], ("12 add 2r if 3 > -1",), seed=3, max_tokens=20, stop_ids=NEVER)
    first, second, third = generate(model, dictionary, [plain, gated, open_gate])
    assert first.ids == second.ids
    assert first.ids != third.ids


def test_edits_at_two_sites(model, dictionary, prompts):
    early = ReluDictionary(dictionary.weights, site=Site(0), name="early", stats=dictionary.stats, settings={})
    shelf = {"planted": dictionary, "early": early}
    found = generate(model, shelf, [greedy(prompts[0], "3 clamp 2", "early/12 add 3"), greedy(prompts[0])])[0]
    assert [proof.edit for proof in found.proof] == ["3 clamp 2", "early/12 add 3"]
    assert found.proof[0].realised_activation == pytest.approx(2, abs=1e-3)
    assert found.proof[1].mean_norm_change == pytest.approx(3, abs=1e-3)


def test_a_push_goes_the_same_way_as_a_feature(model, dictionary, prompts):
    push = push_at(dictionary, dictionary.W_dec[12], 6.0)
    request = greedy(prompts[0], "12 add 6")
    one, two = generate(
        model, None, [greedy(prompts[0], push), greedy(prompts[0], *resolve_all(request.edits, dictionary))]
    )
    assert one.ids == two.ids
    assert one.proof[0].feature is None
    assert one.proof[0].mean_norm_change == pytest.approx(two.proof[0].mean_norm_change)
    gained = one.proof[0].realised_activation - one.proof[0].mean_activation_before
    assert gained == pytest.approx(6, abs=1e-3)


def test_stop_tokens_and_reasons(model, prompts):
    free = generate(model, None, [greedy(prompts[0])])[0]
    assert free.finish_reason == "length"
    stops = frozenset({free.ids[4]})
    first = free.ids.index(free.ids[4])
    stopped = generate(model, None, [Request(prompts[0], temperature=0.0, max_tokens=12, stop_ids=stops)])[0]
    assert stopped.ids == free.ids[:first]
    assert stopped.finish_reason == "stop"


def test_one_request_can_be_cancelled(model, prompts):
    heard = []
    done = generate(
        model,
        None,
        [greedy(prompts[0]), greedy(prompts[1])],
        on_token=lambda request, token: heard.append((request, token)),
        should_stop=lambda request: request == 0 and len([r for r, _ in heard if r == 0]) >= 2,
    )
    assert [each.finish_reason for each in done] == ["cancelled", "length"]
    assert [token for request, token in heard if request == 1] == list(done[1].ids)
    assert len(done[0].ids) in (2, 3)


def test_the_stream_tells_everything_and_leaves_no_hook_when_dropped(model, dictionary, prompts):
    requests = [greedy(prompts[0], "12 add 1r"), greedy(prompts[1], max_tokens=4)]
    events = list(stream(model, dictionary, requests))
    whole = generate(model, dictionary, requests)
    for number, each in enumerate(whole):
        own = [event for event in events if event.request == number]
        assert tuple(event.token for event in own[:-1]) == each.ids
        assert (
            "".join(event.text for event in own) == each.text == text_of(each.ids, model.vocabulary, model.special_ids)
        )
        assert own[-1].done == each
    dropped = stream(model, dictionary, requests)
    next(dropped)
    assert not any(block._forward_hooks for block in model.blocks)
    dropped.close()
    assert not torch.is_inference_mode_enabled()


def test_threads_do_not_see_each_others_edits(model, dictionary, prompts):
    requests = [greedy(prompts[0], f"{feature} add 2r") for feature in (3, 12, 20)] + [greedy(prompts[0])]
    alone = [generate(model, dictionary, [request])[0].ids for request in requests]
    found = {}

    def run(number):
        found[number] = generate(model, dictionary, [requests[number]])[0].ids

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(requests))] == alone


def test_numbers_that_overflow_end_their_row_only(dictionary, prompts):
    half = load_model("toy", dtype="float16")
    push = Push(dictionary.W_dec[3], 1e9, dictionary.site, float("inf"))
    broken, fine = generate(half, None, [greedy(prompts[1], push), greedy(prompts[1], max_tokens=3)])
    assert (broken.finish_reason, broken.ids) == ("numbers", ())
    assert (fine.finish_reason, len(fine.ids)) == ("length", 3)


def test_refusals_come_before_anything_runs(model, dictionary, prompts):
    cases = [
        (Request(()), BadRequest, "empty"),
        (Request(prompts[0], max_tokens=0), BadRequest, "max_tokens"),
        (Request(prompts[0], max_tokens=10**9), BadRequest, "512"),
        (Request((10**6,)), BadRequest, "token id"),
        (Request(prompts[0], temperature=float("inf")), BadRequest, "temperature"),
        (Request(prompts[0], ("1 ablate",) * 65), BadEdit, "65 edits"),
        (Request(prompts[0], ("1 ablate @3:99",)), BadEdit, "past the prompt"),
        (Request(prompts[0], ("99 ablate",)), FeatureNotFound, "0 to 23"),
        (Request(prompts[0], ("1 oblate",)), BadEdit, "oblate"),
    ]
    for request, kind, part in cases:
        with pytest.raises(kind, match=part):
            stream(model, dictionary, [request])
    deep = ReluDictionary(dictionary.weights, site=Site(9), name="deep", stats=dictionary.stats, settings={})
    with pytest.raises(SiteNotFound):
        stream(model, deep, [Request(prompts[0], ("1 ablate",))])
    assert generate(model, dictionary, []) == []
