import ipaddress

import pytest

from hub.engine.outbound_addresses import embedded, networks, why_refused

METADATA, TRANSLATED, SPECIAL = "metadata", "translates", "link-local"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("10.0.0.1", "", id="private"),
        pytest.param("203.0.113.9", "", id="public"),
        pytest.param("fd12::1", "", id="private of IPv6"),
        pytest.param("2606:4700::1", "", id="public of IPv6"),
        pytest.param("169.254.169.254", SPECIAL, id="link-local"),
        pytest.param("100.100.100.200", METADATA, id="a cloud's metadata"),
        pytest.param("fd00:ec2::254", METADATA, id="a cloud's metadata by IPv6"),
        pytest.param("::ffff:169.254.169.254", SPECIAL, id="mapped"),
        pytest.param("::169.254.169.254", SPECIAL, id="compatible"),
        pytest.param("::10.0.0.1", TRANSLATED, id="compatible, private"),
        pytest.param("64:ff9b::a9fe:a9fe", SPECIAL, id="NAT64"),
        pytest.param("64:ff9b:1::a9fe:a9fe", SPECIAL, id="NAT64 of one's own"),
        pytest.param("2002:a9fe:a9fe::", SPECIAL, id="6to4"),
        pytest.param("2001:0:a9fe:a9fe::", SPECIAL, id="Teredo"),
        pytest.param("fe80::1%eth0", "zone", id="a zone"),
        pytest.param("fd12::5efe:a9fe:a9fe", SPECIAL, id="ISATAP"),
        pytest.param("0.0.0.0", SPECIAL, id="unspecified"),
        pytest.param("::", TRANSLATED, id="unspecified of IPv6"),
        pytest.param("255.255.255.255", SPECIAL, id="broadcast"),
        pytest.param("ff02::1", SPECIAL, id="multicast"),
        pytest.param("127.0.0.1", "this machine", id="loopback"),
        pytest.param("::1", "this machine", id="loopback of IPv6"),
        pytest.param("::ffff:127.0.0.1", "this machine", id="loopback, mapped"),
    ],
)
def test_where_the_hub_does_not_connect(text, why):
    found = why_refused(ipaddress.ip_address(text), loopback=False)

    assert why in found and bool(found) == bool(why)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "127.9.9.9"])
def test_loopback_is_a_choice(text):
    assert why_refused(ipaddress.ip_address(text), loopback=True) == ""


@pytest.mark.parametrize(
    ("text", "allow", "deny", "why"),
    [
        pytest.param("10.1.2.3", [], ["10.0.0.0/8"], "HUB_OUTBOUND_DENY", id="denied"),
        pytest.param("64:ff9b::a00:1", [], ["10.0.0.0/8"], "HUB_OUTBOUND_DENY", id="denied inside"),
        pytest.param("64:ff9b::a00:1", ["64:ff9b::/96"], [], "", id="NAT64 allowed"),
        pytest.param(
            "64:ff9b::a9fe:a9fe", ["64:ff9b::/96"], [], SPECIAL, id="what it embeds is not"
        ),
        pytest.param(
            "10.1.2.3", ["10.0.0.0/8"], ["10.0.0.0/8"], "HUB_OUTBOUND_DENY", id="denial wins"
        ),
    ],
)
def test_networks_of_the_operator(text, allow, deny, why):
    found = why_refused(
        ipaddress.ip_address(text), loopback=False, allow=networks(allow), deny=networks(deny)
    )

    assert why in found and bool(found) == bool(why)


def test_an_address_of_ipv4_embeds_nothing():
    assert list(embedded(ipaddress.ip_address("10.0.0.1"))) == []
