"""Arrays from files: the same values and dtype, mapped where possible, and a clear word about bad files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.rows.files import open_file

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(path, values):
    """The same array in whatever kind the suffix says."""
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez_compressed(path, values)
        case ".pt" | ".pth":
            torch.save(torch.from_numpy(values), path)
        case ".safetensors":
            save_file({"rows": torch.from_numpy(values)}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".safetensors", ".NPY"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_kind_gives_the_values_that_were_written(tmp_path, suffix, dtype):
    values = VALUES.astype(dtype)
    path = write(tmp_path / f"rows{suffix.lower()}", values).rename(tmp_path / f"rows{suffix}")

    opened = open_file(path)

    assert np.asarray(opened).dtype == dtype
    assert np.array_equal(np.asarray(opened), values)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bfloat16_stays_bfloat16(tmp_path, suffix):
    rows = torch.from_numpy(VALUES).bfloat16()
    path = tmp_path / f"rows{suffix}"
    torch.save(rows, path) if suffix == ".pt" else save_file({"rows": rows}, path)

    opened = open_file(path)

    assert opened.dtype == torch.bfloat16
    assert torch.equal(opened, rows)


def test_a_npy_file_is_mapped_and_read_only(tmp_path):
    opened = open_file(write(tmp_path / "rows.npy", VALUES))

    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
def test_a_file_that_can_be_mapped_is_read_only_when_its_rows_are(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", np.ones((16_384, 1024), np.float32))

    opened = open_file(path)
    before = _resident_bytes()
    np.asarray(opened).sum(dtype=np.float64)
    grown = _resident_bytes() - before

    # a mapped file becomes resident as it is read; a copied one was resident before
    assert grown > path.stat().st_size * 0.9


def _resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_several_arrays_need_a_key_and_are_listed(tmp_path, suffix):
    path, other = tmp_path / f"rows{suffix}", -VALUES
    match suffix:
        case ".npz":
            np.savez(path, a=VALUES, b=other)
        case ".pt":
            torch.save({"a": torch.from_numpy(VALUES), "b": torch.from_numpy(other), "step": 3}, path)
        case ".safetensors":
            save_file({"a": torch.from_numpy(VALUES), "b": torch.from_numpy(other)}, path)

    with pytest.raises(OptionError, match=r"holds 2 arrays.*It holds: a, b"):
        open_file(path)
    with pytest.raises(OptionError, match=r"key='c': no such array.*It holds: a, b"):
        open_file(path, "c")
    assert np.array_equal(np.asarray(open_file(path, "b")), other)


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_a_key_for_a_file_with_one_nameless_array_is_an_error(tmp_path, suffix):
    with pytest.raises(OptionError, match="Leave the key away"):
        open_file(write(tmp_path / f"rows{suffix}", VALUES), "a")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_told(tmp_path, suffix, share):
    path = write(tmp_path / f"rows{suffix}", np.random.default_rng(0).random((50, 40)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(FileError, match=f"rows{suffix} .*damaged"):
        open_file(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("start", [b"", b"\x80\x02"])
def test_garbage_is_told(tmp_path, suffix, start):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(start + b"these are no numbers, nor were they ever meant to be" * 9)

    with pytest.raises(FileError, match=f"rows{suffix} .*damaged"):
        open_file(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_arrays_are_never_loaded(tmp_path, suffix):
    write(tmp_path / f"rows{suffix}", np.array([[object()]]))

    with pytest.raises(FileError, match="pickled Python objects"):
        open_file(tmp_path / f"rows{suffix}")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('pickle ran')",)


def test_code_in_a_torch_file_does_not_run(tmp_path):
    torch.save({"rows": Bomb()}, tmp_path / "rows.pt")

    with pytest.raises(FileError, match="holds other things than tensors"):
        open_file(tmp_path / "rows.pt")


def test_a_torch_file_with_something_else_is_told(tmp_path):
    torch.save([1, 2], tmp_path / "rows.pt")

    with pytest.raises(FileError, match="holds a list; needed: a tensor"):
        open_file(tmp_path / "rows.pt")


def test_an_old_torch_file_is_read(tmp_path):
    torch.save(torch.from_numpy(VALUES), tmp_path / "rows.pt", _use_new_zipfile_serialization=False)

    assert np.array_equal(open_file(tmp_path / "rows.pt").numpy(), VALUES)


def test_the_wrong_rank_is_told(tmp_path):
    path = write(tmp_path / "rows.npy", np.ones((2, 3, 4)))

    with pytest.raises(InputError, match=r"shape \(2, 3, 4\); needed: rows of shape \(N, D\)"):
        open_file(path)
    with pytest.raises(InputError, match="needed: 1 dimension"):
        open_file(path, n_dims=1)


def test_missing_unknown_and_unreadable_files_are_told(tmp_path, monkeypatch):
    with pytest.raises(FileError, match=r"No such file: .*none.npy"):
        open_file(tmp_path / "none.npy")
    with pytest.raises(FileError, match=r"unknown kind \(.csv\). Known: .npy, .npz, .pt, .pth, .safetensors"):
        open_file(tmp_path / "rows.csv")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(FileError, match="is not a file"):
        open_file(tmp_path / "folder.npy")

    path = write(tmp_path / "rows.npy", VALUES)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np.lib.format, "open_memmap", denied)  # tests may run as root, who may read all
    with pytest.raises(FileError, match=r"Can't read .*permission denied"):
        open_file(path)


def test_a_file_without_rows_opens(tmp_path):
    assert open_file(write(tmp_path / "rows.npy", np.ones((0, 3), np.float32))).shape == (0, 3)
