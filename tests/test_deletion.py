"""The examples are deleted from a copy of the repository by README's own commands, and everything else still holds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.slices import SLICES
from tests.commands import environment
from tests.readme import ROOT, deletion

# The names after "for slice in".
EXAMPLES = deletion().partition("for slice in ")[2].partition(";")[0].split()
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
def copy(tmp_path: Path) -> Path:
    """A clone of the repository as it is here, without the examples."""
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
    run(folder, "bash", "-euc", deletion())
    run(folder, "git", "add", "--all")
    return folder


def test_nothing_but_their_own_files_and_two_lists_knows_the_examples(copy: Path) -> None:
    assert EXAMPLES
    modules = [path for folder in ("app", "tests") for path in (copy / folder).rglob("*.py")]
    names = "|".join(EXAMPLES)
    imports = re.compile(rf"^\s*(?:from|import) [\w.]*\bdomain\.(?:{names})\b|/api/v1/(?:{names})\b", re.MULTILINE)
    assert len(modules) > 200
    assert [str(path) for path in modules if imports.search(path.read_text())] == []
    kept = {each.blueprint.name for each in SLICES} - set(EXAMPLES)
    assert set(run(copy, sys.executable, "-c", PROGRAM).split()) == kept
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{copy / 'test.db'}"}
    for command in ("db upgrade", "seed"):
        run(copy, sys.executable, "-m", "app.cli", *command.split(), **database)


@pytest.mark.long
@pytest.mark.parametrize("target", ["check", "test"])
def test_what_stays_passes(copy: Path, target: str) -> None:
    # The tools of this run; -o keeps make from installing into them.
    run(copy, "make", target, f"VENV={sys.prefix}", "-o", f"{sys.prefix}/requirements-dev.installed")
