"""tallymark: Langfuse traces into Stripe usage-based billing, every trace counted once."""

__version__ = "0.1.0"
