"""Hostile archives: refused, or harmless, and never a change outside the root."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile

import pytest
import requires
from kit import tarbytes as tar
from kit.unpacker import Unpacker

from sandbox.errors import DamagedArchive, UnsafeArchive
from sandbox.layer.unpack import Bounds

pytestmark = requires.root
EVIL = b"evil\n"


def test_dotdot_that_leaves_the_root_is_refused(unpack: Unpacker) -> None:
    for name in (b"../evil", b"a/../../evil", b"./../evil", b"/../evil", b"a/b/../../../evil"):
        with pytest.raises(UnsafeArchive) as raised:
            unpack(tar.archive(tar.file(name, EVIL)))

        assert raised.value.entry == name.decode()


def test_dotdot_that_stays_inside_is_resolved(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.directory(b"a/"), tar.file(b"a/../b", EVIL)))

    assert unpack.names() == {"a", "b"}


def test_absolute_name_lands_below_the_root(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"//etc//./passwd", EVIL)))

    assert unpack.names() == {"etc", "etc/passwd"}


def test_dotdot_in_a_pax_path_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.pax([(b"path", b"../evil")]), tar.file(b"innocent", EVIL)))


def test_dotdot_in_a_gnu_long_name_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.long_name(b"x/../" * 60 + b"../evil"), tar.file(b"x", EVIL)))


def test_file_through_an_absolute_link_lands_below_the_root(unpack: Unpacker) -> None:
    target = str(unpack.outside / "etc").encode()

    unpack(tar.archive(tar.symlink(b"link", target), tar.file(b"link/passwd", EVIL)))

    inside = unpack.root / str(unpack.outside / "etc" / "passwd").lstrip("/")
    assert inside.read_bytes() == EVIL


def test_file_through_a_relative_link_lands_below_the_root(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.symlink(b"link", b"../../outside/etc"), tar.file(b"link/x", EVIL)))

    assert (unpack.root / "outside" / "etc" / "x").read_bytes() == EVIL


def test_file_over_a_link_replaces_the_link(unpack: Unpacker) -> None:
    target = str(unpack.outside / "etc" / "passwd").encode()

    unpack(tar.archive(tar.symlink(b"link", target), tar.file(b"link", EVIL)))

    assert (unpack.root / "link").is_file()
    assert not (unpack.root / "link").is_symlink()


def test_directory_over_a_link_replaces_the_link(unpack: Unpacker) -> None:
    target = str(unpack.outside).encode()

    unpack(
        tar.archive(
            tar.symlink(b"link", target), tar.directory(b"link/", mode=0o700), tar.file(b"link/x")
        )
    )

    assert stat.S_ISDIR(os.lstat(unpack.root / "link").st_mode)


def test_chain_of_links_stays_inside(unpack: Unpacker) -> None:
    # The shape of CVE-2025-4517: many links, each a step up, and a path too long to be resolved.
    step = b"d" * 200
    entries = []
    path = b""
    for letter in b"abcdefghijklmnop":
        entries.append(tar.pax([(b"path", path + step)]) + tar.directory(b"d"))
        entries.append(
            tar.pax([(b"path", path + bytes([letter])), (b"linkpath", step)])
            + tar.symlink(b"l", b"x")
        )
        path += bytes([letter]) + b"/"
    entries.append(
        tar.pax([(b"path", path + b"escape"), (b"linkpath", b"../" * 17)]) + tar.symlink(b"l", b"x")
    )
    entries.append(tar.symlink(b"out", path[:-1] + b"/escape/../../outside/etc"))
    entries.append(tar.file(b"out/passwd", EVIL))

    unpack(tar.archive(*entries))

    assert (unpack.root / "outside/etc/passwd").read_bytes() == EVIL


def test_links_in_a_circle_are_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(
            tar.archive(tar.symlink(b"a", b"b"), tar.symlink(b"b", b"a"), tar.file(b"a/x", EVIL))
        )


def test_directory_through_a_dangling_link_is_made_inside(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.symlink(b"lib", b"usr/lib"), tar.file(b"lib/libc.so", b"elf")))

    assert (unpack.root / "usr/lib/libc.so").read_bytes() == b"elf"


def test_hard_link_to_outside_is_refused(unpack: Unpacker) -> None:
    absolute = str(unpack.outside / "etc" / "passwd").encode()
    for target in (b"../outside/etc/passwd", absolute, b"/etc/passwd"):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.hard_link(b"got", target)))

        assert "got" not in unpack.names()


def test_hard_link_through_a_link_to_outside_is_refused(unpack: Unpacker) -> None:
    target = str(unpack.outside / "etc").encode()
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.symlink(b"l", target), tar.hard_link(b"got", b"l/passwd")))


def test_hard_link_to_a_link_links_the_link_itself(unpack: Unpacker) -> None:
    target = str(unpack.outside / "etc" / "passwd").encode()

    unpack(tar.archive(tar.symlink(b"l", target), tar.hard_link(b"same", b"l", mode=0o777)))

    assert os.readlink(unpack.root / "same") == target.decode()


def test_writing_through_a_hard_link_to_a_link_changes_nothing_outside(unpack: Unpacker) -> None:
    target = str(unpack.outside / "etc" / "passwd").encode()

    unpack(
        tar.archive(
            tar.symlink(b"l", target),
            tar.hard_link(b"same", b"l", mode=0o777, uid=1000),
            tar.file(b"same", EVIL),
        )
    )

    assert (unpack.root / "same").read_bytes() == EVIL
    assert os.readlink(unpack.root / "l") == target.decode()


def test_hard_link_to_a_directory_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.directory(b"d/"), tar.hard_link(b"l", b"d")))


def test_hard_link_to_itself_changes_nothing(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"f", b"1"), tar.hard_link(b"f", b"./f")))

    assert (unpack.root / "f").read_bytes() == b"1"


def test_hard_link_to_a_whiteout_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.file(b".wh.gone"), tar.hard_link(b"l", b"gone")))


def test_root_cannot_become_a_link(unpack: Unpacker) -> None:
    # umoci CVE-2021-29136
    for name in (b".", b"./", b"/", b"a/.."):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.symlink(name, b"/"), tar.file(b"etc/passwd", EVIL)))


def test_root_takes_its_attributes_from_its_entry(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.directory(b"./", mode=0o711, uid=7, gid=8, mtime=5)))

    status = os.lstat(unpack.root)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o711, 7, 8)
    assert status.st_mtime == 5


def test_whiteout_of_nothing_or_a_parent_is_refused(unpack: Unpacker) -> None:
    for name in (b".wh.", b".wh..", b".wh...", b"a/.wh.", b"a/.wh..."):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.file(name)))


def test_whiteout_with_a_slash_is_refused(unpack: Unpacker) -> None:
    for name in (b".wh.a/b", b".wh../b", b"a/.wh.b/c", b".wh.x/../../outside"):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.file(name)))


def test_applied_whiteout_through_a_link_deletes_nothing_outside(unpack: Unpacker) -> None:
    target = str(unpack.outside).encode()

    unpack(
        tar.archive(tar.symlink(b"l", target), tar.file(b"l/.wh.etc"), tar.file(b"l/.wh..wh..opq")),
        whiteouts="apply",
    )

    assert (unpack.outside / "etc" / "passwd").exists()


def test_applied_whiteout_of_a_link_deletes_the_link(unpack: Unpacker) -> None:
    (unpack.root / "l").symlink_to(unpack.outside)

    unpack(tar.archive(tar.file(b".wh.l")), whiteouts="apply")

    assert unpack.names() == set()


def test_setuid_stays_and_belongs_to_whom_the_archive_says(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"su", b"elf", mode=0o6755, uid=1, gid=2)))

    status = os.lstat(unpack.root / "su")
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o6755, 1, 2)


@requires.device_nodes
def test_device_is_made_as_the_archive_says(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.header(b"null", b"3", mode=0o666, major=1, minor=3),
            tar.header(b"disk", b"4", mode=0o660, major=8, minor=0, gid=6),
        )
    )

    null, disk = os.lstat(unpack.root / "null"), os.lstat(unpack.root / "disk")
    assert stat.S_ISCHR(null.st_mode)
    assert null.st_rdev == os.makedev(1, 3)
    assert null.st_mode & 0o7777 == 0o666
    assert stat.S_ISBLK(disk.st_mode)
    assert disk.st_gid == 6


def test_device_number_out_of_range_is_refused(unpack: Unpacker) -> None:
    for major, minor in ((4096, 0), (1, 1 << 20)):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.header(b"d", b"3", major=major, minor=minor)))


def test_fifo_in_place_of_a_directory_is_refused_as_a_parent(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.header(b"etc", b"6"), tar.file(b"etc/passwd", EVIL)))


def test_file_over_a_fifo_replaces_it_and_does_not_hang(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.header(b"passwd", b"6"), tar.file(b"passwd", EVIL)))

    assert (unpack.root / "passwd").read_bytes() == EVIL


def test_last_entry_wins_between_files_and_directories(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.directory(b"a/"),
            tar.file(b"a/deep/er", b"1"),
            tar.file(b"a", b"2"),
            tar.file(b"b", b"1"),
            tar.directory(b"b/"),
            tar.file(b"b/in", b"2"),
            tar.file(b"c", b"1"),
            tar.file(b"c", b"two"),
        )
    )

    assert unpack.names() == {"a", "b", "b/in", "c"}
    assert (unpack.root / "c").read_bytes() == b"two"


def test_directory_listed_again_keeps_what_is_in_it(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.directory(b"d/", mode=0o755), tar.file(b"d/f"), tar.directory(b"d/", mode=0o700)
        )
    )

    assert unpack.names() == {"d", "d/f"}
    assert os.lstat(unpack.root / "d").st_mode & 0o777 == 0o700


def test_replaced_link_no_longer_leads_where_it_led(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.directory(b"one/"),
            tar.directory(b"two/"),
            tar.symlink(b"way", b"one"),
            tar.file(b"way/a"),
            tar.symlink(b"way", b"two"),
            tar.file(b"way/b"),
        )
    )

    assert unpack.names() == {"one", "two", "way", "one/a", "two/b"}


def test_link_into_the_directory_it_is_in_is_followed_anew(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.directory(b"a/"),
            tar.symlink(b"a/l", b"."),
            tar.file(b"a/l/l", b"now a file"),
        )
    )

    with pytest.raises(UnsafeArchive):
        unpack(
            tar.archive(
                tar.directory(b"a/"),
                tar.symlink(b"a/l", b"."),
                tar.file(b"a/l/l", b"now a file"),
                tar.file(b"a/l/x", b"through a file"),
            )
        )


# ---- numbers ----


def test_huge_size_is_refused(unpack: Unpacker) -> None:
    for size in (
        tar.octal(8**11 - 1, 12),
        tar.base256(1 << 62, 12),
        tar.base256((1 << 63) - 1, 12),
    ):
        with pytest.raises((DamagedArchive, UnsafeArchive)):
            unpack(tar.archive(tar.header(b"f", size=size)))


def test_size_beyond_64_bits_is_refused(unpack: Unpacker) -> None:
    for size in (tar.base256(1 << 64, 12), tar.base256(1 << 90, 12), b"\x80" + b"\xff" * 11):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.header(b"f", size=size)))


def test_negative_base256_size_is_refused(unpack: Unpacker) -> None:
    # CPython CVE-2025-8194: a negative size made the reader seek backwards for ever.
    for size in (-1, -512, -(1 << 63)):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.header(b"f", size=tar.base256(size, 12))))


def test_negative_owner_and_mode_are_refused(unpack: Unpacker) -> None:
    for field in ("uid", "gid", "mode"):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.header(b"f", **{field: tar.base256(-1, 8)})))


def test_owner_that_chown_would_not_set_is_refused(unpack: Unpacker) -> None:
    for records in ([(b"uid", b"4294967295")], [(b"gid", b"4294967296")]):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.pax(records), tar.file(b"f")))


def test_owner_of_32_bits_is_kept(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.header(b"f", uid=tar.base256(4_000_000_000, 8))))

    assert os.lstat(unpack.root / "f").st_uid == 4_000_000_000


def test_field_that_is_no_number_is_refused(unpack: Unpacker) -> None:
    for field in ("mode", "uid", "gid", "size", "mtime"):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.header(b"f", **{field: b"12x4"})))


def test_time_before_1970_is_kept(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.header(b"old", mtime=tar.base256(-1000, 12)),
            tar.pax([(b"mtime", b"-1.25")]) + tar.file(b"pax"),
        )
    )

    assert os.lstat(unpack.root / "old").st_mtime_ns == -1000 * 10**9
    assert os.lstat(unpack.root / "pax").st_mtime_ns == -1_250_000_000


def test_pax_time_is_kept_to_the_nanosecond_and_cut_behind_it(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.pax([(b"mtime", b"1700000000.123456789987")]) + tar.file(b"f"),
            tar.pax([(b"mtime", b"1700000000.5")]) + tar.file(b"g"),
        )
    )

    assert os.lstat(unpack.root / "f").st_mtime_ns == 1700000000123456789
    assert os.lstat(unpack.root / "g").st_mtime_ns == 1700000000500000000


def test_time_that_is_no_number_is_refused(unpack: Unpacker) -> None:
    for text in (b"1e9", b"1.2.3", b"-", b"nan", b"99999999999999999999", b"1\x002"):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.pax([(b"mtime", text)]), tar.file(b"f")))


# ---- names ----


def test_name_with_a_nul_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.pax([(b"path", b"a\0b")]), tar.file(b"f")))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.pax([(b"linkpath", b"a\0b")]), tar.symlink(b"f", b"x")))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.long_name(b"a\0b"), tar.file(b"f")))


def test_empty_name_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.file(b"", EVIL)))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.long_name(b""), tar.file(b"f")))


def test_link_without_a_target_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.symlink(b"l", b"")))


def test_component_of_256_bytes_is_refused(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.pax([(b"path", b"n" * 255)]), tar.file(b"f")))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.pax([(b"path", b"n" * 256)]), tar.file(b"f")))


def test_path_longer_than_a_path_may_be_is_refused(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.pax([(b"path", b"d/" * 2047 + b"f")]), tar.file(b"f")))
    for prelude in (tar.pax([(b"path", b"d/" * 2048)]), tar.long_name(b"d/" * 3000)):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(prelude, tar.file(b"f")))


def test_path_that_links_make_too_long_is_refused(unpack: Unpacker) -> None:
    long = b"/".join([b"x" * 200] * 19)
    with pytest.raises(UnsafeArchive):
        unpack(
            tar.archive(
                tar.pax([(b"linkpath", long)]) + tar.symlink(b"l", b"x"),
                tar.pax([(b"path", b"l/" + long + b"/f")]) + tar.file(b"f"),
            )
        )


def test_bytes_that_are_no_utf8_are_a_name_like_any_other(unpack: Unpacker) -> None:
    unpack(tar.archive(tar.file(b"\xff\xfe\xc0", b"1")))

    assert os.listdir(os.fsencode(unpack.root)) == [b"\xff\xfe\xc0"]


# ---- extended headers ----


@pytest.mark.parametrize(
    "body",
    [
        b"5 a=b\n",
        b"99 path=x\n",
        b"9999999999999999999999 path=x\n",
        b"-1 path=x\n",
        b"0 path=x\n",
        b"3 =\n",
        b"6 path\n",
        b"path=x\n",
        b"11 path=ab\n" + b"\0" * 20,
        b"10 path=abX",
        b"12 pa\0th=ab\n",
        b" 9 path=x\n",
    ],
)
def test_extended_record_whose_length_lies_is_refused(unpack: Unpacker, body: bytes) -> None:
    with pytest.raises(DamagedArchive):
        unpack(tar.archive(tar.pax(body), tar.file(b"f")))


def test_extended_header_beyond_its_bound_is_refused(unpack: Unpacker) -> None:
    records = [(b"comment", b"x" * 70_000)] * 16
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.pax(records), tar.file(b"f")))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(*[tar.pax(records[:4])] * 4, tar.file(b"f")))
    with pytest.raises(UnsafeArchive):
        unpack(tar.archive(tar.header(b"x", b"x", size=tar.base256(1 << 40, 12))))


def test_extended_header_without_its_entry_is_refused(unpack: Unpacker) -> None:
    for prelude in (tar.pax([(b"path", b"x")]), tar.long_name(b"x")):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(prelude))


def test_pax_size_that_lies_is_refused(unpack: Unpacker) -> None:
    for size in (b"-5", b"99999999999999999999", b"1e3", b"0x10"):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.pax([(b"size", size)]), tar.file(b"f", EVIL)))
    with pytest.raises((DamagedArchive, UnsafeArchive)):
        unpack(tar.archive(tar.pax([(b"size", b"9223372036854775807")]), tar.file(b"f", EVIL)))
    with pytest.raises(DamagedArchive):
        unpack(tar.archive(tar.pax([(b"size", b"2000")]), tar.file(b"f", EVIL)))


def test_pax_size_counts_against_the_headers(unpack: Unpacker) -> None:
    body = tar.header(b"f", size=0) + tar.padded(EVIL)

    unpack(tar.archive(tar.pax([(b"size", str(len(EVIL)).encode())]) + body, tar.file(b"g")))

    assert (unpack.root / "f").read_bytes() == EVIL
    assert "g" in unpack.names()


def test_global_header_may_not_name_anything(unpack: Unpacker) -> None:
    for key in (b"path", b"linkpath", b"size", b"GNU.sparse.name"):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.pax([(key, b"1")], b"g"), tar.file(b"f")))


def test_global_header_gives_owner_and_time_until_an_entry_says_otherwise(unpack: Unpacker) -> None:
    unpack(
        tar.archive(
            tar.pax([(b"uid", b"42"), (b"mtime", b"7"), (b"comment", b"git")], b"g"),
            tar.file(b"f"),
            tar.pax([(b"uid", b"43"), (b"mtime", b"")]) + tar.file(b"g", mtime=9),
        )
    )

    first, second = os.lstat(unpack.root / "f"), os.lstat(unpack.root / "g")
    assert (first.st_uid, first.st_mtime) == (42, 7)
    assert (second.st_uid, second.st_mtime) == (43, 9)


@requires.xattrs
def test_overlay_attributes_cannot_be_forged(unpack: Unpacker) -> None:
    names = (
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.overlay.opaque",
        "user.overlay.opaque",
        "security.selinux",
        "security.ima",
        "system.nfs4_acl",
    )
    records = [(f"SCHILY.xattr.{name}".encode(), b"y") for name in names]

    unpack(
        tar.archive(tar.pax([*records, (b"SCHILY.xattr.trusted.mine", b"1")]), tar.directory(b"d/"))
    )

    assert os.listxattr(unpack.root / "d") == ["trusted.mine"]


def test_attribute_beyond_its_bound_is_refused(unpack: Unpacker) -> None:
    for name, value in ((b"user.x", b"v" * 65537), (b"user." + b"n" * 260, b"v"), (b"", b"v")):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(tar.pax([(b"SCHILY.xattr." + name, value)]), tar.file(b"f")))


@requires.xattrs
def test_attribute_that_the_kernel_refuses_is_refused(unpack: Unpacker) -> None:
    for name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"):
        with pytest.raises(DamagedArchive):
            unpack(
                tar.archive(
                    tar.pax([(b"SCHILY.xattr." + name, b"\2\0\0\0" + b"\xff" * 8)]),
                    tar.directory(b"d"),
                )
            )


# ---- sparse ----


def old_gnu_sparse(name: bytes, real: int, pairs: list[tuple[int, int]], content: bytes) -> bytes:
    first, rest = pairs[:4], pairs[4:]
    fields = {"at_386": b"".join(tar.octal(n, 12) for pair in first for n in pair)}
    blocks = []
    while rest:
        part, rest = rest[:21], rest[21:]
        block = b"".join(tar.octal(n, 12) for pair in part for n in pair).ljust(504, b"\0")
        blocks.append((block + (b"\1" if rest else b"\0")).ljust(512, b"\0"))
    fields["at_482"] = b"\1" if blocks else b"\0"
    fields["at_483"] = tar.octal(real, 12) if real < 8**11 else tar.base256(real, 12)
    head = tar.header(name, b"S", size=len(content), magic=tar.GNU, **fields)
    return head + b"".join(blocks) + tar.padded(content)


def test_old_gnu_sparse_file_is_made_with_its_holes(unpack: Unpacker) -> None:
    pairs = [(n * 8192, 2) for n in range(60)] + [(1 << 20, 0)]

    unpack(tar.archive(old_gnu_sparse(b"s", 1 << 20, pairs, b"ab" * 60)))

    content = (unpack.root / "s").read_bytes()
    assert len(content) == 1 << 20
    assert content[: 8192 * 2] == (b"ab".ljust(8192, b"\0")) * 2
    assert content.count(b"ab") == 60


@pytest.mark.parametrize(
    ("real", "pairs", "content"),
    [
        (100, [(0, 200)], b"x" * 200),
        (100, [(50, 60)], b"x" * 60),
        (100, [(10, 10), (5, 10)], b"x" * 20),
        (100, [(0, 10), (5, 10)], b"x" * 20),
        (100, [(0, 10)], b"x" * 20),
        (100, [(0, 20)], b"x" * 10),
        (100, [(8**11 - 1, 8**11 - 1)], b""),
    ],
)
def test_sparse_map_that_lies_is_refused(
    unpack: Unpacker, real: int, pairs: list[tuple[int, int]], content: bytes
) -> None:
    with pytest.raises(DamagedArchive):
        unpack(tar.archive(old_gnu_sparse(b"s", real, pairs, content)))


def test_sparse_bomb_is_refused(unpack: Unpacker) -> None:
    for real in ((1 << 63) - 1, 1 << 50):
        with pytest.raises(UnsafeArchive):
            unpack(tar.archive(old_gnu_sparse(b"s", real, [(0, 1)], b"x")))


def test_sparse_map_of_too_many_pieces_is_refused(unpack: Unpacker) -> None:
    pairs = [(n * 2, 1) for n in range(2000)]
    with pytest.raises(UnsafeArchive):
        unpack(
            tar.archive(old_gnu_sparse(b"s", 4000, pairs, b"x" * 2000)),
            bounds=Bounds(max_sparse_segments=1999),
        )


def test_pax_sparse_0_0(unpack: Unpacker) -> None:
    records = [(b"GNU.sparse.size", b"1000"), (b"GNU.sparse.numblocks", b"2")]
    for offset, size in ((0, 3), (500, 3)):
        records += [
            (b"GNU.sparse.offset", str(offset).encode()),
            (b"GNU.sparse.numbytes", str(size).encode()),
        ]

    unpack(tar.archive(tar.pax(records), tar.file(b"s", b"abcdef")))

    expected = b"abc".ljust(500, b"\0") + b"def".ljust(500, b"\0")
    assert (unpack.root / "s").read_bytes() == expected


def test_pax_sparse_0_1(unpack: Unpacker) -> None:
    records = [
        (b"GNU.sparse.size", b"1000"),
        (b"GNU.sparse.numblocks", b"2"),
        (b"GNU.sparse.name", b"real-name"),
        (b"GNU.sparse.map", b"0,3,500,3"),
    ]

    unpack(tar.archive(tar.pax(records), tar.file(b"GNUSparseFile.0/x", b"abcdef")))

    expected = b"abc".ljust(500, b"\0") + b"def".ljust(500, b"\0")
    assert (unpack.root / "real-name").read_bytes() == expected


def pax_sparse_1_0(real: bytes, lines: bytes, content: bytes) -> bytes:
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"s"),
        (b"GNU.sparse.realsize", real),
    ]
    return tar.pax(records) + tar.file(b"GNUSparseFile.0/s", tar.padded(lines) + content)


def test_pax_sparse_1_0(unpack: Unpacker) -> None:
    many = b"".join(b"%d\n1\n" % (n * 10) for n in range(200))

    unpack(tar.archive(pax_sparse_1_0(b"2000", b"200\n" + many, b"x" * 200), tar.file(b"next")))

    assert (unpack.root / "s").read_bytes() == b"x".ljust(10, b"\0") * 200
    assert "next" in unpack.names()


@pytest.mark.parametrize(
    ("real", "lines", "content"),
    [
        (b"100", b"1\n0\n", b"x"),
        (b"100", b"999999999\n0\n1\n", b"x"),
        (b"100", b"-1\n", b"x"),
        (b"100", b"1\n0\n99999999999999999999999\n", b"x"),
        (b"100", b"1\n" + b"0" * 600 + b"\n1\n", b"x"),
        (b"100", b"1\n90\n20\n", b"x" * 20),
        (b"100", b"", b"x"),
        (b"", b"1\n0\n1\n", b"x"),
    ],
)
def test_pax_sparse_map_that_lies_is_refused(
    unpack: Unpacker, real: bytes, lines: bytes, content: bytes
) -> None:
    with pytest.raises(DamagedArchive):
        unpack(tar.archive(pax_sparse_1_0(real, lines, content)))


def test_sparse_pair_without_its_half_is_refused(unpack: Unpacker) -> None:
    for records in (
        [(b"GNU.sparse.size", b"9"), (b"GNU.sparse.numbytes", b"1")],
        [(b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"1")],
        [(b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"1,2,3")],
        [(b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"1,,3,4")],
        [(b"GNU.sparse.map", b"0,5")],
    ):
        with pytest.raises(DamagedArchive):
            unpack(tar.archive(tar.pax(records), tar.file(b"s", EVIL)))


# ---- headers ----


def test_wrong_checksum_is_refused(unpack: Unpacker) -> None:
    block = bytearray(tar.header(b"f"))
    block[0] ^= 1
    with pytest.raises(DamagedArchive, match="invalid tar header"):
        unpack(tar.archive(bytes(block)))


def test_unknown_type_is_refused(unpack: Unpacker) -> None:
    for typeflag in (b"M", b"Z", b"\x7f", b"A"):
        with pytest.raises(DamagedArchive, match="unhandled tar header type"):
            unpack(tar.archive(tar.header(b"f", typeflag)))


def test_what_is_no_archive_is_refused(unpack: Unpacker) -> None:
    for content in (b"", b"x", b"#!/bin/sh\n" * 500, b"BZh91AY&SY", b"\xfd7zXZ\0\0", b"\x1f\x8b"):
        with pytest.raises(DamagedArchive):
            unpack(content)


def test_data_of_a_header_only_entry_is_not_skipped(unpack: Unpacker) -> None:
    # A directory's or a link's size means nothing: what follows is the next header.
    unpack(
        tar.archive(
            tar.header(b"d/", b"5", mode=0o755, size=512),
            tar.header(b"l", b"2", link=b"x", size=1024),
            tar.file(b"f"),
        )
    )

    assert unpack.names() == {"d", "l", "f"}


def test_zero_block_in_the_middle_is_refused(unpack: Unpacker) -> None:
    with pytest.raises(DamagedArchive):
        unpack(tar.file(b"a") + bytes(512) + tar.file(b"b") + tar.END)


def hundred_entries() -> bytes:
    entries = [tar.directory(b"d%d/" % n) + tar.file(b"d%d/f" % n, b"x" * n) for n in range(50)]
    return tar.archive(*entries)


@pytest.mark.slow
def test_archive_cut_at_any_block_is_refused(unpack: Unpacker) -> None:
    whole = hundred_entries()
    for size in range(0, len(whole), 512):
        with pytest.raises(DamagedArchive, match=r"EOF"):
            unpack(whole[:size])


@pytest.mark.slow
def test_compressed_archive_cut_anywhere_is_refused(unpack: Unpacker) -> None:
    whole = gzip.compress(hundred_entries(), mtime=0)
    for size in range(0, len(whole), 7):
        with pytest.raises(DamagedArchive):
            unpack(whole[:size])


def test_compressed_archive_with_a_flipped_byte_is_refused(unpack: Unpacker) -> None:
    whole = bytearray(gzip.compress(hundred_entries(), mtime=0))
    for at in range(10, len(whole), 11):
        whole[at] ^= 0x55
        with pytest.raises((DamagedArchive, UnsafeArchive)):
            unpack(bytes(whole))
        whole[at] ^= 0x55


# ---- bounds ----


def test_too_many_entries_are_refused(unpack: Unpacker) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(hundred_entries(), bounds=Bounds(max_entries=99))


def test_too_many_bytes_are_refused(unpack: Unpacker) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("zeros")
        member.size = 4 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(UnsafeArchive):
        unpack(content.getvalue(), bounds=Bounds(max_unpacked_bytes=1 << 20))


def test_compression_bomb_is_refused(unpack: Unpacker) -> None:
    bomb = gzip.compress(tar.header(b"zeros", size=64 << 20) + bytes(64 << 20) + tar.END, mtime=0)
    with pytest.raises(UnsafeArchive, match="times its size"):
        unpack(bomb, bounds=Bounds(ratio_floor_bytes=1 << 20))


def test_size_other_than_expected_is_refused(unpack: Unpacker) -> None:
    whole = gzip.compress(hundred_entries(), mtime=0)
    for expected in (len(whole) - 1, len(whole) + 1, 0):
        with pytest.raises(DamagedArchive):
            unpack(whole, expected_size=expected)
