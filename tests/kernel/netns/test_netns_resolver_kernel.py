"""The resolver of a network, asked from containers, with nameservers on a second host."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.rcode
import pytest
import requires
from kit.dnshosts import (
    answering,
    ask,
    code,
    message_from,
    refusing,
    silent,
    upstream,
    values,
)
from kit.nethosts import HOST4, OUTSIDE4, OUTSIDE6, Fabric

from netns import Namespace, Network, PortTaken, forward, listening, names, resolver
from netns.names import Named
from netns.resolver import Domain

pytestmark = [requires.root, requires.program("nft")]

GATEWAY, GATEWAY6 = "10.9.1.1", "fd00:1::1"


@dataclass
class Resolving:
    """A network with a resolver, and one container that asks."""

    fabric: Fabric
    network: Network
    client: Namespace
    folder: Path
    resolv_conf: Path
    may_leave: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def name(self, owner: str, *names_: str, addresses: tuple[str, ...] = ()) -> None:
        number = 10 + len(names.owners(str(self.folder)))
        addresses = addresses or (f"10.9.1.{number}",)
        names.write(str(self.folder), Named(owner=owner, addresses=addresses, names=names_))

    def ask(self, name: str, kind: str = "A", **options: object) -> dns.message.Message:
        return ask(self.client, GATEWAY, name, kind, **options)  # type: ignore[arg-type]

    def nameservers(self, *addresses: str) -> None:
        self.resolv_conf.write_text("".join(f"nameserver {each}\n" for each in addresses))


@pytest.fixture
def resolving(fabric: Fabric, tmp_path: Path) -> Iterator[Callable[..., Resolving]]:
    """Start the resolver of a first network: ``resolving(**of_the_domain)``."""
    made: list[Resolving] = []

    def start(*, ipv6: bool = True, **options: object) -> Resolving:
        network = fabric.network(ipv6=ipv6)
        folder = tmp_path / "networks" / "one" / "endpoints"
        folder.mkdir(parents=True)
        it = Resolving(fabric, network, fabric.container(network), folder, tmp_path / "resolv.conf")
        it.nameservers(OUTSIDE4)
        gateways = tuple(subnet.gateway for subnet in network.config.subnets)
        wishes: dict[str, object] = {
            "endpoints": str(folder),
            "beside": str(tmp_path / "networks"),
            "name": "mynet",
            "subnets": tuple(subnet.cidr for subnet in network.config.subnets),
            "gateways": gateways,
            "resolv_conf": str(it.resolv_conf),
            "leave_after_s": 0.0,
        }
        domain = Domain(**(wishes | options))
        sockets = [
            socket.socket(fileno=each.detach())
            for each in listening.bind(gateways, namespace=fabric.host)
        ]

        def run() -> None:
            with fabric.host.entered():
                resolver.serve(domain, sockets, it.may_leave.is_set)

        it.thread = threading.Thread(target=run)
        it.thread.start()
        made.append(it)
        return it

    yield start
    for it in made:
        it.may_leave.set()
        for owner in names.owners(str(it.folder)):
            names.remove(str(it.folder), owner)
        assert it.thread is not None
        it.thread.join(10)
        assert not it.thread.is_alive()


def test_a_name_and_an_alias_are_found(resolving: Callable[..., Resolving]) -> None:
    one = resolving()
    one.name("c1", "web", "shop", addresses=("10.9.1.7", "fd00:1::7"))

    for name in ("web", "shop", "WEB", "web.mynet", "Shop.MyNet"):
        for tcp in (False, True):
            assert values(one.ask(name, tcp=tcp)) == ["10.9.1.7"]
            assert values(one.ask(name, "AAAA", tcp=tcp)) == ["fd00:1::7"]
    assert values(ask(one.client, GATEWAY6, "web")) == ["10.9.1.7"]
    assert values(one.ask("7.1.9.10.in-addr.arpa", "PTR")) == ["web.mynet."]


def test_containers_with_one_alias_share_it_also_when_both_families_are_asked_for(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    for number in range(3):
        one.name(f"c{number}", f"web{number}", "web")

    answers = []
    for _ in range(60):
        answers.append(values(one.ask("web")))
        assert values(one.ask("web", "AAAA")) == []

    assert {tuple(sorted(each)) for each in answers} == {("10.9.1.10", "10.9.1.11", "10.9.1.12")}
    assert {each[0] for each in answers} == {"10.9.1.10", "10.9.1.11", "10.9.1.12"}


def test_a_name_appears_and_vanishes_with_its_file(resolving: Callable[..., Resolving]) -> None:
    one = resolving()

    for _ in range(20):
        assert code(one.ask("web")) == "NXDOMAIN"
        one.name("c1", "web")
        assert values(one.ask("web")) == ["10.9.1.10"]
        names.remove(str(one.folder), "c1")


def test_a_known_name_without_what_is_asked_for_is_no_data_and_nobody_else_is_asked(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    one.name("c1", "web", "db.internal")
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")) as above:
        for name, kind in (
            *(("web", kind) for kind in ("AAAA", "MX", "TXT", "HTTPS", "SRV")),
            ("web.mynet", "AAAA"),
            ("mynet", "A"),
            ("internal", "A"),
        ):
            reply = one.ask(name, kind)
            assert (code(reply), values(reply)) == ("NOERROR", []), (name, kind)
    assert above.asked == []


def test_names_that_look_like_ones_of_here_go_nowhere(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")) as above:
        for name, kind in (
            ("gone", "A"),
            ("gone", "AAAA"),
            ("gone.mynet", "A"),
            ("a.b.mynet", "TXT"),
            ("99.1.9.10.in-addr.arpa", "PTR"),
        ):
            assert code(one.ask(name, kind)) == "NXDOMAIN", name
    assert above.asked == []


def test_a_network_that_is_called_like_a_public_domain_hides_nothing_of_it(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving(name="net")
    one.name("c1", "web")
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")):
        assert values(one.ask("web.net")) == ["10.9.1.10"]
        assert values(one.ask("other.net")) == ["198.51.100.1"]


def test_everything_else_is_asked_of_the_hosts_nameservers(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")) as above:
        for tcp in (False, True):
            assert values(one.ask("www.example", tcp=tcp)) == ["198.51.100.1"]
        one.ask("example", "TXT")

    assert above.asked == ["www.example."] * 2 + ["example."]
    assert {address for address, _ in above.senders} == {HOST4}


def test_a_changed_file_of_the_host_is_seen(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    one.nameservers("not-an-address")
    assert code(one.ask("www.example")) == "SERVFAIL"

    one.nameservers(OUTSIDE6)

    with upstream(outside, OUTSIDE6, answering("198.51.100.1")):
        assert values(one.ask("www.example")) == ["198.51.100.1"]


def test_a_nameserver_on_the_hosts_loopback_serves_containers(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    one.nameservers("127.0.0.53")
    with upstream(one.fabric.host, "127.0.0.53", answering("198.51.100.1")):
        assert values(one.ask("www.example")) == ["198.51.100.1"]


def test_the_resolver_does_not_ask_itself(resolving: Callable[..., Resolving]) -> None:
    one = resolving()
    one.nameservers(GATEWAY, GATEWAY6)

    assert code(one.ask("www.example")) == "SERVFAIL"


def test_the_next_nameserver_is_asked_when_one_refuses_is_not_there_or_is_silent(
    resolving: Callable[..., Resolving], outside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "TRY_S", 0.2)
    one = resolving()
    one.nameservers("127.0.0.9", "127.0.0.10", "127.0.0.11")
    host = one.fabric.host
    with (
        upstream(host, "127.0.0.10", refusing(dns.rcode.REFUSED)) as refuses,
        upstream(host, "127.0.0.11", answering("198.51.100.1")),
    ):
        assert values(one.ask("www.example")) == ["198.51.100.1"]
        refuses.behave = silent
        assert values(one.ask("www.example")) == ["198.51.100.1"]
        # Who was silent is last from now on.
        count = len(refuses.asked)
        assert values(one.ask("www.example")) == ["198.51.100.1"]
        assert len(refuses.asked) == count


def test_without_an_answer_of_anybody_it_is_said_that_it_failed(
    resolving: Callable[..., Resolving], outside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "TRY_S", 0.1)
    one = resolving()
    with upstream(outside, OUTSIDE4, silent):
        assert code(one.ask("www.example")) == "SERVFAIL"
    assert code(one.ask("www.example")) == "SERVFAIL"


def test_no_such_name_of_the_world_is_passed_on(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    with upstream(outside, OUTSIDE4, refusing(dns.rcode.NXDOMAIN)) as above:
        assert code(one.ask("no.example")) == "NXDOMAIN"
    assert len(above.asked) == 1


def test_a_long_answer_comes_by_tcp(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    many = [f"198.51.100.{number}" for number in range(1, 251)]
    few = many[:40]
    one = resolving()
    with upstream(outside, OUTSIDE4, answering(*many, cut=True)) as above:
        assert ask(one.client, GATEWAY, "www.example", use_edns=False).flags & dns.flags.TC
        assert above.by_tcp == 0
        assert sorted(values(one.ask("www.example", tcp=True))) == sorted(many)
        assert above.by_tcp == 1
        # Too long for this client also when all of it is there.
        assert one.ask("www.example", use_edns=0, payload=1232).flags & dns.flags.TC
        above.behave = answering(*few, cut=True)
        found = one.ask("www.example", use_edns=0, payload=1232)
        assert sorted(values(found)) == sorted(few)


def test_a_long_answer_of_ours_is_cut_and_whole_by_tcp(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    for number in range(120):
        one.name(f"c{number}", "web", addresses=(f"10.9.1.{number + 2}",))

    cut = one.ask("web", use_edns=False)

    assert cut.flags & dns.flags.TC
    assert len(values(one.ask("web", tcp=True))) == 120


def test_an_internal_network_asks_nobody(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving(forwards=False)
    one.name("c1", "web")
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")) as above:
        assert values(one.ask("web")) == ["10.9.1.10"]
        for name, kind in (("www.example", "A"), ("example", "NS"), ("1.0.0.8.ip6.arpa", "PTR")):
            assert code(one.ask(name, kind)) == "NXDOMAIN"
    assert above.asked == []


def test_a_resolver_that_only_forwards_knows_no_name(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving(answers=False)
    one.name("c1", "web")
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")):
        assert values(one.ask("web")) == ["198.51.100.1"]


def test_who_is_on_two_networks_is_told_the_names_of_both(
    resolving: Callable[..., Resolving], tmp_path: Path
) -> None:
    one = resolving()
    other = str(tmp_path / "networks" / "two" / "endpoints")
    names.write(other, Named(owner="c9", addresses=("10.9.2.9",), names=("db",)))
    one.name("c1", "me", addresses=("10.9.1.2",))  # who asks
    assert code(one.ask("db")) == "NXDOMAIN"

    names.write(other, Named(owner="c1", addresses=("10.9.2.2",), names=("me",)))

    assert values(one.ask("db")) == ["10.9.2.9"]
    assert values(one.ask("9.2.9.10.in-addr.arpa", "PTR")) == ["db.mynet."]


def test_nobody_else_is_answered(resolving: Callable[..., Resolving], outside: Namespace) -> None:
    one = resolving()
    one.name("c1", "web")
    second = one.fabric.container(one.fabric.network())
    for where in (outside, second):
        with where.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with client, stream:
            client.settimeout(0.3)
            stream.settimeout(2.0)
            wire = dns.message.make_query("web", "A").to_wire()
            try:
                client.connect((GATEWAY, 53))
                client.send(wire)
                with pytest.raises(OSError):
                    client.recv(512)
                stream.connect((GATEWAY, 53))
                stream.sendall(len(wire).to_bytes(2, "big") + wire)
                assert stream.recv(512) == b""
            except OSError:
                continue  # no way there, or reset
    assert values(one.ask("web")) == ["10.9.1.10"]


def test_numbers_and_ports_of_questions_are_random_and_only_the_right_answer_counts(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    with upstream(outside, OUTSIDE4, answering("198.51.100.1")) as above:
        for _ in range(30):
            assert values(one.ask("www.example")) == ["198.51.100.1"]
        assert len({port for _, port in above.senders}) > 20
        assert len(set(above.ids)) > 20

        honest = above.behave

        def lie_first(query: dns.message.Message, stream: bool) -> bytes | None:
            # What somebody who guesses would send: another number, another question.
            wrong = dns.message.make_query("www.example", "A")
            wrong.id = query.id ^ 1
            other = dns.message.make_query("www.wrong", "A", id=query.id)
            for lie in (wrong, other):
                reply = answering("203.0.113.66")(lie, stream)
                assert reply is not None
                with outside.entered():
                    liar = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with liar:
                    liar.sendto(reply, above.senders[-1])
            return honest(query, stream)

        above.behave = lie_first
        assert values(one.ask("www.example")) == ["198.51.100.1"]


def test_lies_from_the_nameservers_own_port_are_passed_over(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    one.nameservers("127.0.0.9")
    with one.fabric.host.entered():
        above = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with above:
        above.settimeout(5)
        above.bind(("127.0.0.9", 53))

        def lie() -> None:
            wire, client = above.recvfrom(4096)
            query = dns.message.from_wire(wire)
            for number, name in ((query.id ^ 1, "www.example"), (query.id, "www.wrong")):
                other = dns.message.make_query(name, "A", id=number)
                above.sendto(answering("203.0.113.66")(other, False) or b"", client)
            for junk in (b"", b"x", wire, wire[:12]):
                above.sendto(junk, client)
            above.sendto(answering("198.51.100.1")(query, False) or b"", client)

        thread = threading.Thread(target=lie)
        thread.start()
        try:
            assert values(one.ask("www.example")) == ["198.51.100.1"]
        finally:
            thread.join()


def test_questions_that_wait_are_bounded_and_the_names_of_here_are_answered_meanwhile(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    one.name("c1", "web")
    with one.client.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, upstream(outside, OUTSIDE4, silent):
        client.settimeout(5)
        client.connect((GATEWAY, 53))
        codes = []
        for number in range(forward.MOST_OF_CLIENT + 20):
            client.send(dns.message.make_query(f"n{number}.example", "A").to_wire())
        while len(codes) < 20:
            codes.append(code(dns.message.from_wire(client.recv(512))))
        assert set(codes) == {"SERVFAIL"}
        assert values(one.ask("web")) == ["10.9.1.10"]


def test_the_second_try_of_a_client_asks_nobody_twice(
    resolving: Callable[..., Resolving], outside: Namespace
) -> None:
    one = resolving()
    waits = threading.Event()

    def slow(query: dns.message.Message, stream: bool) -> bytes | None:
        waits.wait(5)
        return answering("198.51.100.1")(query, stream)

    with one.client.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, upstream(outside, OUTSIDE4, slow) as above:
        client.settimeout(5)
        client.connect((GATEWAY, 53))
        for _ in range(3):
            client.send(dns.message.make_query("www.example", "A", id=7).to_wire())
        assert code(one.ask("nobody")) == "NXDOMAIN"  # by now all three have been read
        waits.set()
        assert values(dns.message.from_wire(client.recv(512))) == ["198.51.100.1"]
        assert len(above.asked) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_no_packet_ends_a_resolver(
    resolving: Callable[..., Resolving], outside: Namespace, seed: int
) -> None:
    chance = random.Random(seed)
    one = resolving()
    one.name("c1", "web")
    good = dns.message.make_query("web", "A", want_dnssec=True).to_wire()
    with one.client.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, upstream(outside, OUTSIDE4, answering("198.51.100.1")):
        client.connect((GATEWAY, 53))
        for _ in range(600):
            wire = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                wire[chance.randrange(len(wire))] = chance.randrange(256)
            client.send(bytes(wire[: chance.randrange(len(wire) + 1)]) or b"")
            client.send(chance.randbytes(chance.randrange(600)))
        for _ in range(40):
            with one.client.entered():
                stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with stream:
                stream.connect((GATEWAY, 53))
                data = chance.randbytes(chance.randrange(2, 3000))
                if chance.random() < 0.5:
                    data = len(data).to_bytes(2, "big") + data
                stream.sendall(data)
        assert values(one.ask("web")) == ["10.9.1.10"]
        assert values(one.ask("web", tcp=True)) == ["10.9.1.10"]
        assert values(one.ask("www.example")) == ["198.51.100.1"]


def test_one_connection_takes_many_questions_in_any_pieces(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    one.name("c1", "web")
    with one.client.entered():
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with stream:
        stream.settimeout(5)
        stream.connect((GATEWAY, 53))
        wire = dns.message.make_query("web", "A").to_wire()
        data = (len(wire).to_bytes(2, "big") + wire) * 5
        for start in range(0, len(data), 7):
            stream.send(data[start : start + 7])
        for _ in range(5):
            assert values(dns.message.from_wire(message_from(stream))) == ["10.9.1.10"]


def test_more_connections_than_are_held_close_the_oldest(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    one.name("c1", "web")
    with ExitStack() as open_, one.client.entered():
        for _ in range(resolver.MOST_CONNECTIONS + 5):
            stream = open_.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            stream.settimeout(5)
            stream.connect((GATEWAY, 53))
        assert values(one.ask("web", tcp=True)) == ["10.9.1.10"]


def test_a_port_that_is_taken_is_said_and_nothing_stays_bound(fabric: Fabric) -> None:
    fabric.network(ipv6=True)
    with fabric.host.entered():
        other = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 53))
        with pytest.raises(PortTaken) as caught:
            listening.bind((GATEWAY, GATEWAY6), namespace=fabric.host)
    assert (caught.value.address, caught.value.protocol) == (GATEWAY6, "udp")
    assert "name server" in caught.value.hint

    for each in listening.bind((GATEWAY, GATEWAY6), namespace=fabric.host):
        each.close()


def test_a_question_waits_for_a_resolver_that_is_still_starting(
    fabric: Fabric, tmp_path: Path
) -> None:
    network = fabric.network()
    client = fabric.container(network)
    folder = str(tmp_path / "endpoints")
    names.write(folder, Named(owner="c1", addresses=("10.9.1.7",), names=("web",)))
    bound = listening.bind((GATEWAY,), namespace=fabric.host)
    with client.entered():
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking:
        asking.settimeout(5)
        asking.connect((GATEWAY, 53))
        asking.send(dns.message.make_query("web", "A").to_wire())
        domain = Domain(
            endpoints=folder,
            subnets=("10.9.1.0/24",),
            gateways=(GATEWAY,),
            resolv_conf=str(tmp_path / "none"),
            leave_after_s=0.0,
        )
        server = resolver.Server(domain, [socket.socket(fileno=b.detach()) for b in bound])
        try:
            server.loop.turn(5)
            assert values(dns.message.from_wire(asking.recv(512))) == ["10.9.1.7"]
        finally:
            server.close()


@requires.program("iptables")
@pytest.mark.parametrize("internal", [False, True], ids=["open", "internal"])
def test_a_firewall_that_lets_nobody_in_lets_questions_in(
    fabric: Fabric, tmp_path: Path, internal: bool
) -> None:
    def iptables(program: str, *arguments: str) -> str:
        with fabric.host.entered():
            done = subprocess.run(
                [program, *arguments], stdout=subprocess.PIPE, text=True, check=True
            )
        return done.stdout

    for program in ("iptables", "ip6tables"):
        iptables(program, "-P", "INPUT", "DROP")
    network = fabric.network(ipv6=True, internal=internal)
    network.ensure()
    client = fabric.container(network)
    folder = str(tmp_path / "endpoints")
    names.write(folder, Named(owner="c1", addresses=("10.9.1.7",), names=("web",)))
    bound = listening.bind((GATEWAY, GATEWAY6), namespace=fabric.host)
    domain = Domain(
        endpoints=folder,
        subnets=("10.9.1.0/24", "fd00:1::/64"),
        gateways=(GATEWAY, GATEWAY6),
        leave_after_s=0.0,
    )
    over = threading.Event()
    thread = threading.Thread(
        target=resolver.serve,
        args=(domain, [socket.socket(fileno=each.detach()) for each in bound], over.is_set),
    )
    thread.start()
    try:
        for tcp in (False, True):
            assert values(ask(client, GATEWAY, "web", tcp=tcp)) == ["10.9.1.7"]
        with fabric.host.entered():
            other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with other:
            other.settimeout(0.3)
            other.bind((GATEWAY, 5353))
            with client.entered():
                asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with asking:
                asking.sendto(b"?", (GATEWAY, 5353))
            with pytest.raises(TimeoutError):
                other.recv(10)
    finally:
        over.set()
        names.remove(folder, "c1")
        thread.join(10)
    shown = iptables("iptables", "-S", "INPUT")
    assert f"-A INPUT -d {GATEWAY}/32 -i br1 -p udp -m udp --dport 53" in shown
    assert shown.count("br1 ") == 2

    network.remove()

    for program in ("iptables", "ip6tables"):
        assert "br1" not in iptables(program, "-S")


def test_a_resolver_leaves_an_empty_network_only_if_it_may(
    resolving: Callable[..., Resolving],
) -> None:
    one = resolving()
    assert one.thread is not None
    time.sleep(0.3)
    assert one.thread.is_alive()

    one.name("c1", "web")
    one.may_leave.set()
    time.sleep(0.3)
    assert values(one.ask("web")) == ["10.9.1.10"]
    names.remove(str(one.folder), "c1")

    one.thread.join(10)
    assert not one.thread.is_alive()
