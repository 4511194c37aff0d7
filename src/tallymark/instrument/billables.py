"""`billable`: a context manager and a decorator that puts customer and billing tags on the traces made inside it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import copy_context
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from .labels import NOT_GIVEN, Labels, NotGiven, labels_of, trace_arguments
from .refusals import safely
from .scopes import active_scope, close_scope, open_scope
from .stepping import AsyncSteps, Steps

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Text = str | Callable[..., str | None]
"""Text, or in a decorator a function that is called with the arguments of the decorated function and returns it."""


class Billable:
    """What `billable` returns. It may be used again and again, by many threads and tasks at once."""

    def __init__(self, given: Mapping[str, object]) -> None:
        """Check what was given; values that are functions are called later."""
        self._given = given
        self._needs_call = any(callable(value) for value in given.values())
        self._labels = Labels() if self._needs_call else _checked(given)

    def __enter__(self) -> None:
        """Let the labels hold."""
        labels = _checked(self._given) if self._needs_call else self._labels
        safely("begun", open_scope, self, labels)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let what held before hold again. Errors of the application pass."""
        safely("ended", close_scope, self)

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """Decorate a function, a coroutine function, or a generator function of either kind."""
        if inspect.isasyncgenfunction(function):
            return self._around_async_generator(function)
        if inspect.isgeneratorfunction(function):
            return self._around_generator(function)
        if inspect.iscoroutinefunction(function):
            return self._around_coroutine(function)
        return self._around_function(function)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            with self._for_call(args, kwargs):
                return function(*args, **kwargs)

        return labelled

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def labelled(*args: Any, **kwargs: Any) -> Any:
            with self._for_call(args, kwargs):
                return await function(*args, **kwargs)

        return labelled

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            context = copy_context()
            context.run(self._for_call(args, kwargs).__enter__)
            return (yield from Steps(function(*args, **kwargs), context))

        return labelled

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            context = copy_context()
            context.run(self._for_call(args, kwargs).__enter__)
            return AsyncSteps(function(*args, **kwargs), context)

        return labelled

    def _for_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Billable:
        """This, or one with the values that its functions give for these arguments."""
        if not self._needs_call:
            return self
        return Billable({name: _value(name, value, args, kwargs) for name, value in self._given.items()})


def billable(
    *,
    customer: Text | NotGiven | None = NOT_GIVEN,
    flow: Text | None = None,
    ownership: Text | None = None,
    user: Text | None = None,
    session: Text | None = None,
    metadata: Mapping[str, str] | Callable[..., Mapping[str, str]] | None = None,
) -> Billable:
    """Put customer and billing tags on every trace that is made inside: `with billable(...):` or `@billable(...)`.

    - `customer`: the Stripe customer to bill, such as "cus_123"; None is refused, as empty.
    - `flow`: the name of the flow, a second tag beside billing:pending.
    - `ownership`: whose AI credentials are used, "platform" or "user".
    - `user`, `session`: Langfuse's own, for its dashboards and for customers found by mapping.
    - `metadata`: more flat text, such as {"gbMonth": "2.5"}.

    In a decorator each may be a function of the call's arguments: `customer=lambda request: request.customer_id`.
    Inside another `billable`, what is not given is inherited; a run for another customer gets a trace of its own.

    Works with the Langfuse SDK 3.9 and later by itself, with other OpenTelemetry through `BillingSpanProcessor`, with
    SDK 2 through `trace_kwargs`. Text over 200 characters, other types, and an empty customer are left out and logged
    once, and raise ValueError if strict (`set_strict`); otherwise nothing is ever raised. Source of what Langfuse
    takes: facts/langfuse.md section 9.2.
    """
    given = {"customer": customer, "flow": flow, "ownership": ownership}
    return Billable(given | {"user": user, "session": session, "metadata": metadata})


def trace_kwargs() -> dict[str, Any]:
    """Keyword arguments for `langfuse.trace(...)` of the Langfuse SDK 2: tags, metadata, user_id, session_id.

    They say what the `billable` around says; outside of any, only the tag billing:pending.
    """
    scope = active_scope()
    return trace_arguments(scope.labels if scope else Labels())


def _checked(given: Mapping[str, object]) -> Labels:
    labels = safely("checked", lambda: labels_of(**given))
    return labels if isinstance(labels, Labels) else Labels(customer="")


def _value(name: str, value: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    """A value, or what its function says of these arguments; None if the function fails."""
    return safely(f"given its {name}", value, *args, **kwargs) if callable(value) else value
