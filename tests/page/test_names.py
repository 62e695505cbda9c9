"""Names that people give to clusters: from a dict, or from the file that the page saves."""

import json

import numpy as np
import pytest

from clusters_page import data_of, three_groups
from cosmeans.errors import FileError, InputError, InputTypeError
from cosmeans.page.names import read_names
from cosmeans.report import write_report


def test_names_are_read_from_a_dict_or_a_file(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"0": "fish", "2": "  tools ", "1": " "}), encoding="utf-8-sig")
    assert read_names(path, 3) == read_names(str(path), 3) == {0: "fish", 2: "tools"}
    assert read_names({np.int64(1): "a"}, 3) == {1: "a"}
    assert read_names(None, 3) == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"3": "x"}, "names names cluster '3'; the clusters of this model are 0 to 2"),
        ({"-1": "x"}, "names names cluster '-1'"),
        ({"first": "x"}, "names names cluster 'first'"),
        ({0: 7}, "a name must be a string"),
    ],
)
def test_what_names_no_cluster_is_told(given, says):
    with pytest.raises(InputError, match=says):
        read_names(given, 3)


def test_what_is_no_table_of_names_is_told(tmp_path):
    path = tmp_path / "names.json"
    path.write_text("{fish}")
    with pytest.raises(FileError, match="is not JSON"):
        read_names(path, 3)
    path.write_text("[1]")
    with pytest.raises(InputTypeError, match="must be an object of cluster and name"):
        read_names(path, 3)
    with pytest.raises(FileError, match="No such file"):
        read_names(tmp_path / "none.json", 3)


def test_names_reach_the_page(tmp_path):
    kmeans, rows = three_groups()
    data = data_of(write_report(kmeans, rows, tmp_path / "page.html", names={1: "<b>middle</b>"}))
    assert dict(zip(data["clusters"]["id"], data["clusters"]["name"], strict=True)) == {
        0: None,
        1: "<b>middle</b>",
        2: None,
    }
