"""The commit of a folder is found, and nothing that its repository names is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgescope.store.commit import working_commit

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Git in the folder ``repo``, which is the working directory and has one commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")

    def run(*arguments: str, at: Path | str = ".") -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
        done = subprocess.run(["git", *who, *arguments], cwd=at, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    Path("file").write_text("one\n")
    Path("folder").mkdir()
    Path("folder/other").write_text("two\n")
    run("add", ".")
    run("commit", "-qm", "first")
    return run


def test_the_commit_and_whether_files_differ(git: Git, tmp_path: Path) -> None:
    head = git("rev-parse", "HEAD")
    assert working_commit() == head
    assert working_commit("folder") == head
    Path("untracked").touch()
    assert working_commit() == head
    os.utime("file", (1, 1))  # another time stamp, the same content
    assert working_commit() == head
    Path("file").write_text("two\n")
    assert working_commit() == working_commit("folder") == f"{head}-dirty"
    git("add", "file")
    assert working_commit() == f"{head}-dirty"
    git("commit", "-qm", "second")
    git("tag", "v1")
    assert working_commit() == git("rev-parse", "HEAD") != head
    git("pack-refs", "--all")
    git("gc", "-q")
    assert working_commit() == git("rev-parse", "HEAD")
    Path("file").unlink()
    assert working_commit() == f"{git('rev-parse', 'HEAD')}-dirty"
    assert not list(Path(".git").glob("*.lock"))


def test_other_worktrees_and_branches(git: Git, tmp_path: Path) -> None:
    git("worktree", "add", "-q", "-b", "branch", str(tmp_path / "beside"))
    head = git("rev-parse", "HEAD")
    assert working_commit(tmp_path / "beside") == head
    (tmp_path / "beside" / "file").write_text("three\n")
    assert (working_commit(tmp_path / "beside"), working_commit()) == (f"{head}-dirty", head)


def test_line_ends_and_modes_as_the_repository_has_them(git: Git) -> None:
    git("config", "core.fileMode", "false")
    Path("file").chmod(0o755)
    assert working_commit() == git("rev-parse", "HEAD")
    git("config", "core.autocrlf", "true")
    Path("file").write_bytes(b"one\r\n")
    assert working_commit() == git("rev-parse", "HEAD")


def test_no_repository_no_commit_and_no_git(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare").mkdir()
    assert working_commit(tmp_path / "bare") is None
    git("init", "-q", at=tmp_path / "bare")
    assert working_commit(tmp_path / "bare") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert working_commit() is None


def test_a_repository_named_by_the_environment_is_not_meant(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("init", "-q", "-b", "main", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert (working_commit() or "").isalnum()


TRAPS = {
    "fsmonitor": ("core.fsmonitor",),
    "filters": ("filter.trap.clean", "filter.trap.smudge", "filter.trap.process"),
    "hooks": (),
    "pagers and editors": ("core.pager", "pager.diff", "pager.config", "pager.rev-parse", "core.editor"),
    "differences": ("diff.external", "diff.trap.textconv", "diff.trap.command", "interactive.diffFilter"),
    "aliases": ("alias.diff", "alias.rev-parse", "alias.config", "alias.describe"),
    "remotes": ("core.sshCommand", "core.gitProxy", "remote.origin.uploadpack", "credential.helper"),
    "alternate references": ("core.alternateRefsCommand", "uploadpack.packObjectsHook", "gpg.program"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_nothing_that_a_repository_names_is_run(git: Git, tmp_path: Path, trap: str) -> None:
    sprung, script = tmp_path / "sprung", tmp_path / "trap.sh"
    script.write_text(f"#!/bin/sh\necho $0 $* >> {sprung}\nexit 1\n")
    script.chmod(0o755)
    Path(".gitattributes").write_text("* filter=trap diff=trap\n")
    git("add", ".gitattributes")
    git("commit", "-qm", "attributes")
    head = git("rev-parse", "HEAD")
    for name in TRAPS[trap]:
        git("config", name, f"!{script}" if name.startswith("alias.") else str(script))
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-auto-gc", "query-watchman"):
        Path(".git/hooks").mkdir(exist_ok=True)
        Path(".git/hooks", hook).unlink(missing_ok=True)
        if trap == "hooks":
            Path(".git/hooks", hook).symlink_to(script)
    os.utime("file", (1, 1))
    assert working_commit() == head
    Path("file").write_text("changed\n")
    assert working_commit() == f"{head}-dirty"
    assert not sprung.exists(), sprung.read_text()


def test_the_trap_is_real(git: Git, tmp_path: Path) -> None:
    """What git does by itself: the test above can fail."""
    sprung = tmp_path / "sprung"
    git("config", "core.fsmonitor", f"touch {sprung}; false")
    git("describe", "--always", "--dirty")
    assert sprung.exists()


def test_a_trap_in_a_submodule_is_not_sprung(git: Git, tmp_path: Path) -> None:
    git("submodule", "add", "-q", "./", "inner")
    git("commit", "-qm", "a submodule")
    sprung = tmp_path / "sprung"
    git("config", "core.fsmonitor", f"touch {sprung}; false", at="inner")
    git("config", "submodule.inner.ignore", "none")
    git("config", "-f", ".gitmodules", "submodule.inner.ignore", "none")
    git("commit", "-qam", "and its changes matter")
    sprung.unlink(missing_ok=True)
    Path("inner/file").write_text("changed\n")
    assert working_commit() == git("rev-parse", "HEAD")
    assert not sprung.exists()


def test_objects_that_a_remote_has_promised_are_not_fetched(git: Git, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    git("config", "remote.origin.url", "ssh://nowhere/repo")
    git("config", "remote.origin.promisor", "true")
    git("config", "extensions.partialClone", "origin")
    git("config", "core.sshCommand", f"touch {sprung}; false")
    for stored in Path(".git/objects").glob("??/*"):
        stored.unlink()
    working_commit()
    assert not sprung.exists()
