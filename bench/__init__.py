"""Benchmarks: `python -m bench` measures tallymark against the sandbox, in one run, mostly as ratios.

Directional, not a test: nothing here fails because a machine is slow. The sandbox runs in a process of its own without
any artificial latency, and every measured job in a fresh interpreter.
"""
