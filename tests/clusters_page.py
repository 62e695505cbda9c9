"""A small model, its rows, and what a page holds of them."""

import base64
import gzip
import json
import re

import numpy as np

from cosmeans import KMeans


def three_groups():
    """A model of 90 rows in three groups, and the rows."""
    rng = np.random.default_rng(0)
    rows = (np.eye(3, 8)[np.arange(90) % 3] + 0.3 * rng.standard_normal((90, 8))).astype(np.float32)
    return KMeans(3, random_state=0, verbose=0).fit(rows), rows


def data_of(page):
    """What the script of a page reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S).group(1))


def rows_of(page):
    """The rows that a page holds packed: row numbers and places on the map are written as steps."""
    packed = re.search(r'id="packed">(.*?)</script>', page.read_text("utf-8"), re.S).group(1)
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    found["row"] = np.cumsum(found["row"]).tolist()
    if "map" in found:
        found["map"]["at"] = np.cumsum(found["map"]["at"]).tolist()
    return found
