"""Files and folders are whole or absent, and damage is named."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.base.errors import ArtifactError, TutelageError
from tutelage.base.files import (
    artifact_dir,
    atomic_write_text,
    clear_leftovers,
    disk_errors,
    folder_digest,
    remove_dir,
    sha256_file,
    verify_manifest,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def make(target: Path, **files: str) -> None:
    with artifact_dir(target) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def test_sha256_is_the_published_one(tmp_path):
    (tmp_path / "a").write_text("abc")
    assert sha256_file(tmp_path / "a") == ABC


def test_an_artifact_appears_whole_with_its_manifest(tmp_path):
    with artifact_dir(tmp_path / "new" / "model") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("abc")
        assert not (tmp_path / "new" / "model").exists()
    manifest = json.loads((tmp_path / "new" / "model" / "MANIFEST.json").read_text())
    assert manifest == {"files": {"sub/a": {"sha256": ABC, "bytes": 3}}}
    verify_manifest(tmp_path / "new" / "model")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_artifact_and_no_litter(tmp_path):
    make(tmp_path / "m", a="old")
    with pytest.raises(KeyboardInterrupt), artifact_dir(tmp_path / "m") as folder:
        (folder / "a").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "m" / "a").read_text() == "old"
    verify_manifest(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_new_artifact_replaces_the_old_one_entirely(tmp_path):
    make(tmp_path / "m", a="old", b="old")
    make(tmp_path / "m", a="new")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["MANIFEST.json", "a"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tutelage.base.files import artifact_dir
target, when = Path(sys.argv[1]), sys.argv[2]
rename = os.rename
def killing_rename(source, to):
    if Path(to) == target:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, to)
os.rename = killing_rename
with artifact_dir(target) as folder:
    (folder / "a").write_text("new")
    if when == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["writing", "renaming"])
def test_what_a_killed_process_left_is_cleared_and_its_target_kept(tmp_path, when):
    make(tmp_path / "m", a="old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m"), when])
    assert killed.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2
    with pytest.raises(RuntimeError), artifact_dir(tmp_path / "m"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["m"]
    verify_manifest(tmp_path / "m")
    assert (tmp_path / "m" / "a").read_text() == "old"


def test_leftovers_are_cleared_and_nothing_else(tmp_path):
    make(tmp_path / "kept", a="1")
    make(tmp_path / ".put-back.old-7-89abcdef", a="2")
    make(tmp_path / ".kept.old-7-89abcdef", a="older")
    make(tmp_path / ".half.tmp-7-89abcdef", a="3")
    (tmp_path / ".file.tmp-0123456789ab").write_text("half")
    of_the_user = [".diary.old-2024", ".hidden", ".thesis.tmp-2024"]
    for name in of_the_user:
        (tmp_path / name).write_text("of the user")
    (tmp_path / ".link.tmp-7-89abcdef").symlink_to(tmp_path / "kept")
    clear_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [*of_the_user, "kept", "put-back"]
    assert [(tmp_path / name / "a").read_text() for name in ("kept", "put-back")] == ["1", "2"]


def test_a_folder_is_out_of_sight_before_the_first_of_its_files_is_deleted(tmp_path, monkeypatch):
    make(tmp_path / "m", a="1")

    def killed(folder, **_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        remove_dir(tmp_path / "m")
    (left,) = tmp_path.iterdir()
    verify_manifest(left)
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("damage", "says"), [
    (lambda m: (m / "a").write_text("xyz"), "a: damaged, its sha256 is not the one in MANIFEST.json"),
    (lambda m: (m / "a").write_text("ab"), "a: damaged, 2 bytes where MANIFEST.json says 3"),
    (lambda m: (m / "a").unlink(), "a: missing, though MANIFEST.json lists it"),
    (lambda m: (m / "MANIFEST.json").unlink(), "MANIFEST.json: no such file"),
    (lambda m: (m / "MANIFEST.json").write_text("{"), "MANIFEST.json: damaged, not a manifest"),
    (lambda m: (m / "MANIFEST.json").write_text('{"files": {"a": 3}}'), "MANIFEST.json: damaged, not a manifest"),
])
def test_damage_is_named(tmp_path, damage, says):
    make(tmp_path / "m", a="abc")
    damage(tmp_path / "m")
    with pytest.raises(ArtifactError) as caught:
        verify_manifest(tmp_path / "m")
    assert f"{tmp_path}/m/{says}" in str(caught.value) and caught.value.hint


def test_a_folder_digest_depends_on_names_and_contents_only(tmp_path):
    make(tmp_path / "m", a="1", b="2")
    for name, files in {"same": {"b": "2", "a": "1"}, "renamed": {"a": "1", "c": "2"}, "changed": {"a": "1", "b": "3"}}.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    digests = {name: folder_digest(tmp_path / name) for name in ("m", "same", "renamed", "changed")}
    assert digests["m"] == digests["same"] and len(set(digests.values())) == 3


def test_a_folder_digest_does_not_depend_on_the_order_of_the_file_system(tmp_path, monkeypatch):
    make(tmp_path / "m", a="1", b="2", c="3")
    before, listing = folder_digest(tmp_path / "m"), Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(listing(self, pattern))))
    assert folder_digest(tmp_path / "m") == before


def test_everything_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    synced: set[int] = set()
    renamed_unsynced: list[Path] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def check(move):
        def moved(source, target):
            inside = [source, *Path(source).rglob("*")] if Path(source).is_dir() else [source]
            renamed_unsynced.extend(p for p in inside if os.stat(p).st_ino not in synced)
            move(source, target)
        return moved

    monkeypatch.setattr(os, "fsync", lambda handle: (fsync(handle), synced.add(os.fstat(handle).st_ino)))
    monkeypatch.setattr(os, "rename", check(rename))
    monkeypatch.setattr(os, "replace", check(replace))
    atomic_write_text(tmp_path / "file", "x")
    make(tmp_path / "m", a="1")
    assert renamed_unsynced == []


def test_atomic_text_is_written_as_given_and_replaces(tmp_path):
    for text in ("one\r\ntwo\n", "drei ß\n"):
        atomic_write_text(tmp_path / "deep" / "f.txt", text)
        assert (tmp_path / "deep" / "f.txt").read_bytes() == text.encode()
    assert os.listdir(tmp_path / "deep") == ["f.txt"]


@pytest.mark.parametrize("write", [lambda path: atomic_write_text(path, "x"), lambda path: artifact_dir(path).__enter__()],
                         ids=["file", "folder"])
def test_nothing_takes_the_place_of_a_pipe_or_device(tmp_path, write):
    pipe = tmp_path / "null"
    os.mkfifo(pipe)                                                 # as /dev/null, which a rename by root would take from everybody
    with pytest.raises(TutelageError, match="null"):
        write(pipe)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path):
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    with pytest.raises(TutelageError, match="notes.txt"), artifact_dir(mine):
        pass
    assert mine.read_text() == "mine"


def test_a_folder_written_to_a_link_is_where_the_link_leads_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    for name, target in (("link", "far"), ("dangling", "new")):
        (tmp_path / name).symlink_to(target)
        with artifact_dir(tmp_path / name) as folder:
            (folder / "a").write_text("a")
        assert (tmp_path / name).is_symlink() and (tmp_path / target / "a").read_text() == "a"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "far", "link", "new"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TutelageError, match="cannot write .*file/x: File exists"):
        atomic_write_text(tmp_path / "file" / "x", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TutelageError, match="cannot write .*folder: Is a directory"):
        atomic_write_text(tmp_path / "folder", "")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


FILL = """
import sys
from pathlib import Path
from tutelage.base.errors import TutelageError
from tutelage.base.files import artifact_dir, atomic_write_bytes
target = Path(sys.argv[1])
for attempt in ("file", "folder"):
    try:
        if attempt == "file":
            atomic_write_bytes(target / "a", b"x" * 100_000)
        else:
            with artifact_dir(target) as folder:
                (folder / "a").write_bytes(b"x" * 100_000)
    except TutelageError as error:
        print(error, "|", error.hint)
