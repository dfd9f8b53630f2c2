"""The 512-byte ustar header: nothing in it depends on the machine or on the time."""

from __future__ import annotations

from fusion.bundle.errors import BundleError

BLOCK = 512
END = bytes(2 * BLOCK)  # two zero blocks close an archive
NAME_BYTES, PREFIX_BYTES = 100, 155
MAX_FILE_BYTES = 8**11 - 1  # eleven octal digits


def header(name: str, size_bytes: int) -> bytes:
    """Header of a regular file: mode 0644, mtime 0, uid 0, no user name.

    Raises:
        BundleError: the name does not fit ustar (100 bytes, or a prefix of up to 155 before a
            slash), or the file is 8 GiB or larger.
    """
    if not 0 <= size_bytes <= MAX_FILE_BYTES:
        raise BundleError(
            "size_limit",
            f"{name}: found {size_bytes} bytes, expected 0 to {MAX_FILE_BYTES} (ustar)",
        )
    prefix, last = _split(name)
    size = b"%011o" % size_bytes
    block = bytearray(_SAME)
    block[0 : len(last)] = last
    block[124:135] = size
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % (_SAME_SUM + sum(last) + sum(size) + sum(prefix))
    return bytes(block)


def _same() -> bytes:
    """What all headers share."""
    block = bytearray(BLOCK)
    block[100:108] = b"0000644\0"
    block[108:116] = block[116:124] = b"0000000\0"
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8  # the checksum counts itself as blanks
    block[156:157] = b"0"
    block[257:265] = b"ustar\00000"
    block[329:345] = b"0000000\0" * 2
    return bytes(block)


_SAME = _same()
_SAME_SUM = sum(_SAME)


def padding(size_bytes: int) -> int:
    """Zero bytes after a member's data."""
    return -size_bytes % BLOCK


def member_bytes(size_bytes: int) -> int:
    """Header, data and padding together."""
    return BLOCK + size_bytes + padding(size_bytes)


def _split(name: str) -> tuple[bytes, bytes]:
    whole = name.encode("utf-8")
    if len(whole) <= NAME_BYTES:
        return b"", whole
    # The last slash that leaves a prefix of at most 155 bytes gives the shortest last part.
    cut = whole.rfind(b"/", 0, PREFIX_BYTES + 1)
    prefix, last = whole[: max(cut, 0)], whole[cut + 1 :]
    if not prefix or not last or len(last) > NAME_BYTES:
        raise BundleError(
            "name_unsafe",
            f"{name}: found a name of {len(whole)} bytes, expected one that fits a ustar header",
        )
    return prefix, last
