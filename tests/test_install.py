"""What installs a lock takes what the lock names, whatever the index offers besides, and misses nothing in silence."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BUILD_LOCK = ROOT / "requirements-build.lock"
# What CPython 3.11 and Debian 12 bring, and the newest there is, with which the normal run is content.
PIPS = [pytest.param("pip==23.2.1", marks=pytest.mark.long), pytest.param("pip")]
if sys.version_info < (3, 12):
    # It needs pkgutil.ImpImporter, which Python 3.12 no longer has.
    PIPS = [pytest.param("pip==23.0.1", marks=pytest.mark.long), *PIPS]


def wheel(folder: Path, name: str, version: str, *requires: str) -> str:
    """Make an empty wheel; the line that pins it in a lock. `requires`: its Requires-Dist, and Provides-Extra."""
    package = name.replace("-", "_")
    path = folder / f"{package}-{version}-py3-none-any.whl"
    information = f"{package}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"{line}\n" for line in requires)
    files = {
        f"{package}.py": f"VERSION = {version!r}\n",
        f"{information}/METADATA": metadata,
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},sha256={_digest(text)},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{information}/RECORD": f"{record}{information}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def sdist(folder: Path, name: str) -> str:
    """A release without a wheel, whose VERSION is that of the setuptools which built it; the line that pins it."""
    package = name.replace("-", "_")
    setup = f"""
import pathlib, setuptools
pathlib.Path("{package}.py").write_text(f"VERSION = {{setuptools.__version__!r}}")
setuptools.setup(name="{name}", version="1.0", py_modules=["{package}"])
"""
    path = folder / f"{package}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in {
            "setup.py": setup,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"{package}-1.0/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True)


class Environment:
    """A virtual environment with a pip of its own, whose only index is a folder."""

    def __init__(self, folder: Path, pip: str) -> None:
        self.index = folder / "index of wheels"
        self.index.mkdir()
        self.python = folder / "an environment" / "bin" / "python"
        # The pip of this interpreter installs the other one: it costs less than the one that venv would unpack first.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.python.parent.parent], check=True)
        self._fetch("--python", self.python, "install", pip)
        self._fetch("download", "--require-hashes", "-r", BUILD_LOCK, "-d", self.index)

    def _fetch(self, *arguments: str | Path) -> None:
        done = run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)
        if done.returncode == 0:
            return
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(done.stderr)
        pytest.skip("no package index can be reached, and another pip is needed")

    def install(self, lock: Path) -> subprocess.CompletedProcess[str]:
        return run(
            ROOT / ".ci/install", self.python, lock, PIP_NO_INDEX="1", PIP_FIND_LINKS=self.index.resolve().as_uri()
        )

    def version_of(self, package: str) -> str:
        return run(self.python, "-c", f"import {package}; print({package}.VERSION)").stdout.strip()


@pytest.fixture(params=PIPS)
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    return Environment(tmp_path, request.param)


def test_a_lock_is_installed_and_built_by_what_is_locked_alone(
    environment: Environment, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """In one test, because an environment with a pip of its own takes longer than what is asked of it."""
    with subtests.test("what has no wheel"):
        assert_built_by_what_is_locked(environment, tmp_path)
    with subtests.test("newer releases in the index"):
        assert_installs_beside_newer_releases(environment, tmp_path)


def assert_installs_beside_newer_releases(environment: Environment, tmp_path: Path) -> None:
    """A requirement of a requirement names an extra, which the lock does not: a resolver would look at 2.0 for it."""
    extra = ("Provides-Extra: toml", "Requires-Dist: locked-toml; extra == 'toml'")
    lock = tmp_path / "complete.lock"
    lines = [
        wheel(environment.index, "locked-plugin", "1.0", "Requires-Dist: locked-base[toml]>=1.0"),
        wheel(environment.index, "locked-base", "1.0", *extra),
        wheel(environment.index, "locked-toml", "1.0"),
    ]
    for name in ("locked-plugin", "locked-base", "locked-toml"):
        wheel(environment.index, name, "2.0", *(extra if name == "locked-base" else ()))
    lock.write_text("".join(lines))
    done = environment.install(lock)
    assert done.returncode == 0, done.stderr
    assert [environment.version_of(f"locked_{name}") for name in ("plugin", "base", "toml")] == ["1.0"] * 3

    lock.write_text(lines[0].replace(lines[0][-9:-1], "0" * 8))
    changed = environment.install(lock)
    assert changed.returncode == 0, "what is installed already is not fetched again"
    run(environment.python, "-m", "pip", "uninstall", "-y", "locked-plugin")
    assert "hash" in environment.install(lock).stderr.lower()

    lock.write_text(lines[0])
    run(environment.python, "-m", "pip", "uninstall", "-y", "locked-base")
    incomplete = environment.install(lock)
    assert incomplete.returncode != 0
    assert "locked-base" in incomplete.stderr


def assert_built_by_what_is_locked(environment: Environment, tmp_path: Path) -> None:
    lock = tmp_path / "sdist.lock"
    lock.write_text(sdist(environment.index, "locked-built"))
    # What an isolated build would fetch, without a hash, as the newest release.
    wheel(environment.index, "setuptools", "999.0")
    done = environment.install(lock)
    assert done.returncode == 0, done.stderr
    assert f"setuptools=={environment.version_of('locked_built')}" in BUILD_LOCK.read_text()


def installs(text: str) -> bool:
    """Whether a script runs pip's install, on a line that may be continued."""
    return re.search(r"\bpip[\d.]*\b.*\binstall\b", re.sub(r"\\\s*\n", " ", text)) is not None


