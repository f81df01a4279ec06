"""A run and its monitors joined into what a server works under. Whatever is not right is refused before it starts."""

from dataclasses import dataclass, replace
from pathlib import Path

from monoscope.core.artifact import read_json
from monoscope.core.errors import ArtifactNotFound, BadRequest, MonoscopeError, RequestDiffers
from monoscope.core.run import Run, checked_name
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.shelf import dictionary_digest, load_dictionary
from monoscope.pairing import labels_for
from monoscope.safety.alert import BLOCK, FLAG, WATCH
from monoscope.safety.alerts import AlertFile
from monoscope.safety.constitution import Principle, load_constitution
from monoscope.safety.gauges import check_readable
from monoscope.safety.monitor import Monitor, load_monitors
from monoscope.safety.patrol import Patrol, Station, on_replies
from monoscope.safety.watcher import Post
from monoscope.safety.webhook import Webhook, check_url

ACTIONS = (WATCH, FLAG, BLOCK)


@dataclass(frozen=True)
class Duty:
    """What a server is asked to watch: monitors as `FILE` or `FILE=ACTION`, a constitution, and where alerts go."""

    monitors: tuple[str, ...] = ()
    constitution: Path | None = None
    alerts: Path | None = None
    webhook: str | None = None
    alert_text: bool = False


def open_patrol(run: Run, duty: Duty, *, name: str | None = None) -> Patrol | None:
    """The patrol of a server; None where nothing is to be watched. `name` is what the server shows first.

    Raises
        BadRequest      an action, a name or the URL makes no sense, or two monitors have one name.
        RequestDiffers  a monitor was made for another dictionary, or its dictionary for another model.
        ArtifactNotFound, Damaged, Busy  a file is not there, not whole, or another server's.
    """
    if not duty.monitors and duty.constitution is None:
        if duty.alerts is not None or duty.webhook is not None or duty.alert_text:
            raise BadRequest("There is nothing to be told of; --alerts, --alert-text and --webhook go with --monitor.")
        return None
    principles = () if duty.constitution is None else load_constitution(duty.constitution)
    stations = Stations(run, name)
    for each in duty.monitors:
        path, action = parse_monitor(each)
        stations.add(path, action)
    for principle in principles:
        stations.add_principle(principle)
    found = stations.all()
    if duty.webhook is not None:
        check_url(duty.webhook)
    file = AlertFile(duty.alerts or run.path / "alerts.jsonl")
    try:
        webhook = None if duty.webhook is None else Webhook(file.path, duty.webhook)
        return Patrol(found, principles=principles, file=file, webhook=webhook, with_text=duty.alert_text)
    except MonoscopeError:
        file.close()
        raise


def parse_monitor(text: str) -> tuple[Path, str]:
    """`FILE` or `FILE=ACTION`; without an action it flags.

    Raises
        BadRequest  there is no such action.
    """
    path, mark, action = text.rpartition("=")
    if mark and action in ACTIONS:
        return Path(path), action
    if mark and not Path(text).exists():
        raise BadRequest(f"--monitor {text}: there is no such file; write FILE={'|'.join(ACTIONS)}, or FILE alone.")
    return Path(text), FLAG


class Stations:
    """Monitors gathered by the dictionary that they read through. Mutable: it grows."""

    def __init__(self, run: Run, name: str | None) -> None:
        self._run, self._shown = run, name
        self._opened: dict[str, tuple[Dictionary, str]] = {}
        self._posts: dict[str, list[Post]] = {}

    def add(self, path: Path, action: str) -> None:
        """The monitors of a file, all with one action; raises like `open_patrol`."""
        for monitor in self._load(path):
            self._put(Post(monitor, action))

    def add_principle(self, principle: Principle) -> None:
        """The monitor of a principle, under its name and on replies alone; raises like `open_patrol`."""
        if not principle.monitor.is_file() and principle.positive is not None:
            raise ArtifactNotFound(
                f"Principle {principle.name} has no monitor yet; run monoscope constitution RUN FILE --fit first."
            )
        monitors = self._load(principle.monitor)
        if len(monitors) != 1:
            raise BadRequest(f"{principle.monitor} has {len(monitors)} rules; a principle needs a file with one.")
        self._put(on_replies(Post(replace(monitors[0], name=principle.name), principle.action)))

    def all(self) -> list[Station]:
        """One for each dictionary.

        Raises
            BadRequest  two monitors have one name.
        """
        names = [post.monitor.name for posts in self._posts.values() for post in posts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadRequest(f"Two monitors are named {twice}; give one of them another name.")
        return [Station(name, self._opened[name][0], tuple(posts)) for name, posts in self._posts.items()]

    def _put(self, post: Post) -> None:
        self._posts.setdefault(post.monitor.dictionary, []).append(post)

    def _load(self, path: Path) -> list[Monitor]:
        named = read_json(path).get("dictionary") or None
        if named is not None and not isinstance(named, str):
            raise BadRequest(f"{path}: `dictionary` must be the name of one.")
        name = self._run.choose_dictionary(named if named is not None else self._shown)
        dictionary, digest = self._open(name)
        found = load_monitors(path, dictionary=dictionary, name=name, digest=digest)
        return [
            replace(
                each,
                name=checked_name(each.name.replace(" ", "-")),  # a rule that nobody named is called "12 max"
                dictionary=name,
                labels=each.labels or labels_for(self._run, name, each.detector.features.tolist()),
            )
            for each in found
        ]

    def _open(self, name: str) -> tuple[Dictionary, str]:
        if name not in self._opened:
            with_atlas = self._run.names("atlas", "manifest.json")
            shown = self._shown or (with_atlas[0] if with_atlas else name)
            models = [self._run.provenance(each)["model"] for each in (name, shown)]
            if models[0] != models[1]:
                raise RequestDiffers(f"Dictionary {name} is of {models[0]}, but the server answers with {models[1]}.")
            folder = self._run.dictionary(name)
            dictionary = load_dictionary(folder)
            check_readable(dictionary)
            self._opened[name] = dictionary, dictionary_digest(folder)
        return self._opened[name]
