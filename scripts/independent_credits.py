"""Compute the credits of a workload file without tallymark: the oracle that tests and demos are compared with.

    python scripts/independent_credits.py FILE.csv [--customers 50] [--seed 7]

FILE has the columns TIMESTAMP,ContextTokens,GeneratedTokens. The rule:

- Each row, counted from 0, is one trace.
- Its customer: customer k (1 … customers) owns 1,000,000 // k tickets, laid out in the order of k. The ticket drawn is
  the first 8 bytes of SHA-256 of the text "seed:row", as a big-endian integer, modulo the number of tickets.
- Its cost: USD_PER_MILLION_TOKENS below. Its duration: 200 ms and 20 ms for each generated token.
- Its credits: (cost + duration in minutes × 0.05 USD) × margin 1 ÷ 0.00004 USD, rounded to a millionth of a credit,
  half to even, for each trace; then added for each customer.

Prints one JSON object: {"traces": N, "credits": TOTAL, "customers": {CUSTOMER: CREDITS}}; credits are text with six
decimals.
Times play no part in it. It imports nothing of tallymark and calculates in fractions, so that a mistake in the one is
not a mistake in the other.
"""

import argparse
import csv
import hashlib
import json
import pathlib
from fractions import Fraction

USD_PER_MILLION_TOKENS = {"ContextTokens": Fraction("2.50"), "GeneratedTokens": Fraction(10)}
CREDIT_PRICE_USD = Fraction("0.00004")
COMPUTE_USD_PER_MINUTE = Fraction("0.05")
MARGIN = Fraction(1)


def main():
    """Read the command line, print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--customers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    print(json.dumps(tally(arguments.file, arguments.customers, arguments.seed), indent=1))


def tally(file, customers, seed):
    """The credits of each customer, as an object for JSON."""
    micros_by_customer = {}
    traces = 0
    with pathlib.Path(file).open(newline="", encoding="utf-8-sig") as lines:
        for traces, row in enumerate(csv.DictReader(lines), 1):
            customer = customer_of(traces - 1, customers, seed)
            micros_by_customer[customer] = micros_by_customer.get(customer, 0) + micros_of(row)
    return {
        "traces": traces,
        "credits": credits_text(sum(micros_by_customer.values())),
        "customers": {name: credits_text(micros) for name, micros in sorted(micros_by_customer.items())},
    }


def customer_of(row, customers, seed):
    """Draw a ticket for the row and walk to its owner."""
    tickets = [1_000_000 // number for number in range(1, customers + 1)]
    ticket = int(hashlib.sha256(f"{seed}:{row}".encode()).hexdigest()[:16], 16) % sum(tickets)
    for number, owned in enumerate(tickets, 1):
        if ticket < owned:
            return f"cus_workload_{number:03d}"
        ticket -= owned
    raise AssertionError("every ticket has an owner")


def micros_of(row):
    """The micro-credits of one trace: exact until the one rounding (Python rounds fractions half to even)."""
    cost_usd = sum(int(row[column]) * price / 1_000_000 for column, price in USD_PER_MILLION_TOKENS.items())
    minutes = Fraction(200 + 20 * int(row["GeneratedTokens"]), 1000 * 60)
    credits = (cost_usd + minutes * COMPUTE_USD_PER_MINUTE) * MARGIN / CREDIT_PRICE_USD
    return round(credits * 1_000_000)


def credits_text(micros):
    """Micro-credits as credits with six decimals."""
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


if __name__ == "__main__":
    main()
