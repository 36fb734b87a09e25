"""The code in a Markdown document."""

from __future__ import annotations

import re


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a document, or of a part of it, in their order."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
