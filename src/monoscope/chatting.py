"""A chat, line by line: a line is a message to the model, or begins with a slash and changes how it answers.

A refusal is one sentence, and the chat goes on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from monoscope import presetting
from monoscope.chat_screen import Screen, counted, show_answer
from monoscope.conversation import Conversation, Turn, bind_edit, next_request, preset_edits
from monoscope.core.errors import BadRequest, MonoscopeError
from monoscope.steer.request import Request


def chat(conversation: Conversation, lines: Iterable[str], screen: Screen) -> None:
    """Answer line after line, until they end or one of them is /quit."""
    for line in lines:
        try:
            _take(conversation, line.strip(), screen)
        except (EOFError, KeyboardInterrupt):
            return
        except BrokenPipeError:
            raise
        except (MonoscopeError, OSError) as error:
            screen.refuse(str(error))


def greet(conversation: Conversation, screen: Screen) -> None:
    """Say who is talking, and under which edits."""
    screen.say(f"{conversation.model.source}, dictionary {conversation.dictionary} of {conversation.run.path}.")
    _edits(conversation, "", screen)
    screen.say("/help lists what can be said with a slash; Ctrl-C stops an answer, Ctrl-D leaves.")


def _take(conversation: Conversation, text: str, screen: Screen) -> None:
    if not text:
        return
    if not text.startswith("/") or text.startswith("//"):
        _ask(conversation, text.removeprefix("/"), screen)
        return
    word, _, rest = text.partition(" ")
    command = COMMANDS.get(word)
    if command is None:
        raise BadRequest(
            f"There is no {word}; /help lists what there is, and //… says a line that begins with a slash."
        )
    command.act(conversation, rest.strip(), screen)


def _ask(conversation: Conversation, question: str, screen: Screen) -> None:
    request, dropped = next_request(conversation, question, conversation.turns)
    if dropped:
        screen.say(f"The oldest {counted(dropped, 'turn')} no longer fit into what the model reads, and are forgotten.")
    _keep(conversation, conversation.turns[dropped:], question, request, screen)


def _keep(conversation: Conversation, earlier: list[Turn], question: str, request: Request, screen: Screen) -> None:
    generation = show_answer(conversation.model, request, screen)
    conversation.turns = [*earlier, Turn(question, request, generation)]


def _help(_conversation: Conversation, _rest: str, screen: Screen) -> None:
    for command in COMMANDS.values():
        screen.say(f"{command.usage:<18} {command.tells}")


def _edits(conversation: Conversation, _rest: str, screen: Screen) -> None:
    proofs = list(conversation.turns[-1].generation.proof) if conversation.turns else []
    for number, edit in enumerate(conversation.edits, start=1):
        proof = next((proof for proof in proofs if proof.edit == str(edit)), None)
        told = "not in the last answer" if conversation.turns else ""
        if proof is not None:
            proofs.remove(proof)
            told = (
                f"{counted(proof.positions_edited, 'token')} edited, mean change {proof.mean_norm_change:.2f}, "
                f"activation {proof.mean_activation_before:.2f} before and {proof.realised_activation:.2f} after"
            )
        screen.say(f"{number}  {edit}" + (f":  {told}" if told else ""))
    if not conversation.edits:
        screen.say("No edit is in force. /edit 8011 add 0.4r adds one, /preset NAME takes a saved set.")


def _edit(conversation: Conversation, rest: str, screen: Screen) -> None:
    conversation.edits += (bind_edit(conversation.run, conversation.dictionaries, rest),)
    _edits(conversation, "", screen)


def _drop(conversation: Conversation, rest: str, screen: Screen) -> None:
    number, edits = _number(rest, int, "/drop 1"), conversation.edits
    if not 1 <= number <= len(edits):
        raise BadRequest(f"There is no edit {number}; {counted(len(edits), 'edit')} in force, counted from 1 (/edits).")
    conversation.edits = edits[: number - 1] + edits[number:]
    _edits(conversation, "", screen)


def _clear(conversation: Conversation, _rest: str, screen: Screen) -> None:
    conversation.edits = ()
    _edits(conversation, "", screen)


def _preset(conversation: Conversation, rest: str, screen: Screen) -> None:
    run, dictionary = conversation.run, conversation.dictionary
    if not rest:
        names = [preset["name"] for preset in presetting.list_presets(run)["presets"]]
        screen.say(f"Presets: {', '.join(names) or 'none yet'}. /preset NAME takes one.")
        return
    lines = preset_edits(run, dictionary, rest)
    conversation.edits = tuple(bind_edit(run, conversation.dictionaries, line) for line in lines)
    _edits(conversation, "", screen)


def _save(conversation: Conversation, rest: str, screen: Screen) -> None:
    name, _, note = rest.partition(" ")
    lines = tuple(str(edit) for edit in conversation.edits)
    found = presetting.save_preset(conversation.run, name, lines, note=note.strip(), name=conversation.dictionary)
    screen.say(f"{counted(len(lines), 'edit')} kept as preset {found['name']}.")


def _plain(conversation: Conversation, rest: str, screen: Screen) -> None:
    if not rest:
        raise BadRequest("/plain needs a message, as in /plain Who are you?; /compare asks the last one again.")
    request, _ = next_request(conversation, rest, conversation.turns)
    _show_plain(conversation, request, screen)


def _compare(conversation: Conversation, _rest: str, screen: Screen) -> None:
    request = conversation.last.request
    if not request.edits:
        raise BadRequest("The last answer was made without edits; there is nothing to compare it with.")
    _show_plain(conversation, request, screen)


def _show_plain(conversation: Conversation, request: Request, screen: Screen) -> None:
    screen.say("without edits, not kept:")
    show_answer(conversation.model, replace(request, edits=()), screen)


def _retry(conversation: Conversation, _rest: str, screen: Screen) -> None:
    last, earlier = conversation.last, conversation.turns[:-1]
    request, dropped = next_request(conversation, last.question, earlier)
    if request == last.request:
        conversation.manner = replace(conversation.manner, seed=conversation.manner.seed + 1)
        request = replace(request, seed=conversation.manner.seed)
        screen.say(f"seed {request.seed}")
    _keep(conversation, earlier[dropped:], last.question, request, screen)


def _seed(conversation: Conversation, rest: str, screen: Screen) -> None:
    conversation.manner = replace(conversation.manner, seed=_number(rest, int, "/seed 7"))
    screen.say(f"seed {conversation.manner.seed}")


def _temperature(conversation: Conversation, rest: str, screen: Screen) -> None:
    conversation.manner = replace(conversation.manner, temperature=_number(rest, float, "/temperature 0.7"))
    screen.say(f"temperature {conversation.manner.temperature:g}")


def _system(conversation: Conversation, rest: str, screen: Screen) -> None:
    conversation.manner = replace(conversation.manner, system=rest)
    screen.say(f"system message: {rest}" if rest else "No system message but the template's own.")


def _reset(conversation: Conversation, _rest: str, screen: Screen) -> None:
    conversation.turns = []
    screen.say("What was said is forgotten; the edits stay in force.")


def _quit(_conversation: Conversation, _rest: str, _screen: Screen) -> None:
    raise EOFError


def _number(text: str, kind: Callable[[str], Any], example: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise BadRequest(f"{text!r} is not a number; write it as in {example}.") from None


@dataclass(frozen=True)
class Command:
    """What can be said with a slash: how, what it does, and the doing of it, given what follows the word."""

    usage: str
    tells: str
    act: Callable[[Conversation, str, Screen], None]


COMMANDS = {
    command.usage.split()[0]: command
    for command in (
        Command("/help", "this list", _help),
        Command("/edits", "the edits in force, with what each did to the last answer", _edits),
        Command("/edit LINE", "one more edit, as in /edit 8011 add 0.4r", _edit),
        Command("/drop N", "without edit N", _drop),
        Command("/clear", "without any edit", _clear),
        Command("/preset NAME", "the edits of a preset, in place of those in force; without NAME the names", _preset),
        Command("/save NAME [NOTE]", "keep the edits in force as a preset", _save),
        Command("/compare", "the last question again without edits, same seed; not kept", _compare),
        Command("/plain TEXT", "a message answered without edits; not kept", _plain),
        Command("/retry", "the last question again, with what has changed since; else with the next seed", _retry),
        Command("/seed N", "another seed", _seed),
        Command("/temperature T", "another temperature; 0 is greedy", _temperature),
        Command("/system TEXT", "a system message; without TEXT the template's own", _system),
        Command("/reset", "forget what was said", _reset),
        Command("/quit", "leave, as Ctrl-D does", _quit),
    )
}
