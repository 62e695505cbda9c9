"""The collection grew: which clusters are the old ones, and which rows moved?

python examples/compare.py
"""

from __future__ import annotations

from cosmeans import KMeans, evaluate, match, moved, reorder
from cosmeans.demo_data import sample


def main() -> None:
    rows, _ = sample()
    old = KMeans(30, random_state=0).fit(rows[:4000])
    new = KMeans(30, random_state=1).fit(rows)  # as if nothing were known of the old one
    going_on = KMeans(30, init=old.centers, random_state=1).fit(rows)  # starts where the old one ended

    for name, model in (("from scratch", new), ("from the old centers", going_on)):
        matched = match(old, model)
        model = reorder(model, matched, rows)  # cluster 7 is again what cluster 7 was
        moves = moved(old, model, rows)
        print(
            f"fitted {name}: similarity {model.score(rows):.4f}, {moves.stayed / moves.n_rows:.0%} of the rows stayed"
        )
        for source, target, count in moves.flows[:3]:
            print(f"  {count} rows moved from cluster {source} to {target}")
        measured = evaluate(model, rows, classes=old.predict(rows))
        print(f"  adjusted Rand index with the old clusters: {measured.ari:.3f}")


if __name__ == "__main__":
    main()
