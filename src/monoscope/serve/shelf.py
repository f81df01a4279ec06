"""Open atlases, each opened anew when another has taken its place on the disk."""

import threading
from pathlib import Path

from monoscope.atlas.layout import CLUSTERS
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import MANIFEST, MEANING

# What an open atlas remembers of the disk: itself, and the caches that may be made while it is open.
_WATCHED = (MANIFEST, CLUSTERS, MEANING)

Stamp = tuple[tuple[int, int, int] | None, ...]


class Shelf:
    """Atlases by folder. Mutable; safe to use from several threads.

    One that was replaced serves on for whoever holds it; newcomers get the new one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[Path, tuple[Stamp, Atlas]] = {}

    def get(self, folder: Path) -> Atlas:
        """The atlas of a folder as it lies there now; raises like `Atlas.open`."""
        stamp = stamp_of(folder, _WATCHED)
        with self._lock:
            held = self._open.get(folder)
            if held is not None and held[0] == stamp:
                return held[1]
            found = Atlas.open(folder)
            self._open[folder] = (stamp, found)
            return found


def stamp_of(folder: Path, names: tuple[str, ...]) -> Stamp:
    """What changes when any of some files is written or replaced; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for name in names:
        try:
            about = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)
