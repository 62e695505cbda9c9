"""Examples in the help of each command: what is done, and the line. A test reads every line as the command does."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "demo": (
        ("cluster real texts; the results are in demo-output", "demo"),
        ("its texts and embeddings as files", "demo --data data"),
        ("the tutorial with a tenth of its rows", "demo --tutorial --rows 100000"),
    ),
    "look": (
        ("what a file holds, and what a fit of it needs", "look docs.parquet"),
        ("all files of a folder", "look 'emb/*.parquet'"),
        ("facts for a program", "look emb/ --json"),
    ),
    "fit": (
        ("100 clusters, with names of texts and a page to read", "fit docs.parquet -k 100 --column text --report"),
        ("every file of a folder, with a good start", "fit 'emb/*.parquet' -k 1000 --init nested --out clusters"),
        ("continue an earlier fit", "fit docs.parquet --from clusters --epochs 50 --out more"),
    ),
    "predict": (
        ("labels of new rows as an array", "predict clusters new.npy --out labels.npy"),
        (
            "a table for each file, with the ids of the rows",
            "predict clusters 'emb/*.parquet' --id-column id --out labels/",
        ),
        ("rows as they arrive, one JSON line each", "predict clusters - < rows.jsonl"),
    ),
    "report": (
        ("a page with the texts of a column", "report clusters docs.parquet --column text"),
        ("texts from a file of their own", "report clusters rows.npy --texts texts.txt --title Topics"),
        ("pictures, and no map", "report clusters rows.npy --images paths.txt --sample 0"),
    ),
    "export": (
        ("all rows, with texts and a map, for an explorer", "export clusters docs.parquet --column text"),
        ("with names of clusters that the page saved", "export clusters rows.npy --names names.json"),
        (
            "under another name, with the ids of the rows",
            "export clusters docs.parquet --id-column id --parquet all.parquet",
        ),
    ),
    "info": (
        ("what a model holds", "info clusters"),
        ("the same for a program", "info clusters --json"),
        ("what files of rows hold", "info rows.npy"),
    ),
    "evaluate": (
        ("how good a model is", "evaluate clusters rows.npy"),
        ("compared with known classes", "evaluate clusters rows.npy --classes classes.txt"),
        ("classes in a column of the rows", "evaluate clusters docs.parquet --column category --json"),
    ),
    "plot": (
        ("convergence and sizes, as convergence.png", "plot clusters"),
        ("under another name", "plot clusters --out fit.png"),
        ("over an older picture", "plot clusters --force"),
    ),
    "exemplars": (
        ("ten rows that stand for each cluster", "exemplars clusters docs.parquet --column text"),
        ("three, as CSV", "exemplars clusters rows.npy -m 3 --texts texts.txt --out best.csv"),
        ("row numbers alone", "exemplars clusters rows.npy --out best.npy"),
    ),
    "outliers": (
        ("the hundredth of the rows that fits worst", "outliers clusters docs.parquet --column text"),
        ("a tenth of them, as CSV", "outliers clusters rows.npy --quantile 0.1 --out worst.csv"),
        ("all rows below a cosine", "outliers clusters rows.npy --threshold 0.3"),
    ),
    "top": (
        ("three clusters for every row", "top clusters docs.parquet --id-column id"),
        ("the best and the second best, as CSV", "top clusters rows.npy -m 2 --out two.csv"),
        ("with texts", "top clusters rows.npy --texts texts.txt"),
    ),
    "dedup": (
        ("row numbers to keep, as keep.npy", "dedup clusters rows.npy"),
        ("a stricter limit, and what was removed why", "dedup clusters rows.npy --threshold 0.98 --removed gone.csv"),
        ("keep those farthest from their centroids", "dedup clusters rows.npy --keep farthest"),
    ),
    "choose-k": (
        ("try numbers from 2 to 256", "choose-k rows.npy"),
        ("try these", "choose-k rows.npy --ks 10,20,40,80"),
        ("steadier results: more seeds, more rows", "choose-k rows.npy --seeds 5 --sample 50000"),
    ),
    "match": (
        ("what became of each cluster", "match old new"),
        ("and which rows moved", "match old new --embeddings rows.npy"),
        ("as a picture and as JSON", "match old new --embeddings rows.npy --plot moves.png --out moves.json"),
    ),
}
