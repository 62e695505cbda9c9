"""Remove near-copies from a collection before it is used for training.

python examples/dedup.py
"""

from __future__ import annotations

from cosmeans import KMeans, deduplicate
from cosmeans.demo_data import sample


def main() -> None:
    rows, texts = sample()
    model = KMeans(30, random_state=0).fit(rows)

    found = deduplicate(model, rows, threshold=0.8, keep="closest")

    print(f"{len(found.kept)} of {len(rows)} rows are kept; the closest pairs among the removed rows:")
    for i in (-found.cosines).argsort(kind="stable")[:5]:
        print(f"\n  {found.cosines[i]:.3f}  removed  {texts[found.removed[i]][:90]}")
        print(f"         kept     {texts[found.original[i]][:90]}")
    kept = rows[found.kept]
    print(f"\nthe collection is now {kept.shape}")


if __name__ == "__main__":
    main()
