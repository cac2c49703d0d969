"""A comment on a pull request: one, ours, kept up to date, also where GitHub is busy."""

from __future__ import annotations

import pytest

from pytest_loaderperf.report.pull_request import Comments, Head, PullRequestError
from suites.actions.api import READ, WRITE, GitHub, served

MARKER = "<!-- loaderperf: gate -->"
BUSY = (503, {}, '{"message": "busy"}')


@pytest.fixture(scope="module")
def server():
    with served(GitHub()) as github:
        yield github


@pytest.fixture
def github(server):
    for kept in (server.pulls, server.comments, server.failures, server.requests):
        kept.clear()
    server.lost = 0
    return server


def comments(github, token=WRITE, **changes):
    waits = []
    return Comments(
        **{"api_url": github.url, "repository": "o/p", "token": token, "sleep": waits.append} | changes
    ), waits


def test_a_comment_is_written_once_and_then_replaced(github):
    ours, _ = comments(github)
    first = ours.put(7, MARKER, f"{MARKER} one")
    assert ours.put(7, MARKER, f"{MARKER} two") == first == f"{github.url}/comments/1"
    assert [comment["body"] for comment in github.comments] == [f"{MARKER} two"]


def test_a_marker_that_somebody_else_wrote_is_not_ours(github):
    github.say(7, f"{MARKER} not ours", login="somebody")
    github.say(7, f"no marker at the start {MARKER}")
    github.say(8, f"{MARKER} of another pull request")
    comments(github)[0].put(7, MARKER, f"{MARKER} ours")
    assert [comment["body"] for comment in github.comments[3:]] == [f"{MARKER} ours"]
    assert github.comments[0]["body"] == f"{MARKER} not ours"


def test_the_earlier_comment_is_found_on_a_later_page(github):
    for number in range(150):
        github.say(7, f"{number}", login="somebody")
    github.say(7, f"{MARKER} one")
    comments(github)[0].put(7, MARKER, f"{MARKER} two")
    assert github.comments[-1]["body"] == f"{MARKER} two"
    assert len(github.comments) == 151


def test_a_busy_github_is_asked_again_later(github):
    github.failures += [BUSY, (429, {"Retry-After": "7"}, "{}"), (403, {"Retry-After": "999"}, "{}")]
    ours, waits = comments(github)
    ours.put(7, MARKER, MARKER)
    assert waits == [1.0, 7.0, 60.0]
    assert len(github.comments) == 1


def test_a_comment_whose_answer_was_lost_is_not_written_twice(github):
    github.lost = 1
    ours, waits = comments(github)
    ours.put(7, MARKER, f"{MARKER} once")
    assert [comment["body"] for comment in github.comments] == [f"{MARKER} once"]
    assert waits == [1.0]


def test_a_github_that_stays_busy_is_given_up(github):
    github.failures += [BUSY] * 9
    ours, waits = comments(github)
    with pytest.raises(PullRequestError, match=r"^GitHub: GET pulls/7 got 503: busy\. Tried 5 times\.$"):
        ours.head(7)
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    "failure, text",
    [
        (
            (401, {}, '{"message": "Bad credentials"}'),
            "got 401: Bad credentials. Is GITHUB_TOKEN set to a valid token?",
        ),
        (
            (404, {}, "not JSON"),
            "got 404: Not Found. Does the token reach this repository, and does the pull request exist?",
        ),
        ((301, {"Location": "/elsewhere"}, "{}"), "got 301: Moved Permanently. Was the repository renamed?"),
        ((200, {}, "<html>"), "expected JSON, got something else. Is GITHUB_API_URL right?"),
        ((200, {}, "[]"), "expected a pull request, got other JSON for number 7"),
    ],
)
def test_other_answers_are_errors_that_say_what_to_do(github, failure, text):
    github.failures.append(failure)
    with pytest.raises(PullRequestError) as caught:
        comments(github)[0].head(7)
    assert str(caught.value).endswith(text)
    assert WRITE not in str(caught.value)
    assert len(github.requests) == 1


def test_a_token_that_only_reads_is_told_what_is_missing(github):
    with pytest.raises(
        PullRequestError, match=r"got 403: Resource not accessible .*`permissions: pull-requests: write"
    ):
        comments(github, READ)[0].put(7, MARKER, MARKER)


def test_the_head_of_a_pull_request_whose_fork_is_gone_has_no_name(github):
    github.open_pull(7, "a" * 40, "stranger/p")
    assert comments(github)[0].head(7) == Head("a" * 40, "stranger/p")
    github.pulls[7]["head"]["repo"] = None
    assert comments(github)[0].head(7) == Head("a" * 40, "")


def test_a_github_that_does_not_answer_is_given_up():
    ours, waits = comments(GitHub(url="http://127.0.0.1:9"))
    with pytest.raises(PullRequestError, match=r"got no answer: .*refused. Tried 5 times\.$"):
        ours.head(7)
    assert len(waits) == 4


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"repository": "o/p/../q"}, "GITHUB_REPOSITORY: expected owner/name, got 'o/p/../q'"),
        ({"api_url": "file:///etc"}, "GITHUB_API_URL: expected an address with https, got 'file:///etc'"),
    ],
)
def test_addresses_are_checked(github, changes, text):
    with pytest.raises(PullRequestError) as caught:
        comments(github, **changes)
    assert str(caught.value) == text
