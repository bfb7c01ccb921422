"""The members of a zip archive as stretches of the file: torch.save and Keras store theirs without compression."""

from __future__ import annotations

import zipfile
import zlib
from typing import NamedTuple

from ..errors import GPT2Error
from .tensor import TensorFile

_LOCAL_HEADER = 30  # bytes, before the name and the extra field
_CHUNK = 1 << 20


class Member(NamedTuple):
    """Where a member's bytes lie; `crc` is None in an archive that was written without checksums."""

    name: str
    offset: int
    size: int
    crc: int | None


def zip_members(file: TensorFile) -> dict[str, Member]:
    """Returns name -> Member of an archive whose members are stored as they are, and apart from each other."""
    try:
        with zipfile.ZipFile(file.file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OverflowError, OSError) as error:
        raise file.damaged(f"it is no whole zip archive ({error})") from None
    without_checksums = not any(info.CRC for info in infos)  # torch can leave them out, and writes 0
    members: dict[str, Member] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.filename
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise GPT2Error(
                f"{file.path}: {name!r} is compressed or encrypted, which a checkpoint's parts never are. "
                "Unpack the archive, or save the model again"
            )
        if name in members:
            raise file.damaged(f"it holds {name!r} twice")
        if info.header_offset < end:
            raise file.damaged(f"{name!r} begins before the member in front of it ends")
        start = _data_start(file, name, info.header_offset)
        end = start + info.file_size
        if end > file.size:
            raise file.damaged(f"{name!r} ends at byte {end} of {file.size}")
        members[name] = Member(name, start, info.file_size, None if without_checksums else info.CRC)
    return members


def _data_start(file: TensorFile, name: str, header_offset: int) -> int:
    header = file.bytes_at(header_offset, _LOCAL_HEADER)
    if header[:4] != b"PK\x03\x04":
        raise file.damaged(f"{name!r} has no header at byte {header_offset}")
    names, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    return header_offset + _LOCAL_HEADER + names + extra


def member_bytes(file: TensorFile, member: Member, limit: int) -> bytes:
    """Returns the checked bytes of a small member; one of more than `limit` bytes is refused."""
    if member.size > limit:
        raise GPT2Error(f"{file.path}: {member.name!r} has {member.size} bytes, {limit} are read at most")
    data = file.bytes_at(member.offset, member.size)
    _compare(file, member, zlib.crc32(data))
    return data


def check_member(file: TensorFile, member: Member) -> None:
    """Raises GPT2Error unless the member's bytes have its checksum."""
    if member.crc is not None:
        crc = 0
        for start in range(0, member.size, _CHUNK):
            crc = zlib.crc32(file.bytes_at(member.offset + start, min(_CHUNK, member.size - start)), crc)
        _compare(file, member, crc)


def _compare(file: TensorFile, member: Member, crc: int) -> None:
    if member.crc is not None and crc != member.crc:
        raise file.damaged(f"{member.name!r} does not match its checksum")
