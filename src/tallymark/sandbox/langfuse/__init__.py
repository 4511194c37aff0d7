"""A local Langfuse of the legacy generation: `SandboxLangfuse` answers requests as the facts and the recordings say."""

from .records import Project
from .service import DEFAULT_PROJECT, SandboxLangfuse

__all__ = ["DEFAULT_PROJECT", "Project", "SandboxLangfuse"]
