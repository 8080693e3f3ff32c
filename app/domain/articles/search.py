"""The words by which articles are found: one splitting of texts for both databases, so that they find the same."""

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
LONGEST_WORD = 64
# A tsvector of PostgreSQL holds less than a megabyte.
MOST_BYTES_OF_WORDS = 400_000
MOST_WORDS_OF_QUERY = 10


def words_of(*texts: str) -> list[str]:
    """The different words, in their order: without case and diacritics. Of a very long text those at its beginning."""
    found: dict[str, None] = {}
    length = 0
    for word in _split(texts):
        if word not in found:
            length += len(word.encode()) + 1
            if length > MOST_BYTES_OF_WORDS:
                break
            found[word] = None
    return list(found)


def _split(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        # NFKD parts letters from their diacritics, which are marks then and no part of a word.
        plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
        for match in _WORD.finditer(plain.casefold()):
            yield match[0][:LONGEST_WORD]
