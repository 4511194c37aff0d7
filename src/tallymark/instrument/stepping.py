"""Generators that run in a context of their own, so that what holds inside does not leak to who iterates."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Generator
from contextvars import Context
from typing import Any


class Steps(Generator[Any, Any, Any]):
    """A generator, each step of which runs in one context."""

    def __init__(self, generator: Any, context: Context) -> None:
        """Step this generator, or iterator of an awaitable, in this context."""
        self._generator = generator
        self._context = context

    def send(self, value: Any) -> Any:
        """One step."""
        return self._context.run(self._generator.send, value)

    def throw(self, *error: Any) -> Any:
        """One step that begins with an error."""
        return self._context.run(self._generator.throw, *error)


class _Wait:
    """An awaitable that is waited for in one context, in the task of who awaits it."""

    def __init__(self, awaitable: Awaitable[Any], context: Context) -> None:
        self._awaitable = awaitable
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        return Steps(self._awaitable.__await__(), self._context)


class AsyncSteps(AsyncGenerator[Any, Any]):
    """An asynchronous generator, each step of which runs in one context."""

    def __init__(self, generator: AsyncGenerator[Any, Any], context: Context) -> None:
        """Step this generator in this context."""
        self._generator = generator
        self._context = context

    async def asend(self, value: Any) -> Any:
        """One step."""
        return await _Wait(self._generator.asend(value), self._context)

    async def athrow(self, *error: Any) -> Any:
        """One step that begins with an error."""
        return await _Wait(self._generator.athrow(*error), self._context)
