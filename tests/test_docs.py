"""The documentation says what the code does: settings, links, docstrings, and nothing of one machine."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypercorn.config import Config
from pydantic_core import PydanticUndefined

from app.kit.cache.memoize import memoize
from app.kit.limits.limit import LimitOptions
from app.kit.tasks.task import EnqueueOptions, TaskOptions
from app.settings import Settings
from app.settings_redis import RedisParts
from app.web.caching.cached_view import cached_view
from app.web.limits.declare import rate_limit
from tests.guides import EXAMPLE

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTING = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \| (?:`(.*?)`|(\*empty\*)) \| (.+) \|$", re.MULTILINE)
# Put together from parts, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:" + "|".join(("work", "root", "home", "Users")) + r")/[\w.]")
REGISTRIES = re.compile(
    r"\b(?:" + "|".join(("py" + "pi", "python" + "hosted", "npm" + "js", "docker", "gh" + "cr", "qu" + "ay")) + r")"
    r"\.(?:org|io|com)\b"
)


def rows(section: str) -> dict[str, str]:
    """The variables of settings.md with their defaults: of the tables before "Redis in parts", or of that one."""
    before, _, parts = (ROOT / "docs/settings.md").read_text().partition("## Redis in parts")
    found = {name: default for name, default, _, _ in SETTING.findall(parts if section == "parts" else before)}
    assert found
    return found


def shown(default: object) -> str:
    assert default is not PydanticUndefined
    return "" if default == () else str(default)


def test_every_setting_is_documented_with_its_default() -> None:
    fields = {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert rows("settings") == fields


def test_every_setting_has_one_row() -> None:
    names = [name for name, *_ in SETTING.findall((ROOT / "docs/settings.md").read_text())]
    assert sorted(names) == sorted(set(names))


def test_each_part_of_the_redis_url_is_documented_with_its_default() -> None:
    fields = {name.upper(): shown(field.default) for name, field in RedisParts.model_fields.items()}
    assert rows("parts") == fields


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_are_named_exist(document: Path) -> None:
    """But in the changelog, which names what there was, and but for a slice that has been deleted."""
    named = re.findall(r"`((?:app|tests|bench|deploy|docs|kit|web)/[\w/.-]+?)(?:::\w+)?`", document.read_text())
    missing = [path for path in named if not (ROOT / path).exists() and not (ROOT / "app" / path).exists()]
    slices = [re.match(r"(?:app|tests)/domain/\w+(?=/)", path) for path in missing]
    wrong = [path for path, found in zip(missing, slices, strict=True) if not found or (ROOT / found[0]).exists()]
    assert document.name == "CHANGELOG.md" or wrong == []


# The examples of tasks.md build on one another: tests/test_tasks_guide.py runs them.
@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "tasks.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_examples_run(document: Path) -> None:
    """Each block of Python on its own, as far as a module runs when it is imported: its imports and decorators."""
    for number, example in enumerate(EXAMPLE.findall(document.read_text())):
        exec(compile(example, f"{document.name}, example {number}", "exec"), {"__name__": "example"})  # noqa: S102


def test_the_options_of_limits_and_of_the_cache_are_documented() -> None:
    for name, documented in (("limits.md", (rate_limit, LimitOptions)), ("cache.md", (memoize, cached_view))):
        text = (ROOT / "docs" / name).read_text()
        for source in documented:
            options = source.__annotations__.keys() - {"return", "limits", "options", "ttl_seconds"}
            assert not {option for option in options if f"`{option}" not in text and f"{option}=" not in text}, name


def test_the_options_of_tasks_are_documented() -> None:
    text = (ROOT / "docs/tasks.md").read_text()
    options = {"name", *TaskOptions.__annotations__, *EnqueueOptions.__annotations__}
    assert not {option for option in options if f"`{option}`" not in text}


def test_the_metrics_of_tasks_are_documented() -> None:
    text = (ROOT / "docs/tasks.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "app/kit/tasks").glob("*.py"))
    reported = set(re.findall(r'\.(?:count|observe|gauge)\(\s*"(task_\w+)"', sources))
    assert len(reported) > 5
    assert not {name for name in reported if name not in text}


def test_the_layout_of_the_architecture_names_each_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("## Layout")[2].partition("### Layers")[0]
    for folder in (ROOT / "app", ROOT / "app/kit", ROOT / "app/web", ROOT / "app/web/routes"):
        names = [path.stem if path.suffix == ".py" else f"{path.name}/" for path in folder.iterdir()]
        public = [name for name in names if not name.startswith("_") and name != "py.typed/"]
        assert [name for name in public if not re.search(rf"\b{re.escape(name)}", text)] == [], folder


def test_the_layers_of_the_architecture_are_those_that_are_checked() -> None:
    text = (ROOT / "docs/architecture.md").read_text().partition("### Layers")[2]
    shown = [block.strip().splitlines() for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    of = {tuple(each["containers"]): each["layers"] for each in contracts if each["type"] == "layers"}
    for layers, container in zip(shown[:3], ("app", "app.kit", "app.web"), strict=True):
        assert [line.replace(", ", " | ") for line in layers] == of[container,]


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    files = {path.name for path in folder.glob("[0-9]*.md")}
    assert set(re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text())) == files


def test_every_dependency_has_a_reason() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    document = (ROOT / "docs/decisions/0005-dependencies.md").read_text()
    named = " ".join(re.findall(r"^\| ([^|]+) \|", document, re.MULTILINE))
    for requirement in [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *groups["build"],
        *groups["audit"],
    ]:
        assert re.search(rf"\b{re.match('[a-z0-9-]+', requirement)[0]}\b", named), requirement  # type: ignore[index]


def test_changelog_has_an_unreleased_section() -> None:
    assert re.search(r"^## Unreleased$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_hypercorn_knows_its_settings() -> None:
    # Hypercorn accepts any name, so a misspelt one would silently do nothing.
    assert [name for name in tomllib.loads((ROOT / "hypercorn.toml").read_text()) if not hasattr(Config, name)] == []


@pytest.mark.parametrize("module", sorted((ROOT / "app").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_docstring(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text()))


def text_files() -> dict[str, str]:
    """The text of each file in the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git repository")
    found = {}
    for name in listed.stdout.splitlines():
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            found[name] = content.decode()
    return found


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = [
        f"{name}: {match[0]}"
        for name, content in text_files().items()
        for pattern in (MACHINE_PATHS, REGISTRIES)
        for match in pattern.finditer(content)
    ]
    assert found == []


def test_locks_hold_hashes_and_no_addresses() -> None:
    for name in (
        "requirements.lock",
        "requirements-dev.lock",
        "requirements-build.lock",
        "bench/requirements.lock",
        "bench/requirements-older.lock",
    ):
        lock = (ROOT / name).read_text()
        assert "://" not in lock
        pinned = re.findall(r"^[\w.\[\],-]+==.*$", lock, re.MULTILINE)
        assert pinned
        assert all(line.endswith("\\") for line in pinned), "a package without a hash"
