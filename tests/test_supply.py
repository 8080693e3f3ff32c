"""Each dependency is pinned by a hash, and the tree holds no secret."""

import re
import secrets
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ;[^\\]+)?( --hash=sha256:[0-9a-f]{64})+")
# The forms by which the issuers themselves let a scanner know their keys, and a private key in PEM (RFC 7468).
SECRET = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abpr]-[0-9A-Za-z-]{20,}|\bsk_live_[0-9A-Za-z]{20,}"
)


def unpinned(lock: str) -> list[str]:
    """The requirements of a lock without an exact version and a hash."""
    text = re.sub(r"\s*\\\n\s*", " ", lock)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line for line in lines if not REQUIREMENT.fullmatch(line.strip())]


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_each_requirement_of_a_lock_is_pinned_by_a_hash(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "==" in text
    assert unpinned(text) == []


def test_the_audit_reads_every_lock_of_the_service() -> None:
    shown = subprocess.run(["make", "--dry-run", "audit"], cwd=ROOT, capture_output=True, text=True).stdout
    audited = set(re.findall(r"-r (\S+\.lock)", shown.partition("pip_audit")[2]))
    assert audited == {path.name for path in ROOT.glob("requirements*.lock")} - {"requirements-audit.lock"}
    assert "--require-hashes" in shown
    # A package of which nothing is known is no clean one.
    assert "--strict" in shown


def test_a_requirement_without_a_hash_or_an_exact_version_is_found() -> None:
    pin = f" \\\n    --hash=sha256:{'0' * 64}\n"
    assert unpinned("a==1" + pin + "b==1\n" + "c>=1" + pin) == ["b==1", f"c>=1 --hash=sha256:{'0' * 64}"]


def test_the_tree_holds_no_secret() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git repository")
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert len(files) > 100
    found = [str(path) for path in files if SECRET.search(path.read_text(errors="replace"))]
    assert found == []


def test_a_secret_is_found() -> None:
    for made in ("AKIA" + "A1" * 8, "ghp_" + secrets.token_hex(18)):
        assert SECRET.search(f"key = {made}\n")
