"""How a Langfuse server is spoken to: shared by the stations that read from it and write marks to it."""
