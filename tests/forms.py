"""Multipart forms, byte for byte."""

from __future__ import annotations

BOUNDARY = "----boundary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(disposition: str, content: bytes) -> bytes:
    """A part with the parameters of its disposition, such as `name="purpose"`."""
    head = f"--{BOUNDARY}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def field(name: str, value: str) -> bytes:
    """A field."""
    return part(f'name="{name}"', value.encode())


def file(content: bytes, name: str = "a.txt") -> bytes:
    """The file."""
    return part(f'name="file"; filename="{name}"', content)


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + END


END = f"--{BOUNDARY}--\r\n".encode()
PURPOSE = field("purpose", "vision")
