"""A scorer behind an endpoint: against a server of this machine that says what it is told to, with a clock that nobody waits for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from circuitry.errors import CircuitryError
from circuitry.features.dashboard.contexts import Context
from circuitry.features.dashboard.endpoint import EndpointScorer
from circuitry.features.dashboard.question import COMPLEXITY, Question
from circuitry.features.dashboard.score import estimate, score_features
from circuitry.features.dashboard.scorer import scorer

pytest.importorskip("openai")
SECRET = "sk-not-a-real-key"
CONTEXTS = {number: [Context((f"t{number}",), (1.0,), 0, 0)] for number in range(4)}
QUESTION = Question(COMPLEXITY, CONTEXTS[0])


def said(content: str | None, finish: str = "stop", refusal: str | None = None) -> tuple[int, dict[str, str], str]:
    """A chat completion."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 700, "completion_tokens": 1, "total_tokens": 701}
    return (
        200,
        {},
        json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}),
    )


def failed(status: int, message: str = "no", code: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """An error."""
    told = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(told)


class Server:
    """Answers requests one after another as told, and keeps what was asked."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, dict[str, str], str]] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                outer.keys.append(self.headers["authorization"])
                status, headers, body = outer.replies.pop(0)
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asking(server: Server, clock: Clock) -> EndpointScorer:
    return EndpointScorer("a-model", server.url, per_minute=6000, attempts=4, clock=lambda: clock.now, sleep=clock.sleep)


def test_it_asks_the_question_and_gives_what_is_said(server: Server, asking: EndpointScorer) -> None:
    server.replies = [said(" 4\n")]
    assert QUESTION.read(asking.score(QUESTION)) == 4
    assert server.asked == [
        {"model": "a-model", "messages": [{"role": "user", "content": QUESTION.text}], "temperature": 0, "max_tokens": 16}
    ]
    assert (asking.tokens_in, asking.tokens_out) == (700, 1)
    assert asking.name == "a-model at 127.0.0.1" and not asking.proxy


def test_it_waits_and_asks_again_where_the_endpoint_is_busy_or_fails(
    server: Server, asking: EndpointScorer, clock: Clock
) -> None:
    server.replies = [failed(429), failed(500), failed(503), said("2")]
    assert asking.score(QUESTION) == "2"
    assert [s for s in clock.slept if s >= 1] == [1, 2, 4] and len(server.asked) == 4


def test_it_waits_as_long_as_it_is_told(server: Server, asking: EndpointScorer, clock: Clock) -> None:
    server.replies = [
        failed(429, retry_after="17"),
        failed(429, retry_after="9999"),
        failed(429, retry_after="tomorrow"),
        said("2"),
    ]
    asking.score(QUESTION)
    assert [s for s in clock.slept if s >= 1] == [17, 300, 4]


def test_it_gives_up_after_so_many_attempts_and_keeps_what_it_has(server: Server, asking: EndpointScorer, tmp_path: Path) -> None:
    server.replies = [said("1"), *[failed(500, "out of order")] * 4]
    with pytest.raises(
        CircuitryError, match=r"a-model at 127.0.0.1 gave no answer in 4 attempts: answered HTTP 500: out of order"
    ):
        score_features(asking, CONTEXTS, cache=tmp_path)
    server.replies = [said("2"), said("3"), said("4")]
    assert score_features(asking, CONTEXTS, cache=tmp_path)["score"].tolist() == [1, 2, 3, 4]
    assert len(server.asked) == 8, "the first was not asked again"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failed(400, "unknown parameter max_tokens"), "HTTP 400: unknown parameter max_tokens"),
        (failed(404, "no such model"), "HTTP 404: no such model"),
        (failed(401, f"{SECRET} is wrong"), r"does not accept the API key \(HTTP 401\)$"),
        (failed(429, "pay first", "insufficient_quota"), "HTTP 429: pay first"),
        (failed(400, f"strange key {SECRET}"), r"strange key \[key\]$"),
        (said("", "length"), "had not answered after 16 tokens"),
    ],
)
def test_what_does_not_pass_is_said_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, reply: Any, message: str, clock: Clock
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    server.replies = [reply]
    with pytest.raises(CircuitryError, match=message) as error:
        EndpointScorer("m", server.url, key="MY_KEY", clock=lambda: clock.now, sleep=clock.sleep).score(QUESTION)
    assert SECRET not in str(error.value) and len(server.asked) == 1 and clock.slept == []


@pytest.mark.parametrize(
    "reply", [(200, {}, "{}"), (200, {}, '{"choices": []}'), (200, {}, "<html>"), (200, {"content-type": "text/html"}, "<html>")]
)
def test_an_answer_that_is_none_is_asked_for_again(server: Server, asking: EndpointScorer, reply: Any) -> None:
    server.replies = [reply, said("5")]
    assert asking.score(QUESTION) == "5"
    server.replies = [reply] * 4
    with pytest.raises(CircuitryError, match="not a chat completion"):
        asking.score(QUESTION)


def test_refusals_and_nonsense_are_missing_and_not_asked_again(server: Server, asking: EndpointScorer, tmp_path: Path) -> None:
    server.replies = [said("4", refusal="I cannot."), said("3", "content_filter"), said("banana"), said("2")]
    for _ in range(2):
        made = score_features(asking, CONTEXTS, cache=tmp_path)
        assert made["score"].isna().tolist() == [True, True, True, False] and made["answer"].tolist()[2] == "banana"
    assert len(server.asked) == 4


def test_no_more_requests_a_minute_than_allowed(server: Server, clock: Clock) -> None:
    slow = EndpointScorer("m", server.url, per_minute=20, clock=lambda: clock.now, sleep=clock.sleep)
    server.replies = [said("1"), said("1"), failed(429), *[said("1")] * 3]
    for _ in range(3):
        slow.score(QUESTION)
    assert clock.slept == [3, 3, 1, 2], "a second attempt counts too"
    clock.now += 60
    slow.score(QUESTION)
    assert clock.slept == [3, 3, 1, 2], "nothing is owed after a pause"
    slow.score(QUESTION)
    assert clock.slept == [3, 3, 1, 2, 3], "nor is anything saved up"


def test_a_server_that_is_not_there(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    gone = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    gone.server_close()
    url = f"http://127.0.0.1:{gone.server_port}/v1"
    with pytest.raises(CircuitryError, match="gave no answer in 3 attempts: no connection"):
        EndpointScorer("m", url, attempts=3, clock=lambda: clock.now, sleep=clock.sleep).score(QUESTION)
    assert [s for s in clock.slept if s >= 1] == [1, 2]


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CircuitryError, match="the environment variable OPENAI_API_KEY holds no API key"):
        EndpointScorer("m")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.replies = [said("1"), said("2")]
    score_features(EndpointScorer("m", server.url), {0: CONTEXTS[0]}, cache=tmp_path)
    named = EndpointScorer("n", server.url, key="OPENAI_API_KEY")
    score_features(named, {0: CONTEXTS[0]}, cache=tmp_path)
    assert server.keys == ["Bearer none", f"Bearer {SECRET}"], "another server gets OpenAI's key only if it is named"
    assert SECRET not in "".join(file.read_text() for file in tmp_path.iterdir()) + named.key + named.name + repr(named)
    with pytest.raises(CircuitryError, match="variable NO_SUCH holds no"):
        EndpointScorer("m", server.url, key="NO_SUCH")


def test_settings_are_sent_and_tell_answers_apart(server: Server, tmp_path: Path) -> None:
    plain = EndpointScorer("m", server.url)
    thinking = EndpointScorer("m", server.url, settings={"max_completion_tokens": 4000})
    server.replies = [said("1"), said("2")]
    first, second = (score_features(one, {0: CONTEXTS[0]}, cache=tmp_path)["score"].tolist() for one in (plain, thinking))
    assert (first, second) == ([1], [2])
    assert "temperature" not in server.asked[1] and server.asked[1]["max_completion_tokens"] == 4000
    assert estimate(thinking, CONTEXTS).tokens_out == 16_000 and estimate(plain, CONTEXTS).tokens_out == 64


def test_judges_by_name_and_wrong_settings(server: Server) -> None:
    assert scorer("endpoint:org/model:free", url=server.url).name == "org/model:free at 127.0.0.1"
    with pytest.raises(CircuitryError, match="requests a minute must be more than 0"):
        EndpointScorer("m", server.url, per_minute=0)
