"""Summaries and keywords of any text, in bounded time."""

import sys
import time
from types import FrameType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.articles.extraction import LONGEST_SUMMARY, LONGEST_TEXT, MOST_KEYWORDS, MOST_SENTENCES, extract
from app.domain.articles.words import sentences

NEWS = (
    "The space agency said on Tuesday that its new heavy launcher reached orbit. Dr. Jane Smith of the agency called "
    'it "a relief." Europe had depended on foreign rockets since the old launcher was retired in 2023. Officials hope '
    "that the launcher will fly nine times a year, a rate that depends on the supply of boosters made in Italy.\n\n"
    "The satellite separated from the launcher one hour after the start."
)


def test_keywords_are_what_a_text_repeats_and_the_phrases_it_has() -> None:
    keywords = extract("A new launcher", NEWS).keywords
    assert keywords[0] == "launcher"
    assert "space agency" in keywords
    assert len(keywords) == len(set(keywords)) <= MOST_KEYWORDS


def test_a_summary_is_made_of_whole_sentences_in_their_order() -> None:
    summary = extract("A new launcher", NEWS).summary
    chosen = [sentence for sentence in sentences(NEWS) if sentence in summary]
    assert " ".join(chosen) == summary
    assert 1 <= len(chosen) <= MOST_SENTENCES


def test_sentences_end_where_people_end_them() -> None:
    assert sentences('Dr. No met J. Bond, etc. in the U.S. of old. "Why?" he asked. It cost 3.5 million… Then!') == [
        "Dr. No met J. Bond, etc. in the U.S. of old.",
        '"Why?" he asked.',
        "It cost 3.5 million…",
        "Then!",
    ]
    assert sentences("A headline\n \nwraps\nover lines") == ["A headline", "wraps over lines"]
    assert sentences("天气很好。我们去公园！") == ["天气很好。", "我们去公园！"]
    assert sentences("यह एक वाक्य है। दूसरा वाक्य।") == ["यह एक वाक्य है।", "दूसरा वाक्य।"]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b", "...", "!?!"])
def test_a_text_without_words_has_no_keywords(text: str) -> None:
    assert extract("", text).keywords == []


def test_accents_and_vowel_signs_stay_in_their_words() -> None:
    assert "naïve café" in extract("", "The naïve café; the naïve café.").keywords
    assert "हिन्दी" in extract("", "हिन्दी, हिन्दी").keywords


def test_a_long_text_without_sentences_is_cut_at_a_word() -> None:
    summary = extract("", "word " * 1000).summary
    assert len(summary) <= LONGEST_SUMMARY
    assert summary.endswith("word…")


@given(st.text(), st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from(list(".!? \n'\"ab"))))
def test_any_text_will_do(title: str, content: str) -> None:
    found = extract(title, content)
    assert len(found.summary) <= LONGEST_SUMMARY
    assert len(found.keywords) <= MOST_KEYWORDS
    assert all(keyword.strip() == keyword != "" for keyword in found.keywords)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "ab ",
        ".",
        ". ",
        '."',
        "\n",
        "\n \n",
        "\n" + " " * 50,
        "a'",
        "a-",
        "Mr. ",
        "e\u0301",
        "x. Y",
        "😀",
        "。",
        "w1 w2. ",
        "天" * 599 + "。",
        "天 气 很 好 公 园。",
        "คำ " * 150 + ". ",
        "a b c d e f g h " * 37 + ". ",
    ],
)
def test_time_grows_with_the_length_alone(piece: str) -> None:
    """A quadratic step would take minutes."""
    content = piece * (100_000 // len(piece))
    began = time.process_time()
    extract("", content)
    assert time.process_time() - began < 2


class Calls:
    """How many functions were called inside the block, those in C included."""

    def __enter__(self) -> "Calls":
        self.number = 0
        self._before = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _count(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.number += event in ("call", "c_call")


def calls(content: str) -> int:
    with Calls() as counted:
        extract("", content)
    return counted.number


SCRIPTS = [
    "news train",
    "天气很好公园",
    "คำนี้ ไทย",
    "हिन्दी वाक्य",
    "דבר עברית",
    "كلمة عربية",
    "слово текст",
    "한국어 단어",
    "😀 \u200b",
]


@given(
    script=st.sampled_from(SCRIPTS),
    ends=st.sampled_from([". ", "。", "। ", "! ", "\n\n", " ", ""]),
    words=st.integers(1, 120),
)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@example(script="天气很好公园", ends="。", words=99)
@example(script="news train", ends=". ", words=59)
def test_work_grows_with_the_length_alone_in_any_script(script: str, ends: str, words: int) -> None:
    # Numbers make the sentences differ, so that their words do.
    text = "".join(f"{script} {n} " * words + ends for n in range(12_000 // (len(script) * words) + 1))
    once = calls(text[:6_000])
    assert calls(text[:12_000]) < 2.5 * once + 2_000


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    content = "The night train left the coast again. " * 30_000
    assert extract("", content) == extract("", content[:LONGEST_TEXT])
    # The collector may call something in between.
    assert abs(calls(content) - calls(content[:LONGEST_TEXT])) < 1_000
