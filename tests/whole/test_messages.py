"""The messages that a user can cause: all of them are in one list, in plain words."""

from __future__ import annotations

import re

import pytest

from pipeline.system.project import PROJECT
from tests.support.messages import Message, messages, page

RENEW = "python -m tests.support.messages > docs/messages.md"
NOT_PLAIN = re.compile(
    r"\b(mend|anew|nobody|so many|take[sn]? away|lets? (us|you) in|claim|mirror)\b"
    r"|(?<![Tt]here )\b(is|are|was) no\b(?! longer)"
)


def test_the_page_in_docs_has_every_message_of_the_code() -> None:
    assert (PROJECT / "docs" / "messages.md").read_text() == page(), f"renew it: {RENEW}"


def test_every_package_that_can_refuse_something_is_there() -> None:
    assert len(messages()) > 100
    assert {message.section for message in messages()} >= {"Data", "MLflow", "Points on disk", "Training"}
    assert any("recording.metrics_every" in message.happened for message in messages())  # yielded by a rule
    assert any(message.happened == "{what} cannot be read." for message in messages())  # of a damaged file
    assert any("http://127.0.0.1:5000" in message.happened for message in messages())  # raised by a check


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.happened[:60])
def test_a_message_is_in_plain_words_and_says_more_than_that_something_failed(message: Message) -> None:
    text = "\n".join(message.lines())
    assert NOT_PLAIN.findall(text) == []
    of_a_config = message.section == "A config that cannot be trained"
    wraps_another = re.search("{(error|unsent)}", message.happened) is not None
    assert of_a_config or wraps_another or message.expected or message.received or message.fix
