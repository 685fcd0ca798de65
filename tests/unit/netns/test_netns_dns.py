"""Questions and answers as bytes, and what strangers make of them."""

from __future__ import annotations

import random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from netns import dns as ours

MANY = [f"10.9.1.{number}" for number in range(2, 250)]


def asked(name: str, kind: str = "A", **options: object) -> dns.message.Message:
    return dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]


def parsed(name: str, kind: str = "A", **options: object) -> ours.Query:
    return ours.parse(asked(name, kind, **options).to_wire())


def reply_to(wire: bytes) -> bytes:
    with pytest.raises(ours.BadQuery) as caught:
        ours.parse(wire)
    return caught.value.reply


def test_a_query_is_known_by_its_name_in_lower_case() -> None:
    query = parsed("WeB.Example")

    assert (query.name, query.labels, query.size) == ("web.example", 2, 512)


def test_an_answer_has_the_question_as_it_was_asked() -> None:
    message = asked("WeB", use_edns=False)

    reply = dns.message.from_wire(ours.parse(message.to_wire()).addresses(["10.9.1.2", "fd00::2"]))

    assert reply.id == message.id
    assert reply.question[0].name.to_text() == "WeB."
    assert [str(each) for each in reply.answer[0]] == ["10.9.1.2"]
    assert reply.flags & dns.flags.RA
    assert reply.flags & dns.flags.AA


def test_another_family_is_no_data() -> None:
    reply = dns.message.from_wire(parsed("web", "AAAA").addresses(["10.9.1.2"]))

    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])


def test_any_is_both_families() -> None:
    reply = dns.message.from_wire(parsed("web", "ANY").addresses(["10.9.1.2", "fd00::2"]))

    assert sorted(str(each) for rrset in reply.answer for each in rrset) == ["10.9.1.2", "fd00::2"]


def test_a_long_answer_is_cut_to_what_the_client_takes() -> None:
    plain = parsed("web", use_edns=False).addresses(MANY)
    large = parsed("web", use_edns=0, payload=4096).addresses(MANY)
    stream = parsed("web", use_edns=False).addresses(MANY, size=65535)

    assert len(plain) <= 512
    assert len(large) <= ours.OUR_SIZE
    assert [ours.is_truncated(each) for each in (plain, large, stream)] == [True, True, False]
    assert len(dns.message.from_wire(stream).answer[0]) == len(MANY)


def test_the_order_of_addresses_is_the_callers() -> None:
    found = list(reversed(MANY[:20]))

    reply = dns.message.from_wire(parsed("web").addresses(found))

    assert [str(each) for each in reply.answer[0]] == found


def test_an_address_is_turned_into_names() -> None:
    query = parsed("2.1.9.10.in-addr.arpa", "PTR")

    reply = dns.message.from_wire(query.pointers(["web.mynet"]))

    assert query.reverse == "10.9.1.2"
    assert [str(each) for each in reply.answer[0]] == ["web.mynet."]


def test_half_an_address_is_none() -> None:
    assert parsed("1.9.10.in-addr.arpa", "PTR").reverse == ""
    assert parsed("x.1.9.10.in-addr.arpa", "PTR").reverse == ""


def test_answers_without_data() -> None:
    query = parsed("nobody")

    codes = [
        dns.message.from_wire(wire).rcode()
        for wire in (query.no_such_name(), query.no_data(), query.failed(), query.truncated())
    ]

    assert codes == [dns.rcode.NXDOMAIN, dns.rcode.NOERROR, dns.rcode.SERVFAIL, dns.rcode.NOERROR]
    assert ours.is_truncated(query.truncated())


def test_what_is_not_a_question_of_the_internet_is_refused() -> None:
    for message in (asked("version.bind", "TXT", rdclass="CH"), asked("mynet", "AXFR")):
        assert dns.message.from_wire(reply_to(message.to_wire())).rcode() == dns.rcode.REFUSED


def test_another_version_of_edns_is_told_ours() -> None:
    reply = dns.message.from_wire(reply_to(asked("web", use_edns=1).to_wire()))

    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)


def test_an_unknown_operation_is_not_implemented() -> None:
    wire = bytearray(asked("web").to_wire())
    wire[2] |= 5 << 3  # UPDATE

    assert reply_to(bytes(wire))[3] & 0xF == dns.rcode.NOTIMP


def test_an_answer_is_never_answered() -> None:
    assert reply_to(parsed("web").no_data()) == b""
    assert reply_to(b"") == b""
    assert reply_to(b"\0" * 11) == b""


def test_two_questions_are_one_too_many() -> None:
    message = asked("web")
    message.question *= 2

    assert reply_to(message.to_wire())[3] & 0xF == dns.rcode.FORMERR


def test_a_name_that_points_to_itself_is_no_name() -> None:
    wire = b"\1\2\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"

    assert reply_to(wire)[3] & 0xF == dns.rcode.FORMERR


@pytest.mark.parametrize("seed", range(8))
def test_no_packet_does_more_than_be_refused(seed: int) -> None:
    chance = random.Random(seed)
    good = [
        asked("web").to_wire(),
        asked("a.b.c.example", "AAAA", want_dnssec=True).to_wire(),
        asked("2.1.9.10.in-addr.arpa", "PTR", use_edns=0).to_wire(),
        parsed("web").addresses(MANY),
    ]
    refusals = []
    for _ in range(1500):
        wire = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 8)):
            place = chance.randrange(len(wire))
            match chance.randrange(4):
                case 0:
                    wire[place] = chance.randrange(256)
                case 1:
                    del wire[place : place + chance.randrange(1, 9)]
                case 2:
                    wire[place:place] = chance.randbytes(chance.randrange(1, 30))
                case _:
                    wire[place] ^= 1 << chance.randrange(8)
            if not wire:
                break
        packet = bytes(wire)
        try:
            query = ours.parse(packet)
        except ours.BadQuery as error:
            refusals.append(len(error.reply) - len(packet))
            continue
        for reply in (query.addresses(MANY[:3]), query.no_such_name(), query.pointers(["a.b"])):
            assert query.is_answered_by(reply)
            assert reply[:2] == packet[:2]
    assert max(refusals) <= 64  # nobody is worth much more than he sent


def test_the_answer_to_another_question_is_not_taken() -> None:
    query = parsed("web")

    assert query.is_answered_by(parsed("WEB").no_data())
    assert not query.is_answered_by(parsed("wet").no_data())
    assert not query.is_answered_by(parsed("web", "AAAA").no_data())
    assert not query.is_answered_by(query.wire)
    assert not query.is_answered_by(query.no_data()[:14])
