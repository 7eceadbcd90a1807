"""Members of archives, read without unpacking them to disk."""

from __future__ import annotations

import gzip
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.data.conftest import Keep, ar, deb, tarball, wheel
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
