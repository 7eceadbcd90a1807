"""Members of archives, read without unpacking them to disk."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.data.conftest import Keep, ar, deb, tarball, wheel
from unplateau.data import archives
from unplateau.data.archives import ar_members, members, read_member, read_members
from unplateau.errors import DataError

CONTENT = {
    "a/one.txt": b"one\n",
    "a/empty": b"",
    "b/two.txt.gz": gzip.compress(b"two \xe2\x82\xac\n"),
    "b/c/d": bytes(5000),
}
KINDS = {
    "t-1-py3-none-any.whl": wheel(CONTENT),
    "t-1.tgz": tarball(CONTENT),
    "t_1_all.deb": deb(CONTENT),
    "t_2_all.deb": deb(CONTENT, "gz"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_archive_reads_the_same(keep: Keep, name: str) -> None:
    package = keep(KINDS[name], name)
    assert members(package) == tuple(sorted(CONTENT))
    assert read_member(package, "a/one.txt") == b"one\n"
    assert read_member(package, "b/two.txt.gz").decode() == "two €\n"
    assert dict(read_members(package, lambda member: member.startswith("a/"))) == {
        "a/one.txt": b"one\n",
        "a/empty": b"",
    }


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd to make such a package")
def test_a_debian_package_packed_with_zstd(keep: Keep) -> None:
    data = subprocess.run(["zstd", "-q"], input=tarball(CONTENT, "w"), capture_output=True, check=True).stdout
    package = keep(ar({"debian-binary": b"2.0\n", "data.tar.zst": data}), "t_3_all.deb")
    assert members(package) == tuple(sorted(CONTENT))
    broken = keep(ar({"debian-binary": b"2.0\n", "data.tar.zst": data[:40]}), "t_4_all.deb")
    with pytest.raises(DataError, match=r"t_4_all.deb: not a whole archive"):
        members(broken)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["cut off", "foreign", "empty"])
def test_a_damaged_archive_is_one_clear_line(keep: Keep, name: str, damage: str) -> None:
    archive = {"cut off": KINDS[name][: len(KINDS[name]) // 2], "foreign": b"hello " * 200, "empty": b""}[damage]
    if damage == "empty" and name.endswith(".tgz"):
        archive = b"\x1f\x8b"  # an empty file is an empty tar to Python
    with pytest.raises(DataError, match=rf"{name}: not a whole archive") as caught:
        read_member(keep(archive, name), "b/c/d")
    assert "\n" not in str(caught.value)


def test_a_member_that_is_missing_or_damaged(keep: Keep) -> None:
    package = keep(wheel({"x.gz": gzip.compress(b"abc")[:-4]}))
    with pytest.raises(DataError, match=r"tiny-1.0-py3-none-any.whl: no member 'y'"):
        read_member(package, "y")
    with pytest.raises(DataError, match=r"x.gz: not a whole gzip file"):
        read_member(package, "x.gz")


@given(st.dictionaries(st.text("abcdef.-_", min_size=1, max_size=15), st.binary(max_size=50), max_size=4))
def test_ar_archives_are_read_as_they_were_written(content: dict[str, bytes]) -> None:
    assert dict(ar_members(ar(content))) == content


@given(st.binary(min_size=1, max_size=50), st.integers(1, 60))
def test_an_ar_archive_that_is_cut_off_is_refused(data: bytes, missing: int) -> None:
    archive = ar({"name": data})[: 8 + 60 + len(data)]
    with pytest.raises(ValueError, match="cut off"):
        list(ar_members(archive[:-missing] if missing < len(archive) - 8 else archive[:9]))


def tar_with(size: bytes, content: bytes = b"x" * 600) -> bytes:
    """A tar of one member whose header says that it has this size, in the twelve bytes that it has for that."""
    whole = bytearray(tarball({"a": content}, "w"))
    whole[124:136] = size
    whole[148:156] = b" " * 8
    whole[148:156] = b"%06o\0 " % sum(whole[:512])
    return bytes(whole)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [b"\xff" * 11 + b"\x00", b"\xff" * 10 + b"\xfc\x00", b"-0000001000\0"], ids=str)
def test_a_negative_size_in_a_tar_is_no_circle(keep: Keep, size: bytes) -> None:
    package = keep(gzip.compress(tar_with(size)), "t-2.tgz")
    with pytest.raises(DataError, match=r"t-2.tgz: "):
        read_member(package, "a")
    with pytest.raises(DataError, match=r"t-2.tgz: "):
        read_member(package, "b")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "size", [b"-60       ", b"-100      ", b"1e3       ", b"          ", b"9999999999", b"0x10      "]
)
def test_a_size_in_an_ar_archive_is_a_number_of_bytes_that_are_there(size: bytes) -> None:
    whole = bytearray(ar({"name": b"content"}))
    whole[8 + 48 : 8 + 58] = size
    with pytest.raises(ValueError, match=r"without a size|cut off"):
        list(ar_members(bytes(whole)))


@pytest.mark.parametrize("made", [wheel, tarball], ids=["zip", "tar"])
def test_a_member_beyond_all_measure_is_refused_unread(
    keep: Keep, made: Callable[[dict[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = keep(made({"a": bytes(1001), "b": bytes(1000)}), "t-3.tgz" if made is tarball else "t-3.whl")
    monkeypatch.setattr(archives, "MOST_UNPACKED", 1000)
    assert read_member(package, "b") == bytes(1000)
    with pytest.raises(DataError, match="says that it has 1,001 bytes; at most 1,000"):
        read_member(package, "a")


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(keep: Keep) -> None:
    honest = wheel({"a": bytes(10**6)})
    lying = honest.replace((10**6).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(DataError, match="not a whole archive"):
        read_member(keep(lying), "a")


def test_a_compressed_member_unpacks_to_an_end(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    package = keep(wheel({"x.gz": gzip.compress(bytes(10**6))}))
    assert read_member(package, "x.gz") == bytes(10**6)
    monkeypatch.setattr(archives, "MOST_UNPACKED", 10**5)
    with pytest.raises(DataError, match=r"x.gz: not a whole gzip file \(a member unpacks to more than 100,000 bytes"):
        read_member(package, "x.gz")


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd to make such a package")
def test_zstd_unpacks_to_an_end(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    data = subprocess.run(
        ["zstd", "-q"], input=tarball({"a": bytes(10**7)}, "w"), capture_output=True, check=True
    ).stdout
    package = keep(ar({"debian-binary": b"2.0\n", "data.tar.zst": data}), "t_5_all.deb")
    monkeypatch.setattr(archives, "MOST_UNPACKED", 10**6)
    with pytest.raises(DataError, match="unpacks to more than 1,000,000 bytes"):
        members(package)
