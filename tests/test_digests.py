"""Digests, compared with what Python's own integers and bytes give."""

import hashlib
import itertools
import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmeans import KMeans, label_digest
from cosmeans.cli import run
from cosmeans.errors import InputError, NoFitError
from cosmeans.version import NUMERICS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 5)).astype(np.float32)
LABELS = RNG.integers(-1, 300, 300_000)
CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def mixed(word):
    """The finalizer of SplitMix64, on Python's integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def hashed(row, label):
    gamma = 0x9E3779B97F4A7C15
    low, high = (mixed((mixed((row + n * gamma) % 2**64) + label) % 2**64) for n in (1, 2))
    return high << 64 | low


def expected_model_digest(kmeans):
    centroids = np.asarray(kmeans.cluster_centers_)
    of_centroids = hashlib.sha256(str(centroids.shape).encode() + centroids.tobytes()).hexdigest()
    last = kmeans.similarities[-1]  # at the fixed point the labels are those of the last epoch
    numbers = b"".join(struct.pack("<d", value) for value in [*kmeans.similarities, last])
    return hashlib.sha256(of_centroids.encode() + numbers).hexdigest()


def test_digest_of_labels_is_a_sum_of_hashes_over_the_rows():
    few = LABELS[:3000]
    total = sum(hashed(row, int(label)) for row, label in enumerate(few, 7)) % 2**128

    assert label_digest(few, first_row=7) == f"{total:032x}"
    assert label_digest(few[:0]) == "0" * 32


def test_digests_of_shards_add_up():
    cuts = [0, 1, 1, 120_001, 262_145, 300_000]
    shards = [label_digest(LABELS[a:b], first_row=a) for a, b in itertools.pairwise(cuts)]

    assert sum(int(shard, 16) for shard in shards) % 2**128 == int(label_digest(LABELS), 16)


def test_one_label_or_the_order_of_rows_changes_the_digest():
    other, swapped = LABELS.copy(), LABELS.copy()
    other[-1] += 1
    swapped[:2] = 5, 6
    first = label_digest(swapped)
    swapped[:2] = 6, 5

    assert len({label_digest(LABELS), label_digest(other), first, label_digest(swapped)}) == 4


@pytest.mark.parametrize("of", [np.int32, np.int64, torch.tensor, list], ids=["int32", "int64", "tensor", "list"])
def test_digest_of_labels_does_not_depend_on_their_type(of):
    labels = LABELS[:1000]

    assert label_digest(of(labels)) == label_digest(labels)


@pytest.mark.parametrize("labels", [[0.5, 1.0], [[0, 1]], ["a"]], ids=str)
def test_only_integers_are_labels(labels):
    with pytest.raises(InputError, match=r"must be integers of shape \(N,\).*Pass kmeans.labels_"):
        label_digest(labels)


def test_digest_of_a_model_is_that_of_centroids_and_similarities(tmp_path):
    kmeans = KMeans(6, random_state=0, verbose=0).fit(X)
    kmeans.save(tmp_path / "model")

    assert kmeans.digest() == expected_model_digest(kmeans)
    for twin in (
        KMeans.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(kmeans)),
        KMeans(6, random_state=0, verbose=0, batch_size=7).fit(torch.from_numpy(X)),
        KMeans(6, random_state=0, verbose=0, epochs=2).fit(X).set_params(epochs=98).fit(X),
    ):
        assert twin.digest() == kmeans.digest()


def test_digest_changes_with_centroids_and_with_similarities():
    kmeans = KMeans(6, random_state=0, verbose=0).fit(X)
    again = KMeans(6, random_state=0, verbose=0).fit(X).fit(X)  # one more epoch, which moves nothing
    bits = KMeans(6, random_state=0, verbose=0).fit(X)
    bits.cluster_centers_.view(np.int32)[0, 0] += 1

    assert np.array_equal(again.cluster_centers_, kmeans.cluster_centers_)
    assert len({kmeans.digest(), again.digest(), bits.digest()}) == 3


def test_digest_of_centers_that_were_set_is_that_of_the_centers():
    given, same = KMeans(2, verbose=0), KMeans(2, verbose=0)
    given.centers, same.centers = X[:2], 2 * X[:2]

    assert given.digest() == same.digest()
    with pytest.raises(NoFitError):
        KMeans(2).digest()


def test_commands_tell_the_digest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", X)
    kmeans = KMeans(6, random_state=0, verbose=0).fit(X)
    told = []
    for command in ("fit rows.npy -k 6 --seed 0 --out new", "info new", "predict new rows.npy"):
        assert run([*command.split(), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))

    assert [record["digest"] for record in told] == [kmeans.digest()] * 3
    assert told[0]["label_digest"] == label_digest(kmeans.labels_) == label_digest(np.load("labels.npy"))


def test_numerics_counts_the_changes_of_the_answer():
    headings = re.findall(r"^### Numerics$", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)

    assert len(headings) == NUMERICS
