"""A local Langfuse of either generation: `SandboxLangfuse` answers requests as the facts and the recordings say."""

from .generations import Generation, ScoresApi
from .records import Project
from .service import DEFAULT_PROJECT, SandboxLangfuse

__all__ = ["DEFAULT_PROJECT", "Generation", "Project", "SandboxLangfuse", "ScoresApi"]
