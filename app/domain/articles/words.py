"""Cutting a text of any script into sentences and words."""

import re
from collections.abc import Iterator

# Longer runs are addresses, hashes or noise, not words.
LONGEST_WORD = 40

# Sentences end here when a space follows; the full stops of scripts written without spaces need none.
# Each run is tried from its start only (the look-behind) and never again (++): a megabyte of dots takes linear time.
_END = re.compile(r"""(?<![.!?…])[.!?…]++["'”’)\]»]*+[ ]|[。！？।۔]++[”’」』）]*+[ ]?""")
_BLANK_LINE = re.compile(r"\n[^\S\n]*+\n")
_ABBREVIATIONS = (
    "al approx apr aug ca cf co corp dec dept dr eds e.g est etc feb fig gen gov i.e inc jan jr jul jun lt ltd mar "
    "messrs mr mrs ms mt nos nov oct p.m a.m prof rep rev sen sep sept sgt sr st u.k u.n u.s vol vs"
)
_ABBREVIATED = frozenset(_ABBREVIATIONS.split())

# What separates words: white space and the punctuation of the scripts in wide use. Everything else may continue a
# word, because combining marks (the vowels of Hindi or Thai) are no \w in Python.
_SEPARATORS = (
    r"\s\x00-/:-@\[-`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf×÷\u037e\u055a-\u055f\u0589\u05be\u060c\u061b\u061f\u06d4"
    r"\u0964\u0965\u104a\u104b\u1361-\u1368\u17d4\u17d5\u2000-\u200b\u200e-\u206f\u2e00-\u2e7f\u3000-\u303f"
    r"\ufe10-\ufe6f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_WORD = re.compile(rf"[^\W_][^{_SEPARATORS}]*+(?:['’‐-][^\W_][^{_SEPARATORS}]*+)*+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")

# The closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries, and adverbs as frequent.
_CLOSED_CLASSES = """
a about above according across after again against ago all almost along already also although always am among an and
another any anyone anything are aren't around as at away back be became because become been before behind being below
between both but by came can can't cannot come could couldn't did didn't do does doesn't doing don't done down during
each either else enough even ever every everyone everything except far few first for from further get gets getting
give given go goes going gone got had hadn't has hasn't have haven't having he he's her here hers herself him himself
his how however i i'm i've if in including indeed instead into is isn't it it's its itself just kept last least less
let like likely made make makes making many may me might mine more most mostly much must my myself near nearly neither
never new next no nobody none nor not nothing now of off often on once one only onto or other others our ours
ourselves out over own per perhaps put quite rather really said same say saying says second see seem seems seen
several shall she she's should shouldn't since so some someone something soon still such take taken than that that's
the their theirs them themselves then there there's therefore these they they're this those though three through thus
to today together told too took toward towards two under unless until up upon us use used uses using very via was
wasn't way we we're well went were weren't what whatever when where whether which while who whole whom whose why will
with within without won't would wouldn't yet you you're your yours yourself
"""
_STOP_WORDS = frozenset(_CLOSED_CLASSES.split())


def sentences(text: str) -> list[str]:
    """The sentences of `text`, white space folded to single spaces."""
    found: list[str] = []
    for paragraph in _BLANK_LINE.split(text):
        found.extend(_sentences_of(" ".join(paragraph.split())))
    return found


def _sentences_of(paragraph: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(paragraph):
        if not _is_inside(paragraph, end):
            yield paragraph[start : end.end()].strip()
            start = end.end()
    if rest := paragraph[start:].strip():
        yield rest


def _is_inside(paragraph: str, end: re.Match[str]) -> bool:
    """True for the full stop of an abbreviation or an initial, and where the text goes on in lower case."""
    if paragraph[end.end() : end.end() + 1].islower():
        return True
    if end.group() != ". ":
        return False
    word = paragraph[max(0, end.start() - 8) : end.start()].rpartition(" ")[2].strip("(\"'“‘").lower()
    return word in _ABBREVIATED or (len(word) == 1 and word.isalpha())


def phrases(sentence: str) -> Iterator[list[str]]:
    """The runs of words that are separated by single spaces only, in lower case."""
    run: list[str] = []
    end = 0
    for word in _WORD.finditer(sentence):
        if run and sentence[end : word.start()] != " ":
            yield run
            run = []
        run.append(word.group().lower().replace("’", "'"))
        end = word.end()
    if run:
        yield run


def is_telling(word: str) -> bool:
    """Whether a word is significant: no stop word, no number, no noise."""
    return len(word) <= LONGEST_WORD and word not in _STOP_WORDS and not word[0].isdigit() and len(word) > 1


def is_spaced(word: str) -> bool:
    """False for scripts written without spaces, in which text between two spaces is a clause."""
    return _UNSPACED.search(word) is None
