"""What a person sees while work goes on: bars on a terminal, lines elsewhere, and a file that the explorer reads.

Everything here goes to stderr; stdout belongs to results.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 15.0
_FILE_SECONDS = 0.5


@dataclass
class StageState:
    """One stage as the explorer's progress page shows it; `rate` is units a second since the stage began."""

    name: str
    state: str = "waiting"
    done: int = 0
    total: int | None = None
    unit: str = ""
    rate: float = 0.0
    seconds_left: float | None = None


class Board:
    """Listens to one stage after another and shows how far each is, with rate and time left."""

    def __init__(self, console: Console | None = None, file: Path | None = None, stages: tuple[str, ...] = ()) -> None:
        self.console = console or Console(stderr=True)
        self._file = file
        self.states = [StageState(name) for name in stages]
        self._current: StageState | None = None
        self._bar: Progress | None = None
        self._began = self._line = self._written = 0.0
        self._already, self._told = 0, ""
        self._phase: StageState | None = None
        if self.states:  # a mistyped run must not come into being by being looked at
            self._write(force=True)

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def expect(self, stages: tuple[str, ...]) -> None:
        """Show these stages as waiting."""
        for stage in stages:
            self._state(stage)
        self._write(force=True)

    def phase(self, name: str) -> None:
        """Until `phase_over`, all work counts as part of the stage `name`."""
        self._phase = self._state(name)
        self._phase.state = "running"
        self._write(force=True)

    def phase_over(self, name: str, *, skipped: bool) -> None:
        """The stage is done, or had nothing to do."""
        self.close()
        self._state(name).state = "skipped" if skipped else "done"
        self._phase = None
        if skipped:
            self.say(f"{name}: finished before, left as it is")
        self._write(force=True)

    def start(self, stage: str, total: int | None, unit: str, already: int = 0) -> None:
        """A stage begins."""
        self.close()
        state = self._phase or self._state(stage)
        state.rate, state.seconds_left = 0.0, None
        state.state, state.done, state.total, state.unit = "running", already, total, unit
        self._current, self._already, self._told = state, already, stage
        self._began = self._line = time.monotonic()
        if already:
            self.say(f"{stage}: going on at {already:,} of {total or 0:,} {unit}")
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.add_task(stage, total=total, completed=already, told="")
            self._bar.start()
        self._write(force=True)

    def advance(self, amount: int, **facts: float) -> None:
        """The stage moved on."""
        state, now = self._current, time.monotonic()
        if state is None:
            return
        state.done += amount
        state.rate = (state.done - self._already) / max(now - self._began, 1e-9)
        if state.total:
            state.seconds_left = max(0.0, (state.total - state.done) / max(state.rate, 1e-9))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=state.done, told=_told(state, facts))
        elif now - self._line > _LINE_SECONDS:
            self._line = now
            self.say(f"{self._told}: {state.done:,} of {state.total or 0:,} {state.unit}, {_told(state, facts)}")
        self._write()

    def finish(self) -> None:
        """The stage is over."""
        if self._current is not None:
            took = time.monotonic() - self._began
            self._current.seconds_left = 0.0
            self._current.state = "done" if self._phase is None else "running"
            state = self._current
            self.close()
            self.say(f"{self._told}: {state.done:,} {state.unit} in {took:.1f} s ({state.rate:,.0f} a second)")
        self._write(force=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._current = None

    def _state(self, stage: str) -> StageState:
        for state in self.states:
            if state.name == stage:
                return state
        self.states.append(StageState(stage))
        return self.states[-1]

    def _write(self, *, force: bool = False) -> None:
        if self._file is None or (not force and time.monotonic() - self._written < _FILE_SECONDS):
            return
        self._written = time.monotonic()
        value = {"stages": [asdict(state) for state in self.states], "updated": time.time(), "process": os.getpid()}
        aside = self._file.with_suffix(".part")
        # Only a picture of the moment: it is worth no flush, and a full disk must not stop the work over it.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(value))
            aside.replace(self._file)


def _told(state: StageState, facts: dict[str, float]) -> str:
    parts = [f"{state.rate:,.0f} {state.unit}/s"]
    if state.seconds_left is not None:
        parts.append(f"{_clock(state.seconds_left)} left")
    parts += [f"{name} {value:.3g}" for name, value in facts.items()]
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
