"""Every refusal of the command line: one sentence on stderr, the right status, nothing half-written, no traceback."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from monoscope.cli import run_command
from monoscope.core.progress import SILENT
from monoscope.core.run import Run
from monoscope.stages import TextRequest, harvest
from monoscope.train.recipes import Recipe
from monoscope.training import train_dictionary

SITE, ACTIVATIONS, NAME = "resid_post.2", "resid_post.2@toy", "batchtopk-48-k3"
HARVEST = ["--model", "toy", "--site", SITE, "--text", "toy", "--tokens", "6000", "--context", "64"]
TRAIN = ["--latents", "48", "--k", "3", "--tokens", "20000", "--batch", "256"]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Commands that can be stopped take the signals over; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass(frozen=True)
class Told:
    """What a command line gave back."""

    status: int
    out: str
    error: str

    @property
    def sentences(self) -> list[str]:
        """Lines of stderr that are no progress of a finished stage ("text: 6,000 tokens in 0.1 s …")."""
        return [
            line for line in self.error.splitlines() if line.strip() and not (" in " in line and "a second)" in line)
        ]


Tell = Callable[..., Told]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    def told(*words: object) -> Told:
        capsys.readouterr()
        status = run_command([str(word) for word in words])
        found = capsys.readouterr()
        return Told(status, found.out, found.err)

    return told


def check(told: Told, status: int, *says: str) -> None:
    assert told.status == status, told.error
    assert told.out == ""
    assert "Traceback" not in told.error and "Unexpected" not in told.error
    assert len(told.sentences) == 1, told.error
    for words in says:
        assert words in told.sentences[0]


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def _no_leftovers(folder: Path) -> None:
    assert [name for name in _files(folder) if name.endswith((".part", ".old"))] == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with activations and a dictionary."""
    run = Run(tmp_path_factory.mktemp("cli") / "run")
    harvest(run, "toy", SITE, TextRequest("toy", 6000, context=64), progress=SILENT)
    train_dictionary(run, Recipe(latents=48, k=3, tokens=20_000, batch_rows=256), measure=False)
    return run.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# --- wrong usage: status 2


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["harvest"],
        ["harvest", "RUN", "--model", "toy"],
        ["harvest", "RUN", *HARVEST, "--no-such-flag", "1"],
        ["harvest", "RUN", *HARVEST[:-4], "--tokens", "many"],
        ["train", "RUN", "--k", "four"],
        ["steer", "RUN"],
        ["show", "RUN", "one"],
    ],
)
def test_what_the_command_line_does_not_know(words: list[str], tell: Tell, tmp_path: Path) -> None:
    told = tell(*[str(tmp_path / "run") if word == "RUN" else word for word in words])
    check(told, 2, "--help")
    assert _files(tmp_path) == set()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--site": "block 2"}, "resid_post.N"),
        ({"--site": "resid_post.-1"}, "resid_post.N"),
        ({"--tokens": "10"}, "1,000"),
        ({"--text": "toy=x,"}, "toy=x"),
        ({"--context": "1"}, "context"),
        ({"--model": "pypi:nonsense"}, "pypi"),
    ],
)
def test_a_harvest_that_makes_no_sense(changed: dict[str, str], says: str, tell: Tell, tmp_path: Path) -> None:
    flags = dict(zip(HARVEST[::2], HARVEST[1::2], strict=True)) | changed
    told = tell("harvest", tmp_path / "run", *[word for pair in flags.items() for word in pair])
    check(told, 2, says)
    _no_leftovers(tmp_path)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--arch", "grated"], "grated"),
        (["--k", "100", "--latents", "50"], "100, more than the 50 latents"),
        (["--lr", "7"], "learning_rate"),
        (["--tokens", "0"], "tokens"),
        (["--name", "../up"], "name"),
    ],
)
def test_a_training_that_makes_no_sense(flags: list[str], says: str, run: Path, tell: Tell) -> None:
    before = _files(run)
    check(tell("train", run, *flags), 2, says)
    assert _files(run) == before


# --- what is not there: status 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--text": "./no/such/file.txt"}, "no/such/file.txt"),
        ({"--model": "./no/such/model"}, "no/such/model"),
        ({"--model": "./no/such/model.gguf"}, "no/such/model.gguf"),
        ({"--site": "resid_post.99"}, "4"),
    ],
)
def test_a_harvest_of_what_is_not_there(changed: dict[str, str], says: str, tell: Tell, tmp_path: Path) -> None:
    flags = dict(zip(HARVEST[::2], HARVEST[1::2], strict=True)) | changed
    told = tell("harvest", tmp_path / "run", *[word for pair in flags.items() for word in pair])
    check(told, 1, says)
    _no_leftovers(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("name", "content"), [("empty.txt", ""), ("blank.txt", " \n\n\t\n"), ("empty.jsonl", "")])
