"""Writes OTLP's JSON form as protobuf bytes, the way the recorded SDKs sent it. Ids are base64, as recorded."""

from __future__ import annotations

import base64
import struct
from typing import Any


def export_request(export: dict[str, Any]) -> bytes:
    """An ExportTraceServiceRequest."""
    return b"".join(_message(1, _resource_spans(one)) for one in export["resourceSpans"])


def _resource_spans(one: dict[str, Any]) -> bytes:
    return _message(1, _attributes(1, one["resource"])) + b"".join(
        _message(2, _scope_spans(each)) for each in one["scopeSpans"]
    )


def _scope_spans(one: dict[str, Any]) -> bytes:
    scope = one["scope"]
    head = _text(1, scope["name"]) + _text(2, scope["version"]) + _attributes(3, scope)
    return _message(1, head) + b"".join(_message(2, _span(span)) for span in one["spans"])


def _span(span: dict[str, Any]) -> bytes:
    return (
        _message(1, base64.b64decode(span["traceId"]))
        + _message(2, base64.b64decode(span["spanId"]))
        + _message(4, base64.b64decode(span.get("parentSpanId", "")))
        + _text(5, span["name"])
        + _number(6, 1)
        + _fixed64(7, int(span["startTimeUnixNano"]))
        + _fixed64(8, int(span["endTimeUnixNano"]))
        + _attributes(9, span)
        + _message(15, b"")
        + _varint(16 << 3 | 5)
        + struct.pack("<I", span.get("flags", 0))
    )


def _attributes(number: int, holder: dict[str, Any]) -> bytes:
    items = holder.get("attributes", [])
    return b"".join(_message(number, _text(1, item["key"]) + _message(2, _value(item["value"]))) for item in items)


def _value(value: dict[str, Any]) -> bytes:
    [(kind, content)] = value.items()
    if kind == "arrayValue":
        return _message(5, b"".join(_message(1, _value(item)) for item in content["values"]))
    if kind == "doubleValue":
        return _varint(4 << 3 | 1) + struct.pack("<d", content)
    if kind == "stringValue":
        return _text(1, content)
    return _number({"boolValue": 2, "intValue": 3}[kind], int(content))


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value % 2**64)


def _fixed64(number: int, value: int) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<Q", value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
