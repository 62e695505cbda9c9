"""Arrays from files: the same values and dtype, mapped where possible, and a clear word about bad files."""

import os
import socket
import threading
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cosmeans.errors import FileError, InputError, OptionError
from cosmeans.rows.readers.array_files import open_array
from refusing import leave_memory

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

    opened = open_array(path)

    assert np.asarray(opened).dtype == dtype
    assert np.array_equal(np.asarray(opened), values)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bfloat16_stays_bfloat16(tmp_path, suffix):
    rows = torch.from_numpy(VALUES).bfloat16()
    path = tmp_path / f"rows{suffix}"
    torch.save(rows, path) if suffix == ".pt" else save_file({"rows": rows}, path)

    opened = open_array(path)

    assert opened.dtype == torch.bfloat16
    assert torch.equal(opened, rows)


def test_a_npy_file_is_mapped_and_read_only(tmp_path):
    opened = open_array(write(tmp_path / "rows.npy", VALUES))

    assert isinstance(opened, np.memmap)
    assert not opened.flags.writeable


@pytest.mark.linux
@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
def test_a_file_that_can_be_mapped_is_read_only_when_its_rows_are(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", np.ones((16_384, 1024), np.float32))

    opened = open_array(path)
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
        open_array(path)
    with pytest.raises(OptionError, match=r"key='c': no such array.*It holds: a, b"):
        open_array(path, "c")
    assert np.array_equal(np.asarray(open_array(path, "b")), other)


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_a_key_for_a_file_with_one_nameless_array_is_an_error(tmp_path, suffix):
    with pytest.raises(OptionError, match="Remove the key"):
        open_array(write(tmp_path / f"rows{suffix}", VALUES), "a")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_told(tmp_path, suffix, share):
    path = write(tmp_path / f"rows{suffix}", np.random.default_rng(0).random((50, 40)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(FileError, match=f"rows{suffix} .*damaged"):
        open_array(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("start", [b"", b"\x80\x02"])
def test_garbage_is_told(tmp_path, suffix, start):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(start + b"these are no numbers, nor were they ever meant to be" * 9)

    with pytest.raises(FileError, match=f"rows{suffix} .*damaged"):
        open_array(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_arrays_are_never_loaded(tmp_path, suffix):
    write(tmp_path / f"rows{suffix}", np.array([[object()]]))

    with pytest.raises(FileError, match="pickled Python objects"):
        open_array(tmp_path / f"rows{suffix}")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('pickle ran')",)


def test_code_in_a_torch_file_does_not_run(tmp_path):
    torch.save({"rows": Bomb()}, tmp_path / "rows.pt")

    with pytest.raises(FileError, match="holds objects other than tensors"):
        open_array(tmp_path / "rows.pt")


def test_a_torch_file_with_something_else_is_told(tmp_path):
    torch.save([1, 2], tmp_path / "rows.pt")

    with pytest.raises(FileError, match="holds a list; expected a tensor"):
        open_array(tmp_path / "rows.pt")


def test_an_old_torch_file_is_read(tmp_path):
    torch.save(torch.from_numpy(VALUES), tmp_path / "rows.pt", _use_new_zipfile_serialization=False)

    assert np.array_equal(open_array(tmp_path / "rows.pt").numpy(), VALUES)


def test_the_wrong_rank_is_told(tmp_path):
    path = write(tmp_path / "rows.npy", np.ones((2, 3, 4)))

    with pytest.raises(InputError, match=r"shape \(2, 3, 4\); expected rows of shape \(N, D\)"):
        open_array(path)
    with pytest.raises(InputError, match="expected 1 dimension"):
        open_array(path, n_dims=1)


def test_missing_unknown_and_unreadable_files_are_told(tmp_path, monkeypatch):
    with pytest.raises(FileError, match=r"No such file: .*none.npy"):
        open_array(tmp_path / "none.npy")
    with pytest.raises(FileError, match=r"No such file: .*none.csv"):
        open_array(tmp_path / "none.csv")
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(
        FileError, match=r"unsupported file type \(.csv\). Supported: .npy, .npz, .pt, .pth, .safetensors"
    ):
        open_array(tmp_path / "rows.csv")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(FileError, match="is not a file"):
        open_array(tmp_path / "folder.npy")

    path = write(tmp_path / "rows.npy", VALUES)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # tests may run as root, who may read all
    with pytest.raises(FileError, match=r"Can't read .*permission denied"):
        open_array(path)


def test_a_file_without_rows_opens(tmp_path):
    assert open_array(write(tmp_path / "rows.npy", np.ones((0, 3), np.float32))).shape == (0, 3)


@pytest.mark.linux
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder"])
def test_only_regular_files_are_opened_and_nothing_is_waited_for(tmp_path, monkeypatch, suffix, kind):
    path = tmp_path / f"rows{suffix}"
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            monkeypatch.chdir(tmp_path)  # the name of a socket is short
            with socket.socket(socket.AF_UNIX) as held:
                held.bind(path.name)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a folder":
            path.mkdir()
    told = []

    def read():
        with pytest.raises(FileError, match=rf"rows{suffix} is not a file") as caught:
            open_array(path)
        told.append(str(caught.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)

    assert len(told) == 1, "it waits"
    assert kind in told[0] or kind == "a folder"


def test_names_that_are_equal_as_text_are_told(tmp_path):
    torch.save({1: torch.ones(2, 2), "1": torch.zeros(2, 2)}, tmp_path / "rows.pt")
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        for name in ("1", "1.npy"):
            with archive.open(name, "w") as file:
                np.save(file, VALUES)
    entry = '"1":{"dtype":"F32","shape":[1,1],"data_offsets":[%d,%d]}'
    write_safetensors(tmp_path / "rows.safetensors", f"{{{entry % (0, 4)},{entry % (4, 8)}}}")

    for suffix in ("pt", "npz"):
        for key in (None, "1"):
            with pytest.raises(FileError, match=r"several arrays with the name '1'"):
                open_array(tmp_path / f"rows.{suffix}", key)
    with pytest.raises(FileError, match="a name appears twice"):
        open_array(tmp_path / "rows.safetensors", "1")


def npy(header, version=1):
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode()


NPY_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"


@pytest.mark.parametrize(
    "content",
    [
        npy(NPY_HEADER % "(1000000000, 768)"),
        npy(NPY_HEADER % f"({2**80}, 3)"),
        npy(NPY_HEADER % "(-1, 3)"),
        npy(NPY_HEADER % "None"),
        npy(NPY_HEADER.replace("<f4", "q9") % "(1, 3)"),
        npy(NPY_HEADER % "(1, 3)", version=9),
        npy("(" * 9000),
        npy("{'descr': '''"),
        npy("1e400"),
        npy("{}" + "[" * 200),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        b"\x93NUMPY\x01",
    ],
    ids=lambda given: len(given),
)
def test_headers_of_npy_are_not_believed(tmp_path, content):
    (tmp_path / "rows.npy").write_bytes(content + bytes(8))

    with pytest.raises(FileError, match=r"rows.npy is truncated or damaged"):
        open_array(tmp_path / "rows.npy")


def write_safetensors(path, header, content=bytes(8)):
    raw = header.encode("utf-8", "surrogatepass")
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content)


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[9,9],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,80]}}',
        '{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]}}',
        '{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[8,0]}}',
        '{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[1.0,2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[1,2]}}',
        '{"a":{"dtype":["F32"],"shape":[1,2],"data_offsets":[0,8]}}',
        '{"a":7}',
        "[]",
        "7",
        "[" * 50_000,
        "\ud800",
    ],
    ids=lambda given: len(given),
)
def test_headers_of_safetensors_are_not_believed(tmp_path, header):
    write_safetensors(tmp_path / "rows.safetensors", header)

    with pytest.raises(FileError, match=r"rows.safetensors is truncated or damaged"):
        open_array(tmp_path / "rows.safetensors")