def test_a_text_without_text(name: str, content: str, tell: Tell, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    flags = dict(zip(HARVEST[::2], HARVEST[1::2], strict=True)) | {"--text": str(path)}
    told = tell("harvest", tmp_path / "run", *[word for pair in flags.items() for word in pair])
    check(told, 1, name)
    _no_leftovers(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["steer", "--prompt", "The"], ["repair"], ["atlas"]])
def test_a_run_that_is_not_there(command: list[str], tell: Tell, tmp_path: Path) -> None:
    told = tell(command[0], tmp_path / "none", *command[1:])
    check(told, 1, str(tmp_path / "none"))
    assert _files(tmp_path) == set()


def test_a_run_without_what_is_needed(tell: Tell, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    check(tell("train", tmp_path / "run"), 1, "monoscope harvest")
    check(tell("evaluate", tmp_path / "run"), 1, "monoscope train")
    assert _files(tmp_path / "run") == set()


def test_a_name_that_is_not_there_and_one_that_is_not_clear(run: Path, tell: Tell) -> None:
    check(tell("evaluate", run, "--name", "other"), 1, "'other'", NAME)
    shutil.copytree(run / "dictionaries" / NAME, run / "dictionaries" / "second")
    check(tell("evaluate", run), 1, NAME, "second", "--name")


# --- the same name with other settings


def test_other_settings_under_the_same_name(run: Path, tell: Tell) -> None:
    before = (run / "dictionaries" / NAME / "sae_weights.safetensors").read_bytes()
    told = tell("train", run, *TRAIN, "--seed", "1")
    check(told, 1, "seed was 0 and is now 1", "--replace")
    flags = dict(zip(HARVEST[::2], HARVEST[1::2], strict=True)) | {"--tokens": "7000"}
    told = tell("harvest", run, *[word for pair in flags.items() for word in pair])
    check(told, 1, "tokens was 6000 and is now 7000")
    assert (run / "dictionaries" / NAME / "sae_weights.safetensors").read_bytes() == before


# --- damage


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 16
    path.write_bytes(raw)


def test_a_damaged_shard_is_named_and_mended(run: Path, tell: Tell) -> None:
    shard = run / "activations" / ACTIVATIONS / "train-00000.safetensors"
    whole = shard.read_bytes()
    _flip(shard)
    told = tell("train", run, *TRAIN, "--name", "new")
    check(told, 1, "train-00000.safetensors", "repair")
    assert not (run / "dictionaries" / "new" / "monoscope.json").exists()
    told = tell("repair", run, "--json")
    assert told.status == 0 and json.loads(told.out)["damaged"] == [str(shard.relative_to(run))]
    check(tell("train", run, *TRAIN, "--name", "new"), 1, "monoscope harvest")
    assert tell("harvest", run, *HARVEST).status == 0
    assert shard.read_bytes() == whole
    assert json.loads(tell("repair", run, "--json").out)["damaged"] == []
    _no_leftovers(run)


def test_a_shard_cut_short_is_named_and_mended(run: Path, tell: Tell) -> None:
    shard = run / "activations" / ACTIVATIONS / "held-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    check(tell("evaluate", run), 1, "held-00000.safetensors", "repair")
    assert tell("repair", run).status == 0
    assert tell("harvest", run, *HARVEST).status == 0
    assert shard.read_bytes() == whole


@pytest.mark.parametrize(
    ("file", "cut"),
    [("sae_weights.safetensors", -100), ("stats.safetensors", 10), ("monoscope.json", 40), ("monoscope.json", 0)],
)
def test_a_dictionary_that_cannot_be_read(file: str, cut: int, run: Path, tell: Tell) -> None:
    path = run / "dictionaries" / NAME / file
    path.write_bytes(path.read_bytes()[:cut])
    check(tell("evaluate", run), 1, file)
    check(tell("steer", run, "--prompt", "The fox", "--edit", "1 ablate"), 1, file)


def test_a_text_that_was_altered(run: Path, tell: Tell) -> None:
    _flip(run / "text" / "toy" / "tokens.safetensors")
    check(tell("evaluate", run), 1, "tokens.safetensors")
    check(tell("harvest", run, *HARVEST), 1, "tokens.safetensors")


def test_a_manifest_of_another_version(run: Path, tell: Tell) -> None:
    path = run / "activations" / ACTIVATIONS / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    check(tell("train", run, "--name", "new"), 1, "99")


# --- steering


@pytest.mark.parametrize(
    ("edit", "status", "says"),
    [
        ("48 ablate", 1, "0 to 47"),
        ("100000 add 1", 1, "100000"),
        ("-1 ablate", 2, "-1"),
        ("make it nicer", 2, "make"),
        ("3 boil 4", 2, "boil"),
        ("3 add", 2, "add"),
        ("3 ablate 4", 2, "ablate"),
        ("3 add nan", 2, "nan"),
        ("", 2, ""),
        ("other/3 ablate", 2, "other"),
    ],
)
def test_edits_that_cannot_be_made(edit: str, status: int, says: str, run: Path, tell: Tell) -> None:
    told = tell("steer", run, "--prompt", "The fox", f"--edit={edit}", "--max-tokens", "3")
    check(told, status, says)
    _no_leftovers(run)


# --- reading a run


@pytest.fixture(scope="module")
def explored(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with an atlas."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("explored") / "run"))
    assert run_command(["atlas", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["show", "RUN", "48"], 1, "48"),
        (["show", "RUN", "1", "--name", "other"], 1, "other"),
        (["search", "RUN", " "], 2, "empty"),
        (["search", "RUN", "fox", "--by", "smell"], 2, "smell"),
        (["search", "RUN", "fox", "--limit", "0"], 2, "0"),
        (["encode", "RUN"], 2, ""),
        (["encode", "RUN", "--input", "./none.jsonl"], 1, "none.jsonl"),
        (["encode", "RUN", "The fox", "--pool", "sum"], 2, "sum"),
        (["steer", "RUN", "--prompt", "The", "--preset", "none"], 1, "none"),
        (["steer", "RUN", "--prompt", "The", "--edit", "1 ablate", "--max-tokens", "0"], 2, "0"),
        (["steer", "RUN", "--prompt", "The", "--edit", "1 ablate", "--temperature", "-1"], 2, "-1"),
        (["preset", "RUN", "show", "none"], 1, "none"),
        (["preset", "RUN", "delete", "../x"], 2, "../x"),
        (["preset", "RUN", "save", "calm", "--edit", "48 ablate"], 1, "0 to 47"),
        (["preset", "RUN", "paint"], 2, "paint"),
        (["serve", "RUN", "--host", "0.0.0.0"], 2, "token"),
    ],
)
def test_questions_that_cannot_be_answered(
    words: list[str], status: int, says: str, explored: Path, tell: Tell
) -> None:
    before = _files(explored)
    check(tell(*[str(explored) if word == "RUN" else word for word in words]), status, says)
    assert _files(explored) == before


def test_an_atlas_that_was_altered(explored: Path, tell: Tell, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explored, tmp_path / "run"))
    database = run / "atlas" / NAME / "atlas.duckdb"
    database.write_bytes(database.read_bytes()[:5000])
    check(tell("show", run, "1"), 1, "atlas")


