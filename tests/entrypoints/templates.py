"""Comparing findings with the templates that they are made from."""

from __future__ import annotations

import re
import string

from entrypoints.findings import Finding, Message


def pattern(template: str) -> str:
    """A template as a regular expression, with anything in place of a value."""
    parts = string.Formatter().parse(template)
    return "".join(re.escape(text) + "(.*)" * (name is not None) for text, name, *_ in parts)


def is_made_by(finding: Finding, message: Message) -> bool:
    """Whether the finding can come from the message; a code or place left open fits any."""
    if message.severity != finding.severity or message.code not in ("", finding.code):
        return False
    texts = [(message.text, finding.message), (message.fix, finding.fix)]
    texts += [(message.where, finding.where)] if message.where else []
    return all(re.fullmatch(pattern(one), text, re.DOTALL) for one, text in texts)
