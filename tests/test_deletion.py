"""The examples are deleted from a copy of the repository by README's own commands, and everything else still holds."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.domain.slices import SLICES
from tests.commands import environment
from tests.readme import ROOT, deletion

# The names after "for slice in".
EXAMPLES = deletion().partition("for slice in ")[2].partition(";")[0].split()
ALL = " ".join(EXAMPLES)
PROGRAM = """
from app.domain.slices import SLICES
from app.factory import create_app
from app.settings import load_settings

rules = {rule.rule for rule in create_app(load_settings({})).url_map.iter_rules()}
assert "/api/v1/users" in rules, rules
print(*(each.blueprint.name for each in SLICES))
"""


def run(folder: Path, *command: str, **settings: str) -> str:
    """What the command printed. It must succeed."""
    variables = environment({"PYTHONPATH": str(folder), **settings})
    done = subprocess.run(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout


@pytest.fixture
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clone of the repository as it is here, without the examples, or without those that the parameter names."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git repository")
    folder = tmp_path / "clone"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet")
    commands = deletion()
    assert f"for slice in {ALL}; do" in commands
    run(folder, "bash", "-euc", commands.replace(ALL, getattr(request, "param", ALL)))
    run(folder, "git", "add", "--all")
    return folder


def modules_that_know(folder: Path, examples: Iterable[str]) -> list[str]:
    """The modules that import one of the examples, or ask for its routes."""
    names = "|".join(examples)
    known = re.compile(rf"^\s*(?:from|import) [\w.]*\bdomain\.(?:{names})\b|/api/v1/(?:{names})\b", re.MULTILINE)
    modules = [path for place in ("app", "tests") for path in (folder / place).rglob("*.py")]
    assert len(modules) > 200
    return [str(path) for path in modules if known.search(path.read_text())]


def check_what_stays(folder: Path, deleted: Iterable[str]) -> None:
    """It serves, migrates a database and fills it."""
    stays = [each.blueprint.name for each in SLICES if each.blueprint.name not in deleted]
    assert run(folder, sys.executable, "-c", PROGRAM).split() == stays
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'test.db'}"}
    for command in ("db upgrade", "seed"):
        run(folder, sys.executable, "-m", "app.cli", *command.split(), **database)


def test_nothing_but_their_own_files_and_two_lists_knows_the_examples(copy: Path) -> None:
    assert not [name for name in EXAMPLES if (copy / "app" / "domain" / name).exists()]
    assert modules_that_know(copy, EXAMPLES) == []
    check_what_stays(copy, EXAMPLES)


SOME = ["reports messages", *(pytest.param(names, marks=pytest.mark.long) for names in ("cart", "reports articles"))]


@pytest.mark.parametrize("copy", SOME, indirect=True)
def test_some_of_them_are_deleted_alone(copy: Path) -> None:
    deleted = [name for name in EXAMPLES if not (copy / "app" / "domain" / name).exists()]
    assert 0 < len(deleted) < len(EXAMPLES)
    check_what_stays(copy, deleted)


@pytest.mark.long
@pytest.mark.parametrize("target", ["check", "test"])
def test_what_stays_passes(copy: Path, target: str) -> None:
    # The tools of this run, by a name without a space, which make could not take; -o keeps make from installing.
    (copy / ".venv").symlink_to(sys.prefix)
    (copy / ".git" / "info" / "exclude").write_text(".venv\n")
    run(copy, "make", target, "PYTHON=", "VENV=.venv", "-o", ".venv/requirements-dev.installed")
