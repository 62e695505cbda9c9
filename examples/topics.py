"""Topics of a text collection: what each cluster is about, and which texts fit nowhere.

python examples/topics.py
"""

from __future__ import annotations

from cosmeans import KMeans, exemplars, outliers, reorder, top
from cosmeans.demo_data import sample


def main() -> None:
    rows, texts = sample()
    model = KMeans(40, init="k-means++", random_state=0).fit(rows)
    model = reorder(model, "size")  # cluster 0 is the largest

    best = exemplars(model, rows, m=3)
    for cluster in range(5):
        print(f"\ncluster {cluster}, {model.counts_[cluster]} rows")
        for row, cosine in zip(best.rows[cluster], best.cosines[cluster], strict=True):
            print(f"  {cosine:.3f}  {texts[row][:90]}")

    print("\nfit nowhere")
    worst = outliers(model, rows, quantile=0.001)
    for row, cosine in zip(worst.rows, worst.cosines, strict=True):
        print(f"  {cosine:.3f}  {texts[row][:90]}")

    found = top(model, rows[:1], m=3)
    places = [f"{label} ({cosine:.3f})" for label, cosine in zip(found.labels[0], found.cosines[0], strict=True)]
    print(f"\n{texts[0]!r} belongs to clusters {', '.join(places)}")


if __name__ == "__main__":
    main()
