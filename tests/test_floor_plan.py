"""All imports of the package, read from its source, against the floor plan."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "monoscope"
FLOORS = (
    ("core",),
    ("text", "model", "dictionary", "render"),
    ("harvest", "steer", "attribute"),
    ("train", "evaluate", "atlas"),
    ("explain", "effect"),
    ("safety", "porch"),
    ("serve",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}
TOP = len(FLOORS) + 1
FLOOR_OF["commands"] = TOP
# Optional or slow libraries, each kept to one room.
HEAVY = ("numba", "datasets", "zstandard", "cyclopts", "rich", "gguf", "ray", "openai", "triton", "pacmap", "duckdb")
HEAVY += ("altair", "vl_convert", "faiss", "sklearn")
WEB = ("fastapi", "uvicorn", "starlette", "pydantic")
SERVE_OPENERS = {"commands.reading", "demo"}
# The root hands names on, the steering verb among them; nothing below may lean on either.
MAY_IMPORT_THE_ROOT = {""}


@dataclass(frozen=True)
class Import:
    """`module` imports `target`, a dotted name, in line `line`."""

    module: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def _module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {_module_of(path): ast.parse(path.read_text(), str(path)) for path in sorted(SOURCE.rglob("*.py"))}
FOLDERS = {_module_of(path) for path in SOURCE.rglob("__init__.py")}


def _targets(module: str, node: ast.AST) -> list[str]:
    """Every dotted name a statement or call imports, `monoscope` itself as the empty package name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = module.split(".") if module in FOLDERS else module.split(".")[:-1]
        above = ["monoscope", *(part for part in package if part)]
        base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
        stem = ".".join(part for part in (base, node.module or "") if part)
        inside = {f"{stem}.{alias.name}" for alias in node.names}
        modules = {name for name in inside if name.removeprefix("monoscope.") in TREES}
        return sorted(modules) + ([stem] if len(modules) < len(inside) else [])
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


IMPORTS = [
    Import(module, target, node.lineno)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    for target in _targets(module, node)
]
INSIDE = [
    Import(found.module, found.target.removeprefix("monoscope").removeprefix("."), found.line)
    for found in IMPORTS
    if found.target.split(".")[0] == "monoscope"
]


def _room(module: str) -> str:
    """The folder, or for a file of the top floor the file."""
    return module.split(".")[0]


def _floor(module: str) -> int:
    return TOP if module == "" or "." not in module and module not in FLOOR_OF else FLOOR_OF[_room(module)]


def test_every_folder_has_a_floor() -> None:
    rooms = {_room(module) for module in FOLDERS if module}
    assert rooms <= set(FLOOR_OF), f"not in the plan: {sorted(rooms - set(FLOOR_OF))}"
    assert {"core", "harvest", "train", "cli", "stages"} <= {_room(module) for module in TREES}


def test_imports_go_down_and_never_sideways() -> None:
    wrong = [
        str(found)
        for found in INSIDE
        if found.module
        and found.target
        and _room(found.module) != _room(found.target)
        and _floor(found.target) >= _floor(found.module)
        and not _floor(found.module) == _floor(found.target) == TOP
    ]
    assert not wrong, "\n".join(wrong)


def test_the_server_is_opened_at_the_top_only() -> None:
    openers = {found.module for found in INSIDE if _room(found.target) == "serve" and _room(found.module) != "serve"}
    assert openers <= SERVE_OPENERS
    assert not [str(found) for found in INSIDE if found.target == "cli" and found.module]


def test_nothing_imports_the_package_or_a_folder_with_content() -> None:
    full = {folder for folder in FOLDERS if TREES[folder].body}
    # monoscope.steer is a folder and, for users, a verb: its __init__ hands on that one name.
    assert full <= {"", "steer"}, f"these __init__.py are to stay empty: {sorted(full - {'', 'steer'})}"
    wrong = [str(found) for found in INSIDE if found.target in full | {""} and found.module not in MAY_IMPORT_THE_ROOT]
    assert not wrong, "\n".join(wrong)


def test_every_import_from_the_house_is_a_module_that_exists() -> None:
    assert not [str(found) for found in INSIDE if found.target not in TREES]


def test_there_are_no_circles() -> None:
    below: dict[str, set[str]] = {module: set() for module in TREES}
    for found in INSIDE:
        below[found.module].add(found.target)
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(below.get(module, ())):
                walk(target, (*path, module))
            done.add(module)

    for module in sorted(below):
        walk(module, ())


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_lives_in_one_room(library: str) -> None:
    assert len(_rooms_with((library,))) <= 1


def test_web_libraries_live_with_the_server() -> None:
    assert _rooms_with(WEB) <= {"serve"}
    # Chat templates come with the models and are written in jinja2; the pages are ours.
    assert _rooms_with(("jinja2",)) <= {"serve", "model"}


def _rooms_with(libraries: tuple[str, ...]) -> set[str]:
    users = {found.module for found in IMPORTS if found.target.split(".")[0] in libraries}
    return {"the top floor" if _floor(module) == TOP else _room(module) for module in users}


def test_nothing_that_runs_what_it_reads() -> None:
    wrong = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            wrong += [f"{module}:{node.lineno} {what}" for what in _unsafe(node)]
    assert not wrong, "\n".join(wrong)


def _unsafe(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        return [name for name in names if name.split(".")[0] in ("pickle", "dill", "marshal", "shelve", "joblib")]
    if not isinstance(node, ast.Call):
        return []
    if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
        return [node.func.id]
    called = ast.unparse(node.func)
    found = [called] if called in ("torch.load", "yaml.load", "yaml.unsafe_load", "pickle.load") else []
    return found + [
        word.arg
        for word in node.keywords
        if word.arg in ("allow_pickle", "trust_remote_code") and not _says_false(word.value)
    ]


def _says_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def test_the_command_line_answers_without_torch() -> None:
    script = (
        "import sys, monoscope.cli\n"
        "slow = ('torch', 'transformers', 'numba', 'fastapi', 'uvicorn', 'datasets', 'duckdb', 'pyarrow')\n"
        "print([name for name in slow if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