# --- two writers


def test_a_run_that_another_process_writes(run: Path, tell: Tell) -> None:
    import fcntl

    with (run / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write("process 4321 on elsewhere")
        stream.flush()
        check(tell("train", run, *TRAIN, "--name", "new"), 1, "process 4321 on elsewhere")


def test_a_place_that_cannot_be_written(tell: Tell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    told = tell("harvest", tmp_path / "file" / "run", *HARVEST)
    assert told.status == 1 and told.out == "" and "Traceback" not in told.error
    assert len(told.sentences) == 1
    assert os.listdir(tmp_path) == ["file"]


# --- and when all is well


def test_what_is_finished_is_left_as_it_is_and_json_is_one_object(run: Path, tell: Tell) -> None:
    told = tell("harvest", run, *HARVEST, "--json")
    found = json.loads(told.out)
    assert told.status == 0 and found["skipped"] and told.out.count("\n") == 1
    assert {"tokens", "rows", "documents", "shards", "bytes", "dropped_share", "tokens_per_second"} <= found.keys()
    found = json.loads(tell("train", run, *TRAIN, "--json").out)
    assert (
        found["skipped"]
        and {"name", "tokens", "seconds", "tokens_per_second", "fvu", "l0", "dead_fraction"} <= found.keys()
    )
    first = json.loads(tell("evaluate", run, "--json").out)
    again = json.loads(tell("evaluate", run, "--json").out)
    assert not first.pop("skipped") and again.pop("skipped") and first == again
    keys = {"tokens", "l0", "fvu", "cosine", "ce_clean", "ce_spliced", "ce_zero", "ce_mean", "ce_recovered", "kl"}
    assert keys | {"dead_fraction", "dense_fraction", "n_latents"} <= first.keys()
    _no_leftovers(run)
