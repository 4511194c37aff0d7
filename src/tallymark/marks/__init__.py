"""What tallymark writes back to Langfuse: a projection of the ledger, never its source."""
