"""A local Langfuse and a local Stripe that behave as the facts say, faults included.

Product, not test code: `tallymark demo` and users' own tests run on it.
Only the commands that start it and tests import it.
"""
