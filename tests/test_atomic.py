"""Files that appear whole or not at all: what a disk that refuses leaves behind, and what is said of it."""

import errno
import multiprocessing
import os
import platform
import re
import signal
import socket
import sys

import numpy as np
import pytest

from cosmeans.atomic import new_file, new_folder, put_back, refuse_existing
from cosmeans.errors import OutputExistsError, WriteError
from refusing import without_exchange

soak = pytest.mark.soak


def test_a_file_appears_whole(tmp_path):
    with new_file(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("whole")
        assert os.listdir(tmp_path / "new") == [temporary.name]

    assert os.listdir(tmp_path / "new") == ["file.txt"]
    assert (tmp_path / "new/file.txt").read_text() == "whole"


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    def write():
        with new_file(tmp_path / "file.txt", force=True) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()

    assert os.listdir(tmp_path) == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_what_exists_is_refused_before_the_block_begins(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    with pytest.raises(OutputExistsError, match="already exists"), new_file(tmp_path / "file.txt"):
        pytest.fail("the block began")


@pytest.mark.linux
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("by_itself", [False, True])
def test_a_full_disk_is_told(tmp_path, by_itself):
    """NumPy writes large arrays by itself, and its error for a short write has no number."""
    with (
        pytest.raises(WriteError, match=r"No space left to write .*file.npy; what was there before is untouched"),
        new_file(tmp_path / "file.npy"),
        open("/dev/full", "wb") as full,
    ):
        np.zeros(200_000).tofile(full) if by_itself else full.write(b"0" * 100_000)

    assert os.listdir(tmp_path) == []


@pytest.mark.linux
@pytest.mark.parametrize("able", [True, False], ids=["exchanged", "renamed twice"])
@pytest.mark.parametrize(
    ("folder", "existed"),
    [(True, True), *(pytest.param(*case, marks=soak) for case in ((True, False), (False, True), (False, False)))],
)
def test_a_writer_killed_at_any_step_leaves_the_old_the_new_or_nothing(tmp_path, monkeypatch, folder, existed, able):
    """The child stops before each of its calls of the system in turn; then the next writer finds its way."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what a process leaves behind does not depend on the disk
    if not able:
        without_exchange(monkeypatch)
    for step in range(1, 200):
        place = tmp_path / str(step)
        place.mkdir()
        if existed:
            write(place / "out", "old", folder)
        killed = killed_at(step, write, place / "out", "new", folder, force=existed)
        put_back(place / "out")

        assert read(place / "out") in ({"old", "new"} if existed else {None, "new"}), step
        write(place / "out", "newer", folder, force=True)
        assert read(place / "out") == "newer"
        kept = [path for path in place.iterdir() if path.name != "out"]
        assert all(path.name.endswith(".old") and read(path) == "old" for path in kept), step
        if not killed:
            break

    assert step > 10
    assert not killed


def write(path, text, folder, force=False):
    with new_folder(path, force) if folder else new_file(path, force) as temporary:
        for part in ("a", "b") if folder else ("",):
            (temporary / part).write_text(text)


def read(path):
    """The text of a file, or of both files of a folder; None if it is not there."""
    texts = {part.read_text() for part in (path.iterdir() if path.is_dir() else [path])} if path.exists() else {None}
    assert len(texts) == 1
    return texts.pop()


def killed_at(step, action, *arguments, **options):
    """Run the action in a child that is killed before the given one of its calls; whether it got so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event, _):
            if event == "open" or event.startswith(("os.", "fcntl.", "ctypes.")):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action(*arguments, **options)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.linux
@pytest.mark.parametrize("able", [True, False], ids=["system's rename", "without"])
@pytest.mark.parametrize(
    ("folder", "trials"), [(True, 1), (False, 1), *(pytest.param(folder, 50, marks=soak) for folder in (True, False))]
)
def test_of_several_writers_at_once_one_wins_and_the_others_are_told(tmp_path, monkeypatch, folder, able, trials):
    if not able:
        without_exchange(monkeypatch)
    for trial in range(trials):
        place, start = tmp_path / str(trial), multiprocessing.get_context("fork").Event()
        place.mkdir()
        children = [forked(together, start, place / "out", str(number), folder) for number in range(4)]
        start.set()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

        assert sorted(codes) == [0, 7, 7, 7]
        assert read(place / "out") == str(codes.index(0))
        assert os.listdir(place) == ["out"]


def together(start, path, text, folder):
    start.wait()
    try:
        write(path, text, folder)
    except OutputExistsError:
        os._exit(7)


def forked(action, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action(*arguments)
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.linux
@pytest.mark.parametrize("folder", [False, True])
def test_what_a_living_writer_writes_is_neither_removed_nor_written_twice(tmp_path, folder):
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()

    def slow():
        with new_folder(tmp_path / "out") if folder else new_file(tmp_path / "out") as temporary:
            (temporary / "a" if folder else temporary).write_text("slow")
            begun.set()
            end.wait()

    child = forked(slow)
    begun.wait()
    with pytest.raises(OutputExistsError, match=r"out is being written by another process \(\.out\..*tmp\)"):
        write(tmp_path / "out", "quick", folder)
    write(tmp_path / "out", "forced", folder, force=True)
    assert read(tmp_path / "out") == "forced"
    end.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1, "the slow one is refused at its end"
    assert read(tmp_path / "out") == "forced"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.linux
def test_what_another_machine_or_an_unknown_file_system_may_be_writing_stays(tmp_path, monkeypatch):
    (tmp_path / ".out.zzzz0000.tmp").write_text("no name of ours")
    (tmp_path / ".out.txt.00000000.tmp").write_text("of another file")
    monkeypatch.setattr(platform, "node", lambda: "one")
    assert killed_at(12, write, tmp_path / "out", "half", folder=False)
    left = sorted(os.listdir(tmp_path))
    ours = [name for name in left if name not in (".out.zzzz0000.tmp", ".out.txt.00000000.tmp")]
    assert len(left) == 3
    assert re.fullmatch(r"\.out\.[0-9a-f]{8}\.\w+", ours[0])

    monkeypatch.setattr(platform, "node", lambda: "another")
    write(tmp_path / "out", "new", folder=False)
    assert sorted(os.listdir(tmp_path)) == [*left, "out"]
    monkeypatch.setattr(platform, "node", lambda: "one")
    monkeypatch.setattr("fcntl.flock", unsupported)
    write(tmp_path / "out", "new", folder=False, force=True)
    assert sorted(os.listdir(tmp_path)) == [*left, "out"]


def unsupported(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def test_what_was_set_aside_is_put_back_by_the_next_that_asks(tmp_path):
    write(tmp_path / ".out.01234567.old", "old", folder=True)

    with pytest.raises(OutputExistsError, match="already exists"):
        refuse_existing(tmp_path / "out", force=False)
    assert read(tmp_path / "out") == "old"
    write(tmp_path / ".out.89abcdef.old", "older", folder=True)
    write(tmp_path / "out", "new", folder=True, force=True)
    assert read(tmp_path / "out") == "new"
    assert read(tmp_path / ".out.89abcdef.old") == "older", "never removed"


@pytest.mark.linux
def test_what_a_living_writer_has_set_aside_is_left_to_it(tmp_path, monkeypatch):
    without_exchange(monkeypatch)
    write(tmp_path / "out", "old", folder=True)
    rename = os.rename

    def looked_for(source, target):
        rename(source, target)
        if str(target).endswith(".old"):
            os.waitpid(forked(put_back, tmp_path / "out"), 0)
            assert not (tmp_path / "out").exists()

    monkeypatch.setattr(os, "rename", looked_for)
    write(tmp_path / "out", "new", folder=True, force=True)

    assert read(tmp_path / "out") == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.linux
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("kind", ["device", "pipe", "socket", "link to a file", "link to a folder", "link", "other"])
def test_force_replaces_nothing_but_its_kind(tmp_path, monkeypatch, folder, kind):
    monkeypatch.chdir(tmp_path)
    path, aim = tmp_path / "out", tmp_path / "aim"
    match kind:
        case "device":
            path = tmp_path / "/dev/null"
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as held:
                held.bind("out")
        case "link to a file":
            aim.write_text("precious")
            path.symlink_to(aim)
        case "link to a folder":
            write(aim, "precious", folder=True)
            path.symlink_to(aim)
        case "link":
            path.symlink_to(aim)
        case "other":
            write(path, "precious", not folder)
    before = os.lstat(path)

    with pytest.raises(OutputExistsError, match=r"and force=True replaces (folders|regular files) only"):
        write(path, "new", folder, force=True)

    assert os.path.samestat(before, os.lstat(path))
    assert not aim.exists() or read(aim) == "precious"
    assert kind != "other" or read(path) == "precious"


def test_a_folder_with_other_things_is_not_replaced_and_what_comes_meanwhile_is_kept(tmp_path):
    write(tmp_path / "out", "old", folder=True)
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"out also holds files .*\(thesis.txt\)"), \
            new_folder(tmp_path / "out", force=True, owned=("a", "b")):  # fmt: skip
        pytest.fail("the block began")
    (tmp_path / "out" / "thesis.txt").unlink()

    with new_folder(tmp_path / "out", force=True, owned=("a", "b")) as temporary:
        (temporary / "a").write_text("new")
        (tmp_path / "out" / "notes.txt").write_text("written meanwhile")

    kept = next(path for path in tmp_path.iterdir() if path.name.endswith(".old"))
    assert (kept / "notes.txt").read_text() == "written meanwhile"
    assert read(tmp_path / "out") == "new"


@pytest.mark.parametrize(
    ("number", "words"),
    {
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file is larger than the file system",
        errno.EIO: "the disk reports an input/output error",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.EMFILE: "as many open files",
        errno.ENAMETOOLONG: "the name is longer",
        errno.ESTALE: "network share",
        errno.ENOMEM: "no memory or address space left",
        errno.ELOOP: "symbolic links",
        errno.E2BIG: "Argument list too long",
    }.items(),
)
def test_what_the_system_refuses_is_told_in_its_own_words(tmp_path, number, words):
    with pytest.raises(WriteError, match=f"Can't write .*out: .*{words}") as caught, new_file(tmp_path / "out"):
        raise OSError(number, os.strerror(number))

    assert "space" not in str(caught.value).replace("address space", "").replace("Free some space", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.linux
def test_a_file_beyond_the_limit_of_the_process_is_not_a_full_disk(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        for by_itself in (False, True):
            with pytest.raises(WriteError, match=r"larger than .*limit of this process.*ulimit -f"), \
                    new_file(tmp_path / "out.npy") as temporary, temporary.open("wb") as file:  # fmt: skip
                np.zeros(200_000).tofile(file) if by_itself else file.write(bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_names_too_long_and_places_that_can_not_be_written_are_told_before_the_block(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match=r"permission denied in .*Choose another folder"), new_file(tmp_path / "out"):
        pytest.fail("the block began")
    monkeypatch.undo()
    with pytest.raises(WriteError, match="the name is longer"), new_file(tmp_path / ("x" * 300)):
        pytest.fail("the block began")
    monkeypatch.setattr(os.path, "ismount", lambda _: True)
    with pytest.raises(OutputExistsError, match="mount point"), new_folder(tmp_path, force=True):
        pytest.fail("the block began")


def fail_in(make, path, beside=None):
    with make(path):
        assert path.parent.is_dir()
        if beside is not None:
            beside.touch()
        raise RuntimeError


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_folders_made_for_what_failed_go_again(tmp_path, make):
    (tmp_path / "there").mkdir()
    out = tmp_path / "there" / "a" / "b" / "out"

    with pytest.raises(RuntimeError):
        fail_in(make, out)
    assert list((tmp_path / "there").iterdir()) == []

    with pytest.raises(RuntimeError):
        fail_in(make, out, tmp_path / "there" / "a" / "of another")
    assert [entry.name for entry in (tmp_path / "there" / "a").iterdir()] == ["of another"]
