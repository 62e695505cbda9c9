"""Suffixes of files that have columns, in a module that imports nothing: the help of the command line names them."""

TABLE_SUFFIXES = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".jsonl", ".ndjson", ".lance")
