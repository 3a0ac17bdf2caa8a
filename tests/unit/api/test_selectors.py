"""Label and field selectors: grammar, errors, matching."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import selectors
from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Item, encode
from orchestrator.api.resources import CONFIGMAPS, EVENTS, NODES, PODS, REPLICASETS
from orchestrator.api.selectors import from_label_selector, parse_field_selector, parse_label_selector


def _item(metadata=None, **fields):
    return Item(encode({"metadata": metadata or {"name": "a", "namespace": "n"}, **fields}), 7)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a=", {"a": ""}, True),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,)", {"a": ""}, True),
        ("a notin (b,c)", {"a": "c"}, False),
        ("a notin (b)", {}, True),
        ("a", {"a": "x"}, True),
        ("!a", {"a": "x"}, False),
        ("! a , b", {"b": ""}, True),
        ("a>1", {"a": "2"}, True),
        ("a<1", {"a": "2"}, False),
        ("a>1", {"a": "x"}, False),
        ("a>1", {}, False),
        ("in in (in,notin)", {"in": "notin"}, True),
        ("x.y/z=1,a=b", {"x.y/z": "1"}, False),
    ],
)
def test_label_selector_matches(text, labels, matches):
    assert parse_label_selector(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("=a", "unable to parse requirement: found '=', expected: identifier"),
        ("a>x", "integer value is required"),
        ("-a=b", "name part must consist of"),
        ("a=b!", "found '!'"),
        ("a=-b", "a valid label must be an empty string or"),
        (",a", "found ',', expected: identifier"),
    ],
)
def test_bad_label_selector_says_what_is_wrong(text, error):
    with pytest.raises(BadRequest) as raised:
        parse_label_selector(text)
    assert error in raised.value.message


_words = st.sampled_from(["a", "b", "c/d", "in", "notin", "x1"])
_requirements = st.builds(
    selectors.Requirement,
    _words,
    st.sampled_from(["in", "notin"]),
    st.frozensets(st.sampled_from(["", "p", "q", "in"]), min_size=1, max_size=3),
) | st.builds(selectors.Requirement, _words, st.sampled_from(["exists", "!"]))


@settings(max_examples=50)
@given(st.lists(_requirements, max_size=4), st.dictionaries(_words, st.sampled_from(["", "p", "q", "in"])))
def test_text_of_a_selector_means_the_same(requirements, labels):
    selector = selectors.Selector(tuple(requirements))
    assert parse_label_selector(str(selector)).matches(labels) == selector.matches(labels)


def test_label_selector_objects():
    assert not from_label_selector(None).matches({"a": "b"})
    assert from_label_selector({}).matches({})
    selector = from_label_selector(
        {
            "matchLabels": {"a": "b"},
            "matchExpressions": [
                {"key": "c", "operator": "NotIn", "values": ["d"]},
                {"key": "e", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"a": "b"})
    assert not selector.matches({"a": "b", "c": "d"})
    assert not selector.matches({"a": "b", "e": ""})
    assert str(selector) == "a=b,c!=d,!e"
    with pytest.raises(BadRequest, match="not a valid label selector operator"):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]})


def test_metadata_fields_do_not_decode_the_object():
    # Only the projection of metadata can be read from these bytes.
    item = Item(b'{"metadata":{"name":"a","namespace":"n"},"spec":{"nodeName":"x"}}', 1)
    selector = parse_field_selector("metadata.name=a,metadata.namespace!=m", PODS)
    assert selector.matches(item)
    assert item._object is None
    assert parse_field_selector("spec.nodeName=x", PODS).matches(item)
    assert item._object is None


@pytest.mark.parametrize(
    ("resource", "text", "fields", "matches"),
    [
        (PODS, "spec.nodeName=", {"spec": {}}, True),
        (PODS, "spec.nodeName!=x", {"spec": {"nodeName": "x"}}, False),
        (PODS, "spec.nodeName=x", {"spec": {"nodeName": "y"}, "status": {"phase": "x"}}, False),
        (PODS, "spec.hostNetwork=false", {"spec": {}}, True),
        (PODS, "spec.hostNetwork=true", {"spec": {"hostNetwork": True}}, True),
        (PODS, "status.phase==Running,spec.nodeName=x", {"spec": {"nodeName": "x"}}, False),
        (PODS, "status.phase=Running", {"status": {"phase": "Running"}}, True),
        (NODES, "spec.unschedulable=false", {}, True),
        (REPLICASETS, "status.replicas=0", {"status": {}}, True),
        (REPLICASETS, "status.replicas=3", {"status": {"replicas": 3}}, True),
        (EVENTS, "source=kubelet", {"source": {"component": "kubelet"}}, True),
        (EVENTS, "source=kubelet", {"reportingComponent": "kubelet", "source": {"host": "a"}}, True),
        (EVENTS, "source=new", {"source": {"component": "kubelet"}, "reportingComponent": "new"}, False),
        (EVENTS, "source!=new", {"reportingComponent": "new"}, False),
        (
            EVENTS,
            "involvedObject.name=a,involvedObject.kind=Pod",
            {"involvedObject": {"name": "a", "kind": "Pod"}},
            True,
        ),
    ],
)
def test_field_selector_matches(resource, text, fields, matches):
    assert parse_field_selector(text, resource).matches(_item(**fields)) is matches


def test_escapes_in_field_selectors():
    selector = parse_field_selector(r"metadata.name=a\,b\=c\\", PODS)
    assert selector.exact("metadata.name") == "a,b=c\\"
    assert str(selector) == r"metadata.name=a\,b\=c\\"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "spec.foo=a",
            '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
        (r"metadata.name=\a", "invalid escape sequence"),
        ("metadata.name=a=b", "unescaped character in value: ="),
        ("metadata.name=a\\", "unterminated escape"),
    ],
)
def test_bad_field_selector_says_what_is_wrong(text, error):
    with pytest.raises(BadRequest) as raised:
        parse_field_selector(text, CONFIGMAPS)
    assert error in raised.value.message


def test_cluster_wide_kinds_have_no_namespace_to_select():
    with pytest.raises(BadRequest, match=r"field label not supported: metadata\.namespace"):
        parse_field_selector("metadata.namespace=a", NODES)


def test_node_selector_terms_compare_numbers():
    term = [{"key": "cpus", "operator": "Gt", "values": ["4"]}, {"key": "gpu", "operator": "Exists"}]
    selector = selectors.from_node_selector_term(term)
    assert selector.matches({"cpus": "8", "gpu": ""})
    assert not selector.matches({"cpus": "4", "gpu": ""})
    with pytest.raises(BadRequest, match="not a valid node selector operator"):
        selectors.from_node_selector_term([{"key": "a", "operator": "Like"}])