def test_nothing_is_installed_by_another_way() -> None:
    """The make rules, the image and the check of the project install by the one script."""
    assert installs((ROOT / ".ci/install").read_text())
    assert installs("python -m pip \\\n    --quiet \\\n    install x")
    assert installs("pip3.11 install x")
    assert not installs("pip check\n.ci/install python lock")
    for name in ("Makefile", "Dockerfile", ".ci/run", ".ci/services"):
        assert not installs((ROOT / name).read_text()), name


def entries_of(lock: Path) -> dict[str, str]:
    """The version of each package that the lock names for this interpreter and system."""
    lines = re.findall(r"^([^\s#-].*?)\s*\\?$", lock.read_text(), re.MULTILINE)
    found = (Requirement(line) for line in lines)
    return {
        canonicalize_name(entry.name): next(iter(entry.specifier)).version
        for entry in found
        if entry.marker is None or entry.marker.evaluate()
    }


def missing_from(entries: dict[str, str], roots: list[str], requires: Callable[[str], list[str]]) -> set[str]:
    """What the packages require, those of extras that are asked for too, and no entry meets."""
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(root), "") for root in roots] + [(Requirement(name), "") for name in entries]
    while waiting:
        asked, of_extra = waiting.pop()
        if asked.marker is not None and not asked.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(asked.name)
        if name not in entries or not asked.specifier.contains(entries[name], prereleases=True):
            missing.add(str(asked))
            continue
        for extra in {"", *asked.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(Requirement(line), extra) for line in requires(name)]
    return missing


def roots_of(*extras: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements.lock", ()), ("requirements-dev.lock", ("dev",))], ids=["service", "dev"]
)
def test_the_lock_of_what_is_installed_here_is_complete(lock: str, extras: tuple[str, ...]) -> None:
    entries, roots = entries_of(ROOT / lock), roots_of(*extras)
    assert missing_from(entries, roots, lambda name: requires(name) or []) == set()
    # What only a requirement brings would be missed.
    [brought] = [name for name in entries if name == "h11"]
    fewer = {name: version for name, version in entries.items() if name != brought}
    assert missing_from(fewer, roots, lambda name: requires(name) or []) != set()


@pytest.mark.long
def test_the_lock_of_the_benchmarks_is_complete() -> None:
    """Nothing of it is installed here: an index tells what its packages require. `make bench` checks it, too."""
    lock = ROOT / "bench/requirements.lock"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--dry-run"]
    done = run(*pip, "--ignore-installed", "--no-deps", "--no-build-isolation", "--report", "-", "-r", str(lock))
    if done.returncode != 0:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(done.stderr)
        pytest.skip("no package index can be reached, and the benchmarks' packages are needed")
    told = {
        canonicalize_name(item["metadata"]["name"]): item["metadata"].get("requires_dist", [])
        for item in json.loads(done.stdout)["install"]
    }
    roots = [line for line in (ROOT / "bench/requirements.in").read_text().splitlines() if not line.startswith("#")]
    entries = entries_of(lock)
    assert entries.keys() == told.keys()
    assert missing_from(entries, roots, lambda name: told[canonicalize_name(name)]) == set()
