"""Checks an object that the SDK made of an answer: every field is one that its class declares, all the way down."""

from stripe_account import stripe

# The user's own words, and what every object has.
FREE = {"metadata", "object"}


def undeclared(made, place="answer"):
    """The fields that the SDK's classes do not know, as paths."""
    if not isinstance(made, stripe.StripeObject) or type(made) is stripe.StripeObject:
        return []
    known = {name for kind in type(made).__mro__ for name in getattr(kind, "__annotations__", {})}
    found = [f"{place}.{name}" for name in made.to_dict() if name not in known | FREE]
    for name in made.to_dict():
        value = made[name]
        for position, inner in enumerate(value if isinstance(value, list) else [value]):
            found += undeclared(inner, f"{place}.{name}[{position}]") if name not in FREE else []
    return found
