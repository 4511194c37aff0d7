"""Groups of commands, one a file; `cli` joins them. Each parses, calls one flow and prints."""
