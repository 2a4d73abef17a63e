"""The embedded broker: what Celery asks of Redis, through a socket."""

from __future__ import annotations

import threading

import pytest
import redis

from demo_project.broker import embedded_broker


@pytest.fixture
def url():
    with embedded_broker() as url:
        yield url


@pytest.fixture
def client(url):
    with redis.Redis.from_url(url, socket_timeout=10, decode_responses=True) as client:
        yield client


def test_a_script_runs_and_is_known_from_then_on(client):
    script = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")

    assert script(keys=["n"], args=[2]) == 2
    assert script(keys=["n"], args=[3]) == 5


def test_an_error_is_an_answer_and_the_connection_stays(client):
    number = client.client_id()

    with pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCHCOMMAND")

    assert client.client_id() == number


def test_a_blocked_pop_wakes_up_for_a_push_of_another_client(url, client):
    waiting, popped = threading.Event(), []

    def pop() -> None:
        with redis.Redis.from_url(url, socket_timeout=10, decode_responses=True) as other:
            other.ping()
            waiting.set()
            popped.append(other.brpop("queue", timeout=5))

    thread = threading.Thread(target=pop)
    thread.start()
    assert waiting.wait(5)
    client.lpush("queue", "message")
    thread.join(10)

    assert popped == [("queue", "message")]


def test_a_published_message_reaches_a_subscriber(client):
    with client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("events")
        subscriber.get_message(timeout=5)  # None: the subscription itself, which is ignored.

        assert client.publish("events", "ready") == 1
        message = subscriber.get_message(timeout=5)

    assert message["data"] == "ready"


def test_a_pipeline_of_large_values_arrives_whole(client):
    value = "x" * 300_000
    with client.pipeline() as pipeline:
        for number in range(5):
            pipeline.rpush("list", value + str(number))
        assert pipeline.execute() == [1, 2, 3, 4, 5]

    assert client.lindex("list", 4) == value + "4"


def test_it_is_gone_after_the_block():
    with embedded_broker() as url:
        pass

    with redis.Redis.from_url(url, socket_timeout=2) as client, pytest.raises(redis.RedisError):
        client.ping()
