"""A chat with the toy model: scripted lines through the loop, and the command through a pipe and a terminal."""

import contextlib
import io
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from monoscope.chat_screen import Screen
from monoscope.chatting import COMMANDS, chat
from monoscope.cli import run_command
from monoscope.conversation import Conversation, Manner, begin
from monoscope.core.run import Run
from monoscope.core.site import Site
from monoscope.dictionary.shelf import dictionary_digest
from monoscope.model.chat import render_chat
from monoscope.steer.compare import steered_pair
from monoscope.steer.presets import Preset, load_preset, save_preset

EDIT, OTHER = "3 add 0.6r", "5 ablate @generated"


@pytest.fixture(scope="module")
def folder(toy_trained, tmp_path_factory) -> Path:
    """A run with one dictionary, and all that a chat needs."""
    folder = tmp_path_factory.mktemp("chat") / "run"
    shutil.copytree(toy_trained.folder, folder / "dictionaries" / "toy")
    return folder


@pytest.fixture
def talk(folder, toy, toy_trained) -> Iterator[Conversation]:
    yield Conversation(Run(folder), {"toy": toy_trained.dictionary}, toy, Manner(max_tokens=12))
    shutil.rmtree(folder / "presets", ignore_errors=True)


@dataclass(frozen=True)
class Shown:
    """What a chat wrote: answers on one side, prose on the other."""

    answers: str
    prose: str


def say(talk: Conversation, *lines: str, screen: type[Screen] = Screen, terminal: bool = False) -> Shown:
    answers, prose = io.StringIO(), io.StringIO()
    looks = {"force_terminal": terminal, "color_system": "standard" if terminal else None, "no_color": False}
    consoles = [Console(file=file, width=200, **looks) for file in (answers, prose)]
    chat(talk, lines, screen(*consoles))
    return Shown(answers.getvalue(), prose.getvalue())


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


# --- answers


def test_answers_are_those_of_steer_and_are_remembered(talk, toy, toy_trained):
    shown = say(talk, f"/edit {EDIT}", "The fox sees", "", "  And then? ")
    first, second = talk.turns
    pair = steered_pair(toy, toy_trained.dictionary, [user("The fox sees")], [EDIT], max_tokens=12)
    assert first.generation.text == pair.steered.text != pair.baseline.text
    assert shown.answers == f"{first.generation.text}\n{second.generation.text}\n"
    said = [user("The fox sees"), {"role": "assistant", "content": pair.steered.text}, user("And then?")]
    assert second.request.prompt_ids == render_chat(toy, said, reply_follows=True).ids
    assert second.generation.proof[0].positions_edited > first.generation.proof[0].positions_edited > 0


def test_the_system_message_the_seed_and_the_temperature(talk, toy):
    shown = say(talk, "/system You speak of chemistry.", "/seed 4", "/temperature 0", "Tell me", "/system", "Tell me")
    first, second = (turn.request for turn in talk.turns)
    messages = [{"role": "system", "content": "You speak of chemistry."}, user("Tell me")]
    assert first.prompt_ids == render_chat(toy, messages, reply_follows=True).ids
    assert (first.seed, first.temperature, first.max_tokens) == (4, 0.0, 12)
    assert second.prompt_ids[: len(first.prompt_ids)] != first.prompt_ids
    assert "seed 4" in shown.prose and "temperature 0" in shown.prose


def test_the_same_question_without_edits_is_shown_and_not_kept(talk, toy, toy_trained):
    shown = say(talk, f"/edit {EDIT}", "The fox", "/compare", "/reset", "/plain The fox", "The fox")
    pair = steered_pair(toy, toy_trained.dictionary, [user("The fox")], [EDIT], max_tokens=12)
    steered, plain = pair.steered.text, pair.baseline.text
    assert shown.answers == f"{steered}\n{plain}\n{plain}\n{steered}\n"
    assert [turn.question for turn in talk.turns] == ["The fox"]


def test_a_question_asked_again(talk):
    say(talk, "The sea", "The fox", "/retry")
    assert [turn.question for turn in talk.turns] == ["The sea", "The fox"]
    assert talk.turns[-1].request.seed == talk.manner.seed == 1
    before = talk.turns[-1].request
    say(talk, f"/edit {EDIT}", "/retry")
    after = talk.turns[-1].request
    assert after.prompt_ids == before.prompt_ids and after.seed == before.seed and after.edits


