"""The deterministic simulation: real flows in one thread, against sandboxes in the same process, on virtual time."""
