"""What can go wrong with a chat template."""

from __future__ import annotations


class TemplateError(Exception):
    """The template cannot be compiled, or not be rendered; the text says why."""


class TemplateRefused(TemplateError):
    """The template itself refused the conversation; the text is the template's."""


class TemplateStopped(TemplateError):
    """The template took more steps, time or room than any honest one needs."""
