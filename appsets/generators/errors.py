"""The error of generators."""

from hub.engine.errors import RuleError


class GeneratorError(RuleError):
    """A generator is invalid, or one of its inputs cannot be read."""