"""


def test_a_full_disk_says_so_and_spares_what_was_there(tmp_path):
    # A limit on file size makes write(2) fail part way, as a full disk does, without being root.
    make(tmp_path / "m", a="abc")
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path / "m")], capture_output=True, text=True, check=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)))
    file_line, folder_line = done.stdout.splitlines()
    assert file_line.startswith(f"no room on the disk for {tmp_path}/m/a (") and "free some space" in file_line
    assert folder_line.startswith(f"no room on the disk for {tmp_path}/m (") and "--run-dir" not in folder_line    # not every verb has it
    verify_manifest(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the always-full device exists on Linux only")
def test_a_full_disk_is_recognised_through_other_libraries(tmp_path):
    with pytest.raises(TutelageError, match="no room on the disk"), disk_errors(tmp_path / "m"), open("/dev/full", "w") as full:
        full.write("x")
        full.flush()
    with pytest.raises(TutelageError, match="no room on the disk"), disk_errors(tmp_path / "m"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")  # safetensors' words
    with pytest.raises(TutelageError, match="cannot write .*m: Read-only file system"), disk_errors(tmp_path / "m"):
        raise RuntimeError("Error while serializing: I/O error: Read-only file system (os error 30)")
    with pytest.raises(TutelageError, match="cannot write .*m: Input/output error"), disk_errors(tmp_path / "m"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path / "m"):
        raise FileNotFoundError(errno.ENOENT, "of a file that is read")
    with pytest.raises(ValueError, match="other"), disk_errors(tmp_path / "m"):
        raise ValueError("other")
