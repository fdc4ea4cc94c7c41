"""Runs code from stdin in a kernel, and writes all messages that a notebook would get to the file that is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def watched(code: str) -> list[dict[str, Any]]:
    """The kernel's messages, by type, with their data or text."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    messages: list[dict[str, Any]] = []

    def keep(message: dict[str, Any]) -> None:
        content = message["content"]
        messages.append({"type": message["msg_type"], "data": content.get("data", {}), "text": content.get("text", "")})

    reply = client.execute_interactive(code, timeout=600, output_hook=keep)
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    return messages


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(watched(sys.stdin.read())))
