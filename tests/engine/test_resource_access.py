import pytest

from hub.engine.resource import ResourceKey
from hub.engine.resource_access import Limits, Mark, is_child, owning_instance

SPEC = {
    "destinations": [
        {"server": "https://a", "namespace": "team-a"},
        {"server": "https://b", "namespace": "*"},
        {"server": "*", "namespace": "!team-x"},
    ],
    "clusterResourceWhitelist": [{"group": "", "kind": "Namespace", "name": "team-a*"}],
    "namespaceResourceBlacklist": [{"group": "", "kind": "Secret"}],
}
SCOPES = {
    ("", "ConfigMap"): True,
    ("", "Secret"): True,
    ("", "Namespace"): False,
    ("", "Node"): False,
}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        pytest.param(("", "ConfigMap", "team-a", "c"), "", id="its own namespace"),
        pytest.param(
            ("", "ConfigMap", "team-b", "c"),
            "namespace team-b is not permitted in project 'p'",
            id="a foreign namespace",
        ),
        pytest.param(
            ("", "ConfigMap", "team-a/../team-b", "c"),
            "namespace team-a/../team-b is not",
            id="a namespace with a way out",
        ),
        pytest.param(("", "ConfigMap", "", "c"), "namespace  is not permitted", id="no namespace"),
        pytest.param(
            ("", "Secret", "team-a", "c"), "resource :Secret is not permitted", id="a denied kind"
        ),
        pytest.param(
            ("", "Namespace", "", "team-a1"), "", id="a cluster-scoped one that is listed"
        ),
        pytest.param(
            ("", "Namespace", "", "team-b"),
            "resource :Namespace is not permitted",
            id="another name than the listed",
        ),
        pytest.param(
            ("", "Node", "", "n"), "resource :Node is not permitted", id="a cluster-scoped kind"
        ),
        pytest.param(
            ("x.io", "New", "", "n"),
            "resource x.io:New is not permitted",
            id="an unknown kind without a namespace",
        ),
        pytest.param(("x.io", "New", "team-a", "n"), "", id="an unknown kind in its namespace"),
    ],
)
def test_what_a_project_permits(key, words):
    refusal = Limits("p", SPEC, "https://a", "a", SCOPES).refusal(ResourceKey(*key))

    assert refusal == "" if not words else words in refusal


ME, B = "mine", "other"


@pytest.mark.parametrize(
    ("mark", "known", "expected"),
    [
        pytest.param(Mark("1", "", ME, True), [], ME, id="its own mark"),
        pytest.param(Mark("1", "", B, True), [], B, id="another's mark"),
        pytest.param(Mark("1", "", "", False), [], "", id="no mark"),
        pytest.param(Mark("1", "", ME, False), [], "", id="a copy of its own mark"),
        pytest.param(Mark("1", "", B, False), [], B, id="a copy of another's mark"),
        pytest.param(
            Mark("1", "2", "", False), [Mark("2", "", B, True)], B, id="made by another's"
        ),
        pytest.param(
            Mark("1", "2", ME, False),
            [Mark("2", "", B, True)],
            B,
            id="a copied mark, made by another's",
        ),
        pytest.param(
            Mark("1", "2", B, False),
            [Mark("2", "", ME, True)],
            ME,
            id="a copy of another's mark, made by its own",
        ),
        pytest.param(
            Mark("1", "2", "", False),
            [Mark("2", "3", B, False), Mark("3", "", B, True)],
            B,
            id="two generations",
        ),
        pytest.param(
            Mark("1", "2", "", False), [Mark("2", "1", "", False)], "", id="owners in a circle"
        ),
        pytest.param(Mark("1", "9", "", False), [], "", id="an owner that nobody knows"),
    ],
)
def test_the_owner_of_a_resource(mark, known, expected):
    assert owning_instance(mark, ME, {m.uid: m for m in [mark, *known]}) == expected


def test_nothing_is_reached_from_a_destination_that_is_not_permitted():
    limits = Limits("p", SPEC, "https://a", "a", SCOPES, closed="its destination is not permitted")

    assert (
        limits.refusal(ResourceKey("", "ConfigMap", "team-a", "c"))
        == "its destination is not permitted"
    )


@pytest.mark.parametrize(
    ("parent", "child", "counts"),
    [
        pytest.param("team-a", "team-a", True, id="in its own namespace"),
        pytest.param("team-a", "team-b", False, id="in another namespace"),
        pytest.param("team-a", "", False, id="a cluster-scoped child"),
        pytest.param("", "team-b", True, id="a cluster-scoped owner"),
    ],
)
def test_an_owner_owns_in_its_own_namespace(parent, child, counts):
    keys = [ResourceKey("", "ConfigMap", namespace, "x") for namespace in (parent, child)]

    assert is_child(*keys) is counts
