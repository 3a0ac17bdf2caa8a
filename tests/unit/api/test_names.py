"""Names, labels, ports: the limits and Kubernetes' words."""

import pytest

from orchestrator.api import names


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.is_dns1123_label, ["a", "a-b", "1a", "a" * 63], ["", "A", "-a", "a-", "a.b", "a" * 64, "a\n"]),
        (names.is_dns1123_subdomain, ["a.b", "a-1.b", "a" * 253], ["a..b", ".a", "a_b", "a" * 254]),
        (names.is_dns1035_label, ["web", "w1"], ["1web", "Web", ""]),
        (names.is_path_segment, ["system:node", "a b"], [".", "..", "a/b", "a%b"]),
        (names.is_qualified_name, ["a", "A.b_c", "ex.com/Name"], ["", "/a", "a/", "a/b/c", "Ex/a", "-a"]),
        (names.is_label_value, ["", "a", "A_b.c"], ["-a", "a b", "a" * 64]),
        (names.is_env_var_name, ["A", "a.b", "1-x y"], ["", "A=B", "\n", "ä"]),
        (names.is_config_map_key, ["a", ".a", "a..b", "_"], ["", ".", "..", "..a", "a/b", "a" * 254]),
        (names.is_port_name, ["http", "a-1"], ["", "1", "a--b", "-a", "A", "a" * 16]),
        (names.is_ip_address, ["10.0.0.1", "fd00::1"], ["", "10.0.0", "fe80::1%eth0", "10.0.0.256"]),
        (names.is_cidr, ["10.0.0.0/8", "fd00::/64"], ["10.0.0.0", "10.0.0.0/33"]),
        (names.is_percent, ["1%", "250%"], ["%", "1", "-1%"]),
    ],
)
def test_accepts_and_refuses(check, good, bad):
    assert {value: check(value) for value in good} == {value: [] for value in good}
    assert [value for value in bad if not check(value)] == []


def test_messages_are_those_that_clients_know():
    (label,) = names.is_dns1123_label("Web")
    assert label.startswith(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
    )
    assert label.endswith(
        "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )
    assert names.is_dns1123_label("a" * 64) == ["must be no more than 63 bytes"]
    assert names.is_qualified_name("") == [
        "name part must be non-empty",
        names.is_qualified_name("-")[0],
    ]
    assert names.is_port_number(0) == ["must be between 1 and 65535, inclusive"]
