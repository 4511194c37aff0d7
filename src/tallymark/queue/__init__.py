"""The queue that tells workers what to do next: procrastinate, on the PostgreSQL server that the ledger is on.

It carries names of work, never money: a job that is lost, or comes twice, changes nothing (docs/adr/0039).
"""
