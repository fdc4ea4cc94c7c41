"""A scorer behind any endpoint with OpenAI's chat protocol: OpenAI itself, vLLM, llama.cpp, Ollama and others."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ...errors import CircuitryError
from .question import Question

_LONGEST = 300.0  # seconds between two attempts
SETTINGS: Mapping[str, Any] = MappingProxyType({"temperature": 0, "max_tokens": 16})
"""Default settings of every request; reasoning models need others, such as ``max_completion_tokens``."""


class EndpointScorer:
    """Asks a model by its name, one question at a time.

    ``url`` is the endpoint's address up to ``/v1``; by default OpenAI's. The API key comes from the environment variable named by
    ``key`` and is used in requests only; ``OPENAI_API_KEY`` is read only without ``url``, so that no other server gets it unless
    you name it. At most ``per_minute`` requests are sent a minute. If the endpoint is busy, fails or cannot be reached, it is
    asked again, ``attempts`` times in all, after 1, 2, 4 ... seconds or when it says. ``settings`` replace ``SETTINGS``.

    ``tokens_in`` and ``tokens_out`` count the tokens that the endpoint reports.

    Raises CircuitryError without the package openai (extra ``autointerp``), or without a key if OpenAI needs one.
    """

    proxy = False

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        key: str | None = None,
        per_minute: float = 60.0,
        attempts: int = 6,
        timeout: float = 120.0,
        settings: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if per_minute <= 0 or attempts < 1:
            raise CircuitryError("requests a minute must be more than 0, and attempts 1 or more")
        try:
            import openai
        except ImportError:
            raise CircuitryError("a scorer behind an endpoint needs openai: pip install 'circuitry-lm[autointerp]'") from None
        secret = _secret(key or ("OPENAI_API_KEY" if url is None else None))
        self._client = openai.OpenAI(api_key=secret, base_url=url, max_retries=0, timeout=timeout)
        self._pause, self._attempts, self._clock, self._sleep = 60 / per_minute, attempts, clock, sleep
        self._next = clock()
        self.model, self.settings = model, dict(SETTINGS if settings is None else settings)
        self.tokens_in = self.tokens_out = 0

    @property
    def name(self) -> str:
        """The model and its host."""
        return f"{self.model} at {urlsplit(str(self._client.base_url)).hostname}"

    @property
    def key(self) -> str:
        """The name and the settings: everything that answers depend on."""
        return f"{self.name} {json.dumps(self.settings, sort_keys=True)}"

    @property
    def answer_tokens(self) -> int:
        """The most tokens that one answer may have."""
        return int(
            next(
                (self.settings[k] for k in ("max_completion_tokens", "max_tokens") if k in self.settings), SETTINGS["max_tokens"]
            )
        )

    def score(self, question: Question) -> str | None:
        """The model's answer; None if it refused.

        Raises CircuitryError if the endpoint does not answer within ``attempts``, or rejects the request.
        """
        problem = ""
        for attempt in range(self._attempts):
            self._take_turn()
            answer, problem, wait = self._ask(question, 2.0**attempt)
            if not problem:
                return answer
            if attempt + 1 < self._attempts:
                self._sleep(min(wait, _LONGEST))
        raise CircuitryError(f"{self.name} gave no answer in {self._attempts} attempts: {problem}")

    def _take_turn(self) -> None:
        """Wait until the next request may be sent."""
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._pause

    def _ask(self, question: Question, wait: float) -> tuple[str | None, str, float]:
        """The answer, or a passing problem and how long to wait before the next attempt."""
        import openai

        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": question.text}], **self.settings
            )
        except openai.APIConnectionError as error:
            return None, f"no connection ({type(error.__cause__).__name__})", wait
        except openai.APIStatusError as error:
            passing = error.status_code >= 500 or error.status_code in (408, 409, 429)
            if not passing or error.code == "insufficient_quota":
                raise CircuitryError(f"{self.name} {self._message(error)}") from None
            return None, self._message(error), _retry_after(error.response.headers.get("retry-after"), wait)
        except (openai.APIError, ValueError):  # ValueError: a body that is not JSON
            return None, "an answer that is not a chat completion", wait
        if not getattr(completion, "choices", None):
            return None, "an answer that is not a chat completion", wait
        return self._content(completion, question), "", 0.0

    def _content(self, completion: Any, question: Question) -> str | None:
        choice = completion.choices[0]
        if completion.usage is not None:
            self.tokens_in += completion.usage.prompt_tokens
            self.tokens_out += completion.usage.completion_tokens
        if choice.message.refusal or choice.finish_reason == "content_filter":
            return None
        answer: str = choice.message.content or ""
        if choice.finish_reason == "length" and question.read(answer) is None:
            raise CircuitryError(
                f"{self.model} had not answered after {self.answer_tokens} tokens; "
                "a model that thinks first needs more, such as the setting max_completion_tokens=4000"
            )
        return answer

    def _message(self, error: Any) -> str:
        """The endpoint's error message in one line, without the API key."""
        if error.status_code in (401, 403):  # such messages may quote the key
            return f"does not accept the API key (HTTP {error.status_code})"
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or "").replace(self._client.api_key, "[key]")
        return f"answered HTTP {error.status_code}: {' '.join(message.split())[:300]}".rstrip(": ")


def _secret(variable: str | None) -> str:
    """The API key in an environment variable; without a variable a placeholder, since the client requires some key."""
    if variable is None:
        return "none"
    key = os.environ.get(variable)
    if not key:
        raise CircuitryError(f"the environment variable {variable} holds no API key; set it, or give the url of another endpoint")
    return key


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds to wait, as the server asks; a date in the header is ignored."""
    try:
        return max(0.0, float(header)) if header else otherwise
    except ValueError:
        return otherwise