def test_the_oldest_turns_give_way(talk, toy):
    talk.manner = replace(talk.manner, max_tokens=20)
    lines = ["The fox sees the wolf near the sea. " * 14] * 5
    shown = say(talk, *lines)
    assert 1 < len(talk.turns) < 5
    assert "no longer fit" in shown.prose
    assert max(len(turn.request.prompt_ids) for turn in talk.turns) + 20 <= toy.context_limit
    kept = list(talk.turns)
    shown = say(talk, "The fox sees the wolf. " * 200)
    assert "512 in all" in shown.prose and shown.answers == ""
    assert talk.turns == kept


# --- edits


def test_edits_come_and_go_with_their_proof(talk):
    shown = say(talk, "The fox", f"/edit {EDIT}", f"/edit {OTHER}", "The fox", "/edits", "/drop 1", "/clear")
    assert shown.prose.count("not in the last answer") == 3
    assert f"2  {OTHER}:" in shown.prose and "token" in shown.prose and "before and" in shown.prose
    assert f"1  {OTHER}:" in shown.prose
    assert shown.prose.rstrip().splitlines()[-1].startswith("No edit is in force.")
    assert talk.edits == ()


def test_edits_are_kept_as_a_preset_and_taken_again(talk, folder):
    shown = say(talk, "/preset", f"/edit {EDIT}", f"/edit {OTHER}", "/save calm a quiet one", "/clear", "/preset calm")
    assert [str(edit) for edit in talk.edits] == [EDIT, OTHER]
    assert load_preset(folder, "calm").note == "a quiet one"
    assert "none yet" in shown.prose and "2 edits kept as preset calm" in shown.prose
    assert "calm" in say(talk, "/preset").prose


