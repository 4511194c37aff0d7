"""A reader of the protobuf wire format, just as far as OTLP's ExportTraceServiceRequest needs it.

Gives the same tree as OTLP in JSON, so that one mapping serves both. Field numbers: opentelemetry-proto,
trace/v1/trace.proto, common/v1/common.proto and resource/v1/resource.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Fields = dict[int, list[Any]]


def read_fields(message: bytes) -> Fields:
    """The fields of one message: integers for varint and fixed types, bytes for the rest.

    Raises ValueError for bytes that are not protobuf.
    """
    fields: Fields = {}
    for number, value in _walk(message):
        fields.setdefault(number, []).append(value)
    return fields


def _walk(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        value, position = _value(message, position, tag & 7)
        yield tag >> 3, value


def _value(message: bytes, position: int, wire_type: int) -> tuple[int | bytes, int]:
    if wire_type == _VARINT:
        return _varint(message, position)
    if wire_type == _FIXED64:
        return int.from_bytes(_take(message, position, 8), "little"), position + 8
    if wire_type == _FIXED32:
        return int.from_bytes(_take(message, position, 4), "little"), position + 4
    if wire_type != _BYTES:
        raise ValueError(f"unknown protobuf wire type {wire_type}")
    length, position = _varint(message, position)
    return _take(message, position, length), position + length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        result |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return result, position
    raise ValueError("a protobuf number has no end")


def _take(message: bytes, position: int, length: int) -> bytes:
    part = message[position : position + length]
    if len(part) < length:
        raise ValueError("a protobuf field is cut short")
    return part


def read_export_request(message: bytes) -> dict[str, Any]:
    """An ExportTraceServiceRequest as its JSON form. Raises ValueError if it is none."""
    return {"resourceSpans": _messages(read_fields(message), 1, _resource_spans)}


def _resource_spans(fields: Fields) -> dict[str, Any]:
    resources = _messages(fields, 1, lambda inner: {"attributes": _messages(inner, 1, _key_value)})
    return {"resource": resources[0] if resources else {}, "scopeSpans": _messages(fields, 2, _scope_spans)}


def _scope_spans(fields: Fields) -> dict[str, Any]:
    scopes = _messages(fields, 1, _scope)
    return {"scope": scopes[0] if scopes else {}, "spans": _messages(fields, 2, _span)}


def _scope(fields: Fields) -> dict[str, Any]:
    return {"name": _text(fields, 1), "version": _text(fields, 2), "attributes": _messages(fields, 3, _key_value)}


def _span(fields: Fields) -> dict[str, Any]:
    statuses = _messages(fields, 15, lambda inner: {"message": _text(inner, 2), "code": _last(inner, 3, 0)})
    return {
        "traceId": _last(fields, 1, b"").hex(),
        "spanId": _last(fields, 2, b"").hex(),
        "parentSpanId": _last(fields, 4, b"").hex(),
        "name": _text(fields, 5),
        "startTimeUnixNano": _last(fields, 7, 0),
        "endTimeUnixNano": _last(fields, 8, 0),
        "attributes": _messages(fields, 9, _key_value),
        "status": statuses[0] if statuses else {},
    }


def _key_value(fields: Fields) -> dict[str, Any]:
    values = _messages(fields, 2, _any_value)
    return {"key": _text(fields, 1), "value": values[0] if values else {}}


def _any_value(fields: Fields) -> dict[str, Any]:
    for number, name, read in _ANY_VALUE:
        if number in fields:
            return {name: read(fields[number][-1])}
    return {}


def _double(raw: int | bytes) -> float:
    value: float = struct.unpack("<d", _integer(raw).to_bytes(8, "little"))[0]
    return value


def _signed(raw: int | bytes) -> int:
    bits = _integer(raw)
    return bits - 2**64 if bits >= 2**63 else bits


_ANY_VALUE: tuple[tuple[int, str, Callable[[int | bytes], Any]], ...] = (
    (1, "stringValue", lambda raw: _bytes(raw).decode()),
    (2, "boolValue", bool),
    (3, "intValue", _signed),
    (4, "doubleValue", _double),
    (5, "arrayValue", lambda raw: {"values": _messages(read_fields(_bytes(raw)), 1, _any_value)}),
    (6, "kvlistValue", lambda raw: {"values": _messages(read_fields(_bytes(raw)), 1, _key_value)}),
    (7, "bytesValue", lambda raw: _bytes(raw).hex()),
)


def _messages(fields: Fields, number: int, read: Callable[[Fields], dict[str, Any]]) -> list[dict[str, Any]]:
    return [read(read_fields(_bytes(raw))) for raw in fields.get(number, [])]


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise ValueError("a protobuf message was expected, a number came")
    return raw


def _integer(raw: int | bytes) -> int:
    if isinstance(raw, bytes):
        raise ValueError("a protobuf number was expected, bytes came")
    return raw


def _last(fields: Fields, number: int, default: Any) -> Any:
    value = fields.get(number, [default])[-1]
    if type(value) is not type(default):
        raise ValueError(f"protobuf field {number} has another type than expected")
    return value


def _text(fields: Fields, number: int) -> str:
    text: str = _last(fields, number, b"").decode()
    return text
