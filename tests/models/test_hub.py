"""A name that cannot be downloaded: one question to the hub, one line, and a suggestion where the name is one of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

import circuitry as ct
from circuitry.errors import CircuitryError, ModelError
from circuitry.features.activations.texts import documents
from circuitry.models import hub


class Client:
    """Stands for the session of the hub's client: it counts what it is asked, and answers with a status or an exception."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, list[tuple[str, Any]]()

    def head(self, url: str, **options: Any) -> Any:
        self.asked.append((url, options["timeout"]))
        if isinstance(self.answer, Exception):
            raise self.answer
        return type("Response", (), {"status_code": self.answer})


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a client that is used in place of the hub's, as if nothing said that this machine is offline."""
    import huggingface_hub

    def made(answer: Any) -> Client:
        client = Client(answer)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "get_session", lambda: client)
        return client

    return made


def test_without_a_network_it_is_asked_once(
    online: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub's own client was used")

    monkeypatch.setattr("huggingface_hub.utils._http.get_session", again)
    asked = online(ConnectionError("[Errno -2] Name or service not known"))
    with pytest.raises(ModelError) as error:
        ct.load("nobody/nothing")
    assert len(asked.asked) == 1 and asked.asked[0][1] == hub.SECONDS
    assert asked.asked[0][0].endswith("/nobody/nothing/resolve/main/config.json")
    said = str(error.value)
    assert "could not be reached within 5 s ([Errno -2] Name or service not known), and " in said and "does not hold it" in said
    assert "Offline, these work: bundled:gated_delta" in said and "\n" not in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("status", [200, 302, 401, 404, 429])
def test_a_hub_that_answers_can_be_asked(status: int, online: Any) -> None:
    online(status)
    assert hub.unreachable("owner/name") == ""


def test_a_hub_that_fails_is_not_asked_again(online: Any) -> None:
    online(503)
    assert hub.unreachable("owner/name", "step1").endswith("answers with error 503")


def test_who_wants_nothing_downloaded_is_not_asked(online: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = online(200)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set, and .* does not hold it"):
        ct.load("nobody/nothing")
    assert asked.asked == []


SHIPPED = {
    "gated_delta": "did you mean bundled:gated_delta or compiled:gated_delta?",
    "mamba_s1": "did you mean bundled:mamba_s1?",
    "transformer": "did you mean compiled:transformer?",
    "mamba": "did you mean bundled:mamba or compiled:mamba?",
    "qwen3_next": "'qwen3_next' is a type of model, not a model; give a model of that type, as OWNER/NAME",
    "mistral": "circuitry graph mistral lists the nodes",
    "laguna": "models of type 'laguna' are refused: the output of its heads",
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_name_of_ours_is_never_looked_for_on_the_hub(name: str, online: Any) -> None:
    asked = online(200)
    with pytest.raises(ModelError) as error:
        ct.load(name)
    assert SHIPPED[name] in str(error.value) and asked.asked == []


def test_gpt2_is_a_model_on_the_hub_as_well(online: Any) -> None:
    asked = online(ConnectionError("no network"))
    with pytest.raises(ModelError, match="no network"):
        ct.load("gpt2")
    assert len(asked.asked) == 1


def test_a_data_set_is_asked_for_once(online: Any) -> None:
    asked = online(ConnectionError("no network"))
    with pytest.raises(CircuitryError, match=r"no network.*HF_HUB_OFFLINE=1 to read one"):
        list(documents("owner/texts"))
    assert [url for url, _ in asked.asked] == ["https://huggingface.co/datasets/owner/texts/resolve/main/README.md"]


class Refusing(BaseHTTPRequestHandler):
    """A hub that fails at every question."""

    seen: list[str]

    def do_HEAD(self) -> None:
        type(self).seen.append(self.path)
        self.send_error(503)

    do_GET = do_HEAD

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def failing() -> Iterator[str]:
    """The address of such a hub on this machine."""
    Refusing.seen = []
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def explained(endpoint: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()}
    words = [sys.executable, "-m", "circuitry", "explain", "nobody/nothing", "h[0] -> logits"]
    return subprocess.run(words, capture_output=True, text=True, env={**env, "HF_ENDPOINT": endpoint})


def test_the_command_line_against_a_hub_that_fails(failing: str) -> None:
    """The real client and a real connection: one question in all, and one line."""
    done = explained(failing)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and f"{failing} answers with error 503" in done.stderr
    assert [path for path in Refusing.seen if "/resolve/" in path] == ["/nobody/nothing/resolve/main/config.json"]


def test_the_command_line_against_a_port_where_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen: a connection is refused at once
        done = explained(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "could not be reached within 5 s (" in done.stderr