def test_an_edit_may_name_a_further_dictionary(talk, folder, toy_trained):
    shutil.copytree(toy_trained.folder, folder / "dictionaries" / "twin")
    try:
        say(talk, "/edit twin/3 add 0.6r", "The fox", "/edit 3 add 0.6r", "/drop 1", "/reset", "The fox")
        assert list(talk.dictionaries) == ["toy", "twin"]
        assert "one dictionary" in say(talk, "/edit twin/4 ablate", "/save both").prose
    finally:
        shutil.rmtree(folder / "dictionaries" / "twin")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/edit 3 boil 4", "boil"),
        ("/edit 999 ablate", "0 to 95"),
        ("/edit other/3 ablate", "no dictionary named 'other'"),
        ("/edit", "empty"),
        ("/drop 1", "no edit 1"),
        ("/drop one", "/drop 1"),
        ("/preset none", "no preset none"),
        ("/preset ../x", "../x"),
        ("/save calm", "1 to 64 edits"),
        ("/plain", "needs a message"),
        ("/compare", "Nothing was asked"),
        ("/retry", "Nothing was asked"),
        ("/seed x", "/seed 7"),
        ("/temperature -1", "-1"),
        ("/temperature nan", "nan"),
        ("/dance", "/help"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_the_chat_goes_on(line, says, talk):
    shown = say(talk, line, "//slash")
    refusal = [one for one in shown.prose.splitlines() if says in one]
    assert len(refusal) == 1
    assert [turn.question for turn in talk.turns] == ["/slash"]


def test_what_the_engine_refuses_leaves_no_turn(talk, toy):
    shown = say(talk, f"/edit {EDIT} @0:400", "The fox", "/clear", "The fox", "/compare")
    assert "reaches past the prompt" in shown.prose and "made without edits" in shown.prose
    assert len(talk.turns) == 1 and shown.answers == talk.turns[0].generation.text + "\n"
    with toy.changing(Site(3), lambda x: x * float("nan")):
        shown = say(talk, "The sea")
    assert "NaN" in shown.prose and len(talk.turns) == 1


def test_help_names_every_command_and_quit_leaves(talk):
    shown = say(talk, "/help", "/quit", "The fox")
    assert all(command in shown.prose for command in COMMANDS)
    assert talk.turns == []


# --- the screen


class Interrupting(Screen):
    """Somebody presses Ctrl-C at the third piece of an answer, `times` times."""

    times, pieces = 1, 0

    def piece(self, text: str, *, steered: bool) -> None:
        super().piece(text, steered=steered)
        self.pieces += 1
        if self.pieces == 3:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


class Impatient(Interrupting):
    times = 2


@pytest.mark.parametrize(("screen", "proved"), [(Interrupting, 1), (Impatient, 0)])
def test_stopping_an_answer_keeps_what_was_said(screen, proved, talk):
    handler = signal.getsignal(signal.SIGINT)
    shown = say(talk, f"/edit {EDIT}", "The fox", screen=screen)
    generation = talk.turns[0].generation
    assert generation.finish_reason == "cancelled" and "stopped" in shown.prose
    assert shown.answers == generation.text + "\n" and generation.text
    assert len(generation.proof) == proved
    assert signal.getsignal(signal.SIGINT) is handler
    say(talk, "And then?")
    assert talk.turns[1].generation.finish_reason != "cancelled"


def test_a_terminal_gets_no_control_characters(talk):
    answers = io.StringIO()
    screen = Screen(Console(file=answers, force_terminal=True), Console(file=io.StringIO()))
    for piece in ("caf", "é\x1b[2J", "\r \n", "[red]x"):
        screen.piece(piece, steered=False)
    screen.end()
    assert answers.getvalue() == "café\ufffd[2J\ufffd \n[red]x\n"
    coloured = say(talk, f"/edit {EDIT}", "The fox", terminal=True).answers
    assert "\x1b[36m" in coloured
    assert "\x1b[36m" not in say(talk, "/compare", terminal=True).answers


# --- the command


def test_beginning(folder):
    save_preset(folder, Preset("calm", "toy", "another training", (OTHER,)))
    for words, says in (
        (["--preset", "calm"], "another training"),
        (["--preset", "none"], "no preset none"),
        (["--edit", "999 ablate"], "0 to 95"),
        (["--name", "other"], "'other'"),
        (["--max-tokens", "512"], "512"),
        (["--max-tokens", "0"], "0"),
        (["--temperature", "-1"], "-1"),
    ):
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            assert run_command(["chat", str(folder), *words]) in (1, 2)
        assert says in told.getvalue() and len(told.getvalue().splitlines()) == 1
    (folder / "presets" / "calm.json").unlink()
    digest = dictionary_digest(folder / "dictionaries" / "toy")
    save_preset(folder, Preset("calm", "toy", digest, (OTHER,)))
    assert [str(edit) for edit in begin(Run(folder), Manner(), [EDIT], preset="calm").edits] == [OTHER, EDIT]
    shutil.rmtree(folder / "presets")


def test_through_a_pipe(folder, monkeypatch, capsys):
    typed = b"The fox\n\xff\xfe the sea\n/edits\n/edit 3 boil\nWho?"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
    assert run_command(["chat", str(folder), "--edit", EDIT, "--max-tokens", "5"]) == 0
    found = capsys.readouterr()
    assert "boil" in found.err and f"1  {EDIT}" in found.err and "/help" in found.err
    assert len(found.out) > 10 and "token" not in found.out and "> " not in found.out


def test_in_a_terminal(folder):
    main, other = pty.openpty()
    script = "from monoscope.cli import main; main()"
    words = [sys.executable, "-c", script, "chat", str(folder), "--edit", EDIT, "--max-tokens", "5"]
    there = {**os.environ, "TERM": "dumb", "MONOSCOPE_OFFLINE": "1"}
    with subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=there, start_new_session=True) as child:
        os.close(other)
        try:
            assert f"1  {EDIT}" in _read_until(main, "> ")
            os.write(main, b"The fox\n")
            assert "5 tokens in" in _read_until(main, "\n> ")
            os.write(main, b"/quit\n")
            assert child.wait(20) == 0
        finally:
            child.kill()
            os.close(main)


def _read_until(handle: int, mark: str, seconds: float = 60.0) -> str:
    read, until = "", time.monotonic() + seconds
    while not read.endswith(mark) and time.monotonic() < until:
        if select.select([handle], [], [], 0.2)[0]:
            try:
                read += os.read(handle, 4096).decode(errors="replace").replace("\r", "")
            except OSError:  # the program is gone
                break
    assert read.endswith(mark), read
    return read
