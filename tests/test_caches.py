"""A folder under the temporary one is used only if it is this user's alone."""

import os
import tempfile

import pytest

from cosmeans.caches import temporary_folder, writable

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has a temporary folder for each user")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_is_made_for_this_user_alone(temporary):
    folder = temporary_folder()

    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    assert temporary_folder() == folder


@pytest.mark.linux
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701, 0o710, 0o1777])
def test_a_folder_open_to_others_is_not_used(temporary, mode):
    temporary_folder().chmod(mode)

    assert temporary_folder() is None


@pytest.mark.linux
def test_a_link_a_file_and_the_folder_of_somebody_else_are_not_used(temporary, tmp_path_factory):
    folder = temporary_folder()
    folder.rmdir()
    folder.write_text("")
    assert temporary_folder() is None
    folder.unlink()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o700)
    folder.symlink_to(elsewhere)
    assert temporary_folder() is None
    if os.geteuid() == 0:
        folder.unlink()
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        assert temporary_folder() is None


def test_the_working_directory_is_no_temporary_folder_unless_it_was_named(temporary, monkeypatch):
    monkeypatch.chdir(temporary)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)

    assert temporary_folder() is None
    monkeypatch.setenv("TMPDIR", str(temporary))
    assert temporary_folder() is not None


def test_a_folder_is_writable_if_a_file_can_be_written(tmp_path):
    assert writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    assert not writable(tmp_path / "file")
    assert not writable(tmp_path / "file" / "folder")
