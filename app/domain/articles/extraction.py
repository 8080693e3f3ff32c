"""Keywords and a summary of a text, by two small published methods. Pure functions, for a process pool to run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from app.domain.articles.words import is_spaced, is_telling, phrases, sentences

# Characters of a text that are read. Each step takes time in proportion to them, whatever the script, and what a text
# is about is said long before.
LONGEST_TEXT = 100_000
MOST_KEYWORDS = 8
LONGEST_PHRASE_WORDS = 4
MOST_SENTENCES = 3
FEWEST_WORDS = 5
LONGEST_SUMMARY = 600


@dataclass(frozen=True, slots=True)
class Extract:
    summary: str
    keywords: list[str]


def extract(title: str, content: str) -> Extract:
    """At most 3 sentences (600 characters) and 8 keywords. For a text without words: its beginning, and no keywords."""
    split = sentences(content[:LONGEST_TEXT])
    return Extract(summary=summarize(split), keywords=keywords([title, *split]))


def keywords(split: Sequence[str]) -> list[str]:
    """The most repeated significant words, up to half of the keywords, and then those that RAKE finds.

    That repetition measures what a text is about is from Luhn, "The automatic creation of literature abstracts", 1958.
    """
    words = Counter(word for word in chain.from_iterable(map(_words, split)) if is_spaced(word))
    repeated = [word for word, times in words.most_common(MOST_KEYWORDS // 2) if times > 1]
    return list(dict.fromkeys([*repeated, *rake(split)]))[:MOST_KEYWORDS]


def rake(split: Sequence[str]) -> list[str]:
    """RAKE: Rose, Engel, Cramer, Cowley, "Automatic keyword extraction from individual documents", 2010.

    Candidates are the runs of significant words. A word's score is its degree (the number of words in its candidates)
    divided by its frequency, and a candidate's is the sum of its words' scores. Candidates are not joined over stop
    words, as the paper does.
    """
    candidates = Counter(chain.from_iterable(map(_candidates, split)))
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for candidate, times in candidates.items():
        for word in candidate:
            frequency[word] += times
            degree[word] += times * len(candidate)
    scores = {each: sum(degree[word] / frequency[word] for word in each) for each in candidates}
    # Of equal scores the more frequent comes first, then the earlier.
    best = sorted(candidates, key=lambda each: (scores[each], candidates[each]), reverse=True)
    return [" ".join(words) for words in best[:MOST_KEYWORDS]]


def _words(sentence: str) -> list[str]:
    return [word for word in chain.from_iterable(phrases(sentence)) if is_telling(word)]


def _candidates(sentence: str) -> Iterator[tuple[str, ...]]:
    for phrase in phrases(sentence):
        for telling, run in groupby(phrase, key=is_telling):
            words = tuple(run)
            if telling and len(words) <= LONGEST_PHRASE_WORDS and all(map(is_spaced, words)):
                yield words


def summarize(split: Sequence[str]) -> str:
    """SumBasic: Nenkova and Vanderwende, "The impact of frequency on summarization", 2005.

    Each step takes the best sentence (by the mean probability of its words) that has the most probable word, and
    squares the probabilities of its words, so that the next sentence differs. Sentences keep the order of the text.
    """
    words = [_words(each) for each in split]
    eligible = [n for n, each in enumerate(words) if len(each) >= FEWEST_WORDS and len(split[n]) <= LONGEST_SUMMARY]
    if not eligible:
        return shorten(" ".join(split[:MOST_SENTENCES]))
    counts = Counter(chain.from_iterable(words[n] for n in eligible))
    total = counts.total()
    probability = {word: count / total for word, count in counts.items()}
    chosen: list[int] = []
    length = 0
    while eligible and len(chosen) < MOST_SENTENCES:
        best = _best(eligible, words, probability)
        chosen.append(best)
        length += len(split[best]) + 1
        # At most MOST_SENTENCES rounds: to try each of the sentences that do not fit any more would take one for each.
        eligible = [n for n in eligible if n != best and length + len(split[n]) <= LONGEST_SUMMARY]
        for word in set(words[best]):
            probability[word] **= 2
    return " ".join(split[n] for n in sorted(chosen))


def _best(eligible: Sequence[int], words: Sequence[Sequence[str]], probability: dict[str, float]) -> int:
    """Of the sentences with the most probable word that any has: the first of the greatest mean probability."""
    tops = {n: max(probability[word] for word in words[n]) for n in eligible}
    top = max(tops.values())
    means = {n: sum(probability[word] for word in words[n]) / len(words[n]) for n in eligible if tops[n] == top}
    return max(means, key=means.__getitem__)


def shorten(text: str) -> str:
    """`text`, cut at a space to at most LONGEST_SUMMARY characters, with an ellipsis."""
    if len(text) <= LONGEST_SUMMARY:
        return text
    head = text[: LONGEST_SUMMARY - 1]
    return (head.rpartition(" ")[0] or head) + "…"
