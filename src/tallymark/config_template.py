"""The commented `tallymark.toml` that `tallymark init` writes, made from the table of settings."""

from __future__ import annotations

import json

from .settings import SETTINGS, Setting

_HEAD = """\
# Settings of tallymark. An environment variable wins over this file; what neither sets has the default shown here.
# Lines that begin with "#" and no blank are settings: remove the "#" to change one. Keep secrets in the environment.
"""

_TABLES = """\
# Several Langfuse projects, instead of langfuse_public_key and langfuse_secret_key above. secret_key_env names an
# environment variable, so that the key itself stays out of this file.
#[projects.main]
#base_url = "https://cloud.langfuse.com"
#public_key_env = "LANGFUSE_PUBLIC_KEY"
#secret_key_env = "LANGFUSE_SECRET_KEY"

# Components with a meter of their own: ai, compute or storage = the meter's event_name.
#[meters]
#compute = "compute_credits"

# Who pays, for traces without customerId or stripeCustomerId in their metadata: Langfuse's id = Stripe's customer.
# A session decides before a user, a user before an organization (metadata organizationId or orgId).
#[customers.sessions]
#"session-1" = "cus_example"

#[customers.users]
#"user-1" = "cus_example"

#[customers.organizations]
#"organization-1" = "cus_example"

# Limits of single customers for the alert on what a customer used in the period to date, in credits.
#[alerts.customer_credits]
#"cus_example" = 250000
"""


def template() -> str:
    """Every setting with its help and default, every table with an example, all commented.

    Prose begins with "# ", what can be uncommented with "#" alone; the file is valid with all of it uncommented too.
    """
    return "\n".join([_HEAD, *(_lines(setting) for setting in SETTINGS), _TABLES])


def _lines(setting: Setting) -> str:
    return f"# {setting.help}\n# Environment: {' or '.join(setting.variables)}\n#{setting.key} = {_literal(setting)}\n"


def _literal(setting: Setting) -> str:
    """The default as TOML; empty text means that the setting is not set."""
    default = setting.default or ""
    is_bare = bool in setting.toml_types or (int in setting.toml_types and default.isdecimal())
    return default if is_bare else json.dumps(default)
