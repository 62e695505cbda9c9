"""Centroids for a search index: shards in, labels beside them, centroids out; in pieces, in any place, the same."""

import json

import numpy as np
from safetensors.numpy import load_file

from cosmeans import KMeans
from cosmeans.cli import run
from cosmeans.demo_data import sample


def test_shards_become_centroids_and_tables_of_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows, _ = sample()
    rows = rows.astype(np.float32)
    for number, part in enumerate(np.split(rows, [2500, 4000])):
        (tmp_path / "emb").mkdir(exist_ok=True)
        np.save(tmp_path / "emb" / f"shard-{number}.npy", part)

    assert run(["look", "emb/*.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 6000
    assert run(["fit", "emb/*.npy", "-k", "32", "--epochs", "5", "--random-state", "3", "--out", "ivf", "-q"]) == 0
    assert run(["predict", "ivf", "emb/shard-1.npy", "--out", "labels.npy", "-q"]) == 0

    expected = KMeans(32, epochs=5, random_state=3, verbose=0).fit(rows)
    centroids = load_file(tmp_path / "ivf" / "model" / "model.safetensors")["centroids"]
    assert np.array_equal(centroids, expected.cluster_centers_)
    assert np.array_equal(np.load("labels.npy"), expected.labels_[2500:4000])
