"""The openai policy against a real HTTP server on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.errors import EndpointError
from flywheel.policy import Request
from flywheel.policy.openai import OpenAIPolicy
from flywheel.recipe import OpenAIOptions
from tests.json_server import JsonHandler, JsonServer

Answer = tuple[int, Any]


class Endpoint(JsonServer):
    """A small chat-completions server. `react` may answer a request in place of the default echo."""

    def __init__(self) -> None:
        self.models: Answer = (200, {"data": [{"id": "m"}]})
        self.react: Callable[[dict[str, Any], int], Answer | None] = lambda body, number: None
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        endpoint = self

        class Handler(JsonHandler):
            def do_GET(self) -> None:
                endpoint.keys.append(self.headers["Authorization"])
                self.answer(*(endpoint.models if self.path == "/v1/models" else (404, "no such page")))

            def do_POST(self) -> None:
                body = self.asked()
                self.answer(*endpoint.chat(body))

        super().__init__(Handler)

    def chat(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.bodies.append(body)
            number = len(self.bodies)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.react(body, number) or echo(body)
        finally:
            with self.lock:
                self.at_once -= 1


def echo(body: dict[str, Any]) -> Answer:
    text = f"{body['messages'][-1]['content']}/{body.get('seed')}"
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, {"choices": [choice], "usage": {"completion_tokens": 7}}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


@pytest.fixture
def second() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


def policy(*endpoints: Endpoint, **options: Any) -> OpenAIPolicy:
    settings = {"endpoints": [e.url for e in endpoints], "timeout_seconds": 5.0, **options}
    return OpenAIPolicy(OpenAIOptions(**settings), Path("/models/gen-1"), first_wait=0.01)


def ask(number: int, k: int = 3, **changes: Any) -> Request:
    settings: dict[str, Any] = {"temperature": 0.7, "max_tokens": 50, "seed": number, **changes}
    return Request(f"{number}:0", [{"role": "user", "content": f"q{number}"}], tuple(range(k)), **settings)


def test_completions_of_a_request_come_together(endpoint: Endpoint) -> None:
    groups = list(policy(endpoint).generate([ask(n) for n in range(5)]))
    assert sorted(g[0].request_id for g in groups) == [f"{n}:0" for n in range(5)]
    for group in groups:
        assert [c.index for c in group] == [0, 1, 2]
        assert len({c.text for c in group}) == 3, "each completion has its own seed"
        assert {(c.finish_reason, c.tokens) for c in group} == {("stop", 7)}


def test_seeds_come_from_position(endpoint: Endpoint) -> None:
    (whole,) = policy(endpoint).generate([ask(1, k=4)])
    (part,) = policy(endpoint).generate([Request("1:0", ask(1).messages, (3,), 0.7, 50, seed=1)])
    assert part[0].text == whole[3].text


def test_what_is_sent(endpoint: Endpoint) -> None:
    list(policy(endpoint).generate([ask(1, k=1, top_k=5, top_p=0.9, stop=("\n\n",))]))
    (body,) = endpoint.bodies
    assert body.pop("seed") < 2**53
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "q1"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "max_tokens": 50,
        "stop": ["\n\n"],
        "logprobs": True,
    }
    list(policy(endpoint, request_seeds=False).generate([ask(1, k=1)]))
    assert "seed" not in endpoint.bodies[-1]


def told(*logprobs: float | None) -> Answer:
    content = [{"token": "x", "logprob": value} for value in logprobs]
    choice = {"message": {"content": "x"}, "finish_reason": "stop", "logprobs": {"content": content}}
    return 200, {"choices": [choice], "usage": {"completion_tokens": len(logprobs)}}


@pytest.mark.parametrize(
    ("answer", "mean"),
    [
        (told(-1.0, -2.0), -1.5),
        (told(-1.0, None), None),
        (told(-1.0, float("-inf")), None),
        (told(), None),
        (echo({"messages": [{"content": "q"}]}), None),
    ],
)
def test_the_mean_log_probability_where_it_is_told(endpoint: Endpoint, answer: Answer, mean: float | None) -> None:
    endpoint.react = lambda body, number: answer
    ((completion,),) = policy(endpoint).generate([ask(1, k=1)])
    assert completion.logprob == mean


def test_an_endpoint_without_log_probabilities_is_asked_without(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: (400, "logprobs are not supported") if "logprobs" in body else None
    groups = list(policy(endpoint, in_flight=1).generate([ask(n, k=1) for n in range(3)]))
    assert len(groups) == 3 and ["logprobs" in body for body in endpoint.bodies] == [True, False, False, False]
    list(policy(endpoint, logprobs=False).generate([ask(1, k=1)]))
    list(policy(endpoint).generate([ask(1, k=1, temperature=0.0)]))
    assert not any("logprobs" in body for body in endpoint.bodies[-2:])


def test_a_choice_is_asked_for_by_a_schema(endpoint: Endpoint) -> None:
    choice = {"message": {"content": '{"answer": "TIE"}'}, "finish_reason": "stop"}
    endpoint.react = lambda body, number: (200, {"choices": [choice], "usage": {"completion_tokens": 6}})
    request = ask(1, k=1, choices=("A", "B", "TIE"))
    ((completion,),) = policy(endpoint).generate([request])
    assert (completion.text, completion.choice_logprobs) == ("TIE", None)
    assert endpoint.bodies[0]["response_format"]["type"] == "json_schema"
    endpoint.react = lambda body, number: (400, "response_format is not supported")
    ((completion,),) = policy(endpoint).generate([request])
    assert completion.finish_reason == "error"


def test_a_bound_on_requests_in_flight(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: time.sleep(0.02)
    list(policy(endpoint, in_flight=3).generate([ask(n) for n in range(8)]))
    assert endpoint.most_at_once == 3


def test_what_passes_is_tried_again(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: (503, "loading") if number <= 2 else None
    ((completion,),) = policy(endpoint, in_flight=1).generate([ask(1, k=1)])
    assert completion.finish_reason == "stop"
    assert len(endpoint.bodies) == 3


def test_a_dead_endpoint_is_replaced_by_a_living_one(endpoint: Endpoint, second: Endpoint) -> None:
    both = policy(endpoint, second)
    second.react = lambda body, number: (500, "out of memory")
    groups = list(both.generate([ask(n) for n in range(6)]))
    assert len(groups) == 6
    assert second.bodies, "it was asked"


def test_load_is_spread(endpoint: Endpoint, second: Endpoint) -> None:
    endpoint.react = second.react = lambda body, number: time.sleep(0.005)
    list(policy(endpoint, second, in_flight=4).generate([ask(n) for n in range(10)]))
    assert min(len(endpoint.bodies), len(second.bodies)) > 5


def test_giving_up_says_what_to_do(endpoint: Endpoint) -> None:
    opened = policy(endpoint, retries=1)
    endpoint.react = lambda body, number: (500, "out of memory")
    with pytest.raises(EndpointError, match=r"after 2 tries \(status 500: out of memory\).*vllm serve"):
        list(opened.generate([ask(1)]))


def test_no_server() -> None:
    with pytest.raises(EndpointError, match=r"no answer from http://127.0.0.1:9/v1/models .*ConnectError"):
        OpenAIPolicy(OpenAIOptions(endpoints=["http://127.0.0.1:9/v1"], retries=1), Path("m"), first_wait=0.01)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ((200, {"data": [{"id": "a"}, {"id": "b"}]}), {}, r"serves 2 models \(a, b\); name one"),
        ((200, {"data": [{"id": "a"}]}), {"model": "c"}, r"serves a, not 'c'"),
        ((401, "who are you?"), {}, r"refuses the key in \$OPENAI_API_KEY"),
        ((200, "<html>"), {}, "answered no JSON object: '<html>'"),
        ((404, "nothing here"), {}, "answered 404: nothing here"),
    ],
)
def test_an_endpoint_that_does_not_fit(endpoint: Endpoint, models: Answer, options: dict, message: str) -> None:
    endpoint.models = models
    with pytest.raises(EndpointError, match=message):
        policy(endpoint, **options)


def test_a_gateway_without_a_list_of_models(endpoint: Endpoint) -> None:
    endpoint.models = (404, "nothing here")
    assert list(policy(endpoint, model="gpt").generate([ask(1, k=1)]))
    assert endpoint.bodies[0]["model"] == "gpt"


def test_the_key_is_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    policy(endpoint, api_key_env="MY_KEY")
    assert endpoint.keys == ["Bearer secret"]


def test_a_refused_request_is_not_repeated(endpoint: Endpoint) -> None:
    opened = policy(endpoint, in_flight=1)
    endpoint.react = lambda body, number: (422, "temperature must be positive")
    with pytest.raises(EndpointError, match="answered 422: temperature must be positive"):
        list(opened.generate([ask(1)]))
    assert len(endpoint.bodies) == 1


def test_a_prompt_that_is_too_long_costs_only_itself(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: (
        (400, "maximum context length is 512") if body["messages"][0]["content"] == "q1" else None
    )
    groups = {g[0].request_id: g[0].finish_reason for g in policy(endpoint).generate([ask(1), ask(2)])}
    assert groups == {"1:0": "error", "2:0": "stop"}


def test_an_answer_of_another_shape(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: (200, {"choices": []})
    with pytest.raises(EndpointError, match="does not answer as /chat/completions does"):
        list(policy(endpoint).generate([ask(1)]))


def test_a_caller_that_stops_early_ends_the_requests(endpoint: Endpoint) -> None:
    endpoint.react = lambda body, number: time.sleep(0.05)
    groups = policy(endpoint, in_flight=2).generate([ask(n, k=1) for n in range(50)])
    next(groups)
    groups.close()
    time.sleep(0.1)
    assert len(endpoint.bodies) < 10
    assert not [t for t in threading.enumerate() if t.name == "flywheel-openai"]


def test_nothing_to_ask(endpoint: Endpoint) -> None:
    assert list(policy(endpoint).generate([])) == []


def test_reload_command(endpoint: Endpoint, tmp_path: Path) -> None:
    policy(endpoint, reload_command=f"sh -c 'echo {{model}} > {tmp_path}/told'")
    assert (tmp_path / "told").read_text() == "/models/gen-1\n"
    with pytest.raises(EndpointError, match="ended with 3: no GPU"):
        policy(endpoint, reload_command="sh -c 'echo no GPU >&2; exit 3'")
    with pytest.raises(EndpointError, match="cannot be run"):
        policy(endpoint, reload_command="/no/such/program {model}")
