"""Cluster 6,000 dictionary entries by meaning, label new rows, save and load.

python examples/quickstart.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from cosmeans import KMeans
from cosmeans.demo_data import sample


def main() -> None:
    rows, texts = sample()  # (6000, 384) float16, one text a row

    kmeans = KMeans(60, random_state=0)  # n_clusters; rows need not be of unit length
    kmeans.fit(rows[:5000])
    print(f"mean cosine {kmeans.similarities[0]:.3f} -> {kmeans.similarities[-1]:.3f} in {kmeans.n_iter_} epochs")

    labels = kmeans.predict(rows[5000:])  # the same bits alone, in a batch, on any machine
    print(f"new row 0, {texts[5000]!r}, belongs to cluster {labels[0]} of {kmeans.counts_[labels[0]]} rows")

    with TemporaryDirectory() as folder:
        kmeans.save(f"{folder}/model")
        again = KMeans.load(f"{folder}/model").predict(rows[5000:])
    print(f"a loaded model gives the same labels: {(again == labels).all()}")


if __name__ == "__main__":
    main()
