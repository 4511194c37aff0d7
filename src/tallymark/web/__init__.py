"""The service as others see it: health, readiness, metrics, and the webhook of Stripe. Needs tallymark[web]."""
