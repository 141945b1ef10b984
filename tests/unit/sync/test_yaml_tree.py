# SPDX-License-Identifier: Apache-2.0
"""YAML as it is written, with its lines, and within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.sync import yaml_tree
from image_uploader_plugins.sync.yaml_tree import Mapping, Scalar, Sequence, Value

VALUES = st.recursive(
    st.text(max_size=5) | st.integers() | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def read(text: str) -> Value:
    return yaml_tree.read("a.yaml", text)


@pytest.fixture(params=["as installed", "without libyaml"])
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without libyaml":
        monkeypatch.setattr(yaml_tree, "_Loader", yaml.SafeLoader)


@pytest.mark.usefixtures("_loader")
def test_scalars_are_what_stands_there() -> None:
    words = ["1.27", "1.10", "on", "no", "1_0", "0x10", "010", "2024-01-01", "1e3", "null", "12:30"]
    assert read(f"[{', '.join(words)}]") == words
    assert read("[' 1.0', \"a\\tb\", !!str 7, ! 8]") == [" 1.0", "a\tb", "7", "8"]
    assert read("") == ""
    assert read("# nothing") == ""


@pytest.mark.usefixtures("_loader")
def test_what_a_scalar_can_mean() -> None:
    meanings = {
        text: (each.boolean, each.is_integer, each.is_number, each.is_null)
        for text in ("true", "No", "'on'", "12", "1.5", "-3", "'~'", "~", "", "null", "'null'")
        for each in [read(text)]
        if isinstance(each, Scalar)
    }
    assert meanings == {
        "true": (True, False, False, False),
        "No": (False, False, False, False),
        "'on'": (True, False, False, False),
        "12": (None, True, True, False),
        "1.5": (None, False, True, False),
        "-3": (None, True, True, False),
        "'~'": (None, False, False, False),
        "~": (None, False, False, True),
        "": (None, False, False, True),
        "null": (None, False, False, True),
        "'null'": (None, False, False, False),
    }


@pytest.mark.usefixtures("_loader")
def test_lines() -> None:
    root = read("a: 1\n\nb:\n- x\n- y: &z [p,\n    q]\nc: *z\n")
    assert isinstance(root, Mapping)
    assert root.lines == {"a": 1, "b": 3, "c": 7}
    items = root["b"]
    assert isinstance(items, Sequence)
    assert [items.line, items[0].line, items[1].line] == [4, 4, 5]
    assert [each.line for each in yaml_tree.sequence(root["c"])] == [5, 6]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: 'a' stands twice in one mapping (line 1)"),
        ("- a\n- *b\n", "a.yaml:2: an alias (*name) has no anchor (&name) before it"),
        ("&a [*a]\n", "a.yaml:1: an alias (*name) has no anchor (&name) before it"),
        ("- a\n---\n- b\n", "a.yaml:2: a second document begins, which is not read"),
        (
            "\n[!!int 3]\n",
            "a.yaml:2: types (!name) are not read; write a text, a list or a mapping",
        ),
        ("!!python/object:os.system {}\n", "a.yaml:1: types (!name) are not read"),
        ("? [a]\n: b\n", "a.yaml:1: a key of a mapping must be a text"),
        ("[" * 40 + "]" * 40, "a.yaml:1: values are nested more than 32 deep"),
        ("a: [\n", "a.yaml is not yaml, line 2, column 1: "),
        ("a: \x00", "a.yaml is not yaml"),
        ("password: *secret", "a.yaml:1: an alias (*name) has no anchor"),
    ],
)
@pytest.mark.usefixtures("_loader")
def test_what_is_not_read(text: str, problem: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        read(text)
    assert str(caught.value).startswith(problem)
    assert "secret" not in str(caught.value)


def test_values_are_counted_behind_aliases_too() -> None:
    """The "billion laughs": ten names for ten names, and so on."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert read("\n".join(levels[:4]))
    with pytest.raises(errors.ConfigurationError, match=r"a.yaml:6: more than 500000 values"):
        read("\n".join(levels))


@given(VALUES)
def test_it_is_what_pyyaml_composes(value: object) -> None:
    written = yaml.safe_dump(value)
    assert read(written) == texts(yaml.compose(written, Loader=yaml.SafeLoader))


def texts(node: yaml.Node | None) -> object:
    """The texts of a tree of nodes."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: texts(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [texts(each) for each in node.value]
    return node.value if node else ""


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#?%@, \n\t"), max_size=40))
def test_every_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text)
    except errors.ConfigurationError as e:
        assert str(e).startswith("a.yaml")
        return
    # An empty value at the end is behind the last line.
    last = text.count("\n") + 2
    assert all(1 <= line <= last for line in lines(found))


def lines(value: Value) -> Iterator[int]:
    yield value.line
    if isinstance(value, Mapping):
        yield from value.lines.values()
    if not isinstance(value, Scalar):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from lines(each)