def test_a_safetensors_file_declares_no_header_that_it_has_not(tmp_path):
    (tmp_path / "rows.safetensors").write_bytes((10**15).to_bytes(8, "little") + b"{}")

    with pytest.raises(FileError, match=r"declares a header of 1,000.0 TB in a file of 10 bytes"):
        open_array(tmp_path / "rows.safetensors")


def test_a_safetensors_file_of_any_alignment_is_read(tmp_path):
    header = (
        '{"a":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},'
        '"b":{"dtype":"F32","shape":[4,3],"data_offsets":[1,49]}}'
    )
    write_safetensors(tmp_path / "rows.safetensors", header, b"x" + VALUES.tobytes())

    assert np.array_equal(open_array(tmp_path / "rows.safetensors", "b").numpy(), VALUES)


@pytest.mark.parametrize("name", ["rows.npz", "rows.pt"])
def test_what_unpacks_to_more_than_the_memory_is_told_with_its_size(tmp_path, name, monkeypatch):
    leave_memory(monkeypatch, 10**6)
    if name == "rows.npz":
        np.savez_compressed(tmp_path / name, np.zeros((10_000, 100), np.float32))
    else:
        torch.save(torch.zeros(1, 100).expand(10_000, 100), tmp_path / name)

    with pytest.raises(FileError, match=rf"{name} (unpacks to|declares) 4.0 MB, and 1.0 MB of memory are free"):
        open_array(tmp_path / name)


def test_a_torch_file_allocates_nothing_that_a_few_bytes_declare(tmp_path):
    torch.save({"rows": torch.ones(2, 2), "bytes": bytearray(9)}, tmp_path / "rows.pt")
    torch.save({"rows": bytearray(9)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("packed/data.pkl", bytes(100_000))

    for name in ("rows.pt", "old.pt"):
        with pytest.raises(FileError, match="objects other than tensors"):
            open_array(tmp_path / name)
    with pytest.raises(FileError, match=r"data.pkl declares 100.0 kB in packed form"):
        open_array(tmp_path / "packed.pt")
