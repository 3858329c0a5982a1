"""Whether what a model said names only what it was given. Pure; the same answer gives the same faults.

Names are what a made-up instruction cannot do without, and what a text gives away: so the answer is searched
for everything that looks like one, and each must occur in a source.

- what stands in quotes, in code or bold marks, or as a link's text;
- words with capital letters, in runs (a sentence's first word only where it is no common one);
- the word before "button", "menu", "tab" and the like;
- addresses, e-mail addresses and paths; numbers that do not number a list;
- markup, and letters of a script that no source is written in.

Three kinds of source are told apart. `trusted` is what the product's people wrote: anything may be taken from
it. `said` is what the user wrote: its names may be repeated, its addresses may not. `labels` are texts of
pages, which anybody may have written: one that looks like a name (`is_name`) may be said as a whole, in no
other way; the words of any other one, if neither trusted nor common, may not be said at all. So an
instruction that hides in a button's title, or in the path of a link, cannot bring a word of its own onto the
screen, whether the model obeys it or not.

What is not found: an invention in common words alone, and in lower case without a word for a part of a page.
A correct answer may be refused, too (in a language other than the sources', in which nouns are capitalised):
then the `how_to` itself is said, which is never wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from api.model.words import COMMON, UI

MAX_FAULTS = 5
NAME_WORDS, NAME_CHARS = 6, 48
PAGE_WORDS = 8

_WORD = r"[^\W\d_](?:[\w’']*\w)?"
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"  # of a word; an underscore is none of its letters
_GONE = "\0"  # in place of each character of what was looked at already
_EDGES = _GONE + " \t.,;:!?…()[]{}\"“”„«»‘’'*_`"
_QUOTED = tuple(
    re.compile(pattern)
    for pattern in (
        r'"([^"\n]{1,300})"',
        r"“([^”\n]{1,300})”",
        r"„([^“”\n]{1,300})[“”]",
        r"«([^»\n]{1,300})»",
        r"‹([^›\n]{1,300})›",
        r"「([^」\n]{1,300})」",
        r"(?<!\w)‘([^’\n]{1,300})’(?!\w)",
        r"(?<!\w)'([^'\n]{1,300})'(?!\w)",
        r"`([^`\n]{1,300})`",
        r"\*\*([^*\n]{1,300})\*\*",
        r"(?<![\w*])\*([^*\s][^*\n]{0,300})\*(?![\w*])",
        r"__([^_\n]{1,300})__",
        r"\[([^\]\n]{1,300})\](?=\()",
    )
)
_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s<>\"“”)\]]+"
    r"|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?<![\w@.-])[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,24}(?![\w-])(?::\d+)?(?:/[^\s<>\"“”)\]]*)?"
)
_PATH = re.compile(r"(?<![\w/.:<])/[\w:~%-][\w/:.%~-]*")
_ORDINAL = re.compile(r"(?m)^[ \t>*-]*\(?\d{1,2}[.)](?=\s)")
_NUMBER = re.compile(rf"{_START}\d\w*(?:[.,:]\d\w*)*")
_MARKUP = re.compile(r"<[A-Za-z/!?]")
_TOKEN = re.compile(_START + _WORD)
_RUN = re.compile(rf"{_START}{_WORD}(?:[ \t]+{_WORD})*")
_PART = re.compile(rf"{_START}({_WORD}|\d+)[ \t]+(?:{UI})(?!\w)", re.IGNORECASE)
_ORDERS = re.compile(
    r"\b(ignore|disregard|forget|pretend|say|says|tell|reply|respond|answer|output|print|repeat|obey|"
    r"instructions?|prompt|assistant|system|jailbreak|must|you are)\b",
    re.IGNORECASE,
)
_SENTENCE_END = ".!?:;…\n"


class Sources(NamedTuple):
    """What an answer may draw on."""

    trusted: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()  # canonical URLs that the user was on
    said: tuple[str, ...] = ()
    strict: bool = True  # numbers and the first words of sentences are looked at, too


def clean(text: str) -> str:
    """The text as it may be shown: no control or invisible characters, no trailing blanks."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = "".join(c for c in text if c == "\n" or c == "\t" or unicodedata.category(c)[0] != "C")
    return "\n".join(line.rstrip() for line in kept.split("\n")).strip()


def is_name(label: str) -> bool:
    """Whether a text of a page looks like the name of something, and like nothing that gives an order."""
    text = clean(label)
    return (
        0 < len(text) <= NAME_CHARS
        and len(text.split()) <= NAME_WORDS
        and not re.search(r"[.:;!?](\s|$)|\n|\d{5}|[<>{}|\\]", text)
        and not _ADDRESS.search(text)
        and not _ORDERS.search(text)
    )


def is_page(url: str) -> bool:
    """Whether the path of a canonical URL looks like that of a page: a link can be made to say anything."""
    words = re.split(r"[\W_]+", _path(clean(url)))
    return sum(map(bool, words)) <= PAGE_WORDS and len(url) <= 300 and not _ORDERS.search(" ".join(words))


def faults(answer: str, sources: Sources) -> list[str]:
    """What the answer names that no source does, a few words each; empty where it is grounded."""
    return list(dict.fromkeys(fault[:60] for fault in _Check(sources).faults(answer)))[:MAX_FAULTS]


class _Check:
    def __init__(self, sources: Sources) -> None:
        self._strict = sources.strict
        self._trusted = _joined(sources.trusted)
        self._known = _joined((*sources.trusted, *sources.said))
        named = {_normal(label) for label in sources.labels if is_name(label)}
        self._labels = [
            re.compile(_START + r"\s+".join(map(re.escape, label.split())) + _END, re.IGNORECASE)
            for label in sorted(named, key=lambda label: (-len(label), label))
        ]
        self._words = set(_tokens(self._known)) | {word for label in named for word in _tokens(label)}
        self._paths = {_path(_normal(page)) for page in sources.pages if is_page(page)}
        others = [_normal(label) for label in sources.labels if not is_name(label)]
        others += [_normal(_path(page).replace("_", " ")) for page in sources.pages if not is_page(page)]
        self._tainted = {word for label in others for word in _tokens(label)} - self._words - COMMON
        self._scripts = {script for text in (self._known, *named) for script in _scripts(text)}

    def faults(self, answer: str) -> Iterator[str]:
        text = unicodedata.normalize("NFKC", clean(answer))
        if any(_normal(found[0]) not in self._trusted for found in _MARKUP.finditer(text)):
            yield "markup"
        for script in sorted(_scripts(text) - self._scripts):
            yield f"letters of another script ({script.lower()})"
        addresses = list(_ADDRESS.finditer(text))
        yield from (m[0] for m in addresses if not self._is_trusted(m[0].rstrip(_EDGES)))
        rest = _blank(text, addresses)
        paths = list(_PATH.finditer(rest))
        yield from (m[0] for m in paths if not self._is_page(m[0].rstrip(_EDGES + "/")))
        rest = _blank(rest, paths)
        for label in self._labels:
            rest = _blank(rest, label.finditer(rest))
        yield from self._numbers(_blank(rest, _ORDINAL.finditer(rest)))
        yield from self._quoted(text, rest)
        yield from self._capitals(text, rest)
        yield from self._parts(text, rest)
        yield from (m[0] for m in _TOKEN.finditer(rest) if _normal(m[0]) in self._tainted)

    # Each is given the text and what is left of it: without addresses, and labels that are said as a whole.

    def _numbers(self, rest: str) -> Iterator[str]:
        for found in _NUMBER.finditer(rest):
            if (self._strict or len(found[0]) > 4) and not self._is_trusted(found[0]):
                yield found[0]

    def _quoted(self, text: str, rest: str) -> Iterator[str]:
        for pattern in _QUOTED:
            for found in pattern.finditer(text):
                if rest[found.start(1) : found.end(1)].strip(_EDGES) and not self._is_known(
                    found[1].strip(_EDGES)
                ):
                    yield found[1]

    def _capitals(self, text: str, rest: str) -> Iterator[str]:
        for phrase in _RUN.finditer(rest):
            run: list[tuple[int, int]] = []
            for word in _TOKEN.finditer(rest, *phrase.span()):
                if any(map(str.isupper, word[0])):
                    run.append(word.span())
                elif run:
                    yield from self._unknown(text, run)
                    run = []
            if run:
                yield from self._unknown(text, run)

    def _unknown(self, text: str, run: list[tuple[int, int]]) -> Iterator[str]:
        """The run of capitalised words, unless it is known or only begins a sentence."""
        if self._is_known(text[run[0][0] : run[-1][1]]):
            return
        first = text[run[0][0] : run[0][1]]
        if _begins_sentence(text, run[0][0]) and (
            _normal(first) in COMMON or self._is_known(first) or (not self._strict and len(run) == 1)
        ):
            run = run[1:]
        if run and not self._is_known(text[run[0][0] : run[-1][1]]):
            yield text[run[0][0] : run[-1][1]]

    def _parts(self, text: str, rest: str) -> Iterator[str]:
        for found in _PART.finditer(text):
            word = found[1]
            if not rest[found.start(1) : found.end(1)].strip(_GONE) or word.isdigit():
                continue
            if _normal(word) not in self._words and not self._is_known(word):
                yield found[0]

    def _is_page(self, path: str) -> bool:
        return _normal(path) in self._paths or self._is_trusted(path)

    def _is_trusted(self, claim: str) -> bool:
        return _occurs(_normal(claim), self._trusted)

    def _is_known(self, claim: str) -> bool:
        said = _normal(claim)
        return said in COMMON or _occurs(said, self._known)


def _joined(texts: Iterable[str]) -> str:
    return " \x00 ".join(map(_normal, texts))


def _normal(text: str) -> str:
    """As texts are compared: compatible forms alike, case and blanks ignored, quotation marks alike."""
    folded = unicodedata.normalize("NFKC", clean(text)).casefold().replace("’", "'").replace("‘", "'")
    return " ".join(folded.split())


def _occurs(claim: str, text: str) -> bool:
    """Whether the claim stands in the text, and not inside of a longer word."""
    before = _START if claim[:1].isalnum() else ""
    after = _END if claim[-1:].isalnum() else ""
    return re.search(before + re.escape(claim) + after, text) is not None


def _tokens(normal: str) -> list[str]:
    return _TOKEN.findall(normal)


def _path(page: str) -> str:
    rest = page.partition("://")[2]
    return ("/" + rest.partition("/")[2] if rest else page).rstrip("/")


def _blank(text: str, found: Iterable[re.Match[str]]) -> str:
    """The text without what was found; places stay."""
    for match in list(found):
        text = text[: match.start()] + _GONE * (match.end() - match.start()) + text[match.end() :]
    return text


def _begins_sentence(text: str, place: int) -> bool:
    """Whether what stands at `place` is the first word of a sentence, a line or a list's item."""
    before = text[:place].rstrip(" \t(“„«\"'‘*_`#>•-–—[")
    line = before.rpartition("\n")[2]
    return (
        not before
        or before[-1] in _SENTENCE_END
        or re.fullmatch(r"[ \t>*-]*\(?\d{1,2}[.)]", line) is not None
    )


def _scripts(text: str) -> set[str]:
    return {script for c in set(text) if (script := _script(c)) is not None}


@lru_cache(maxsize=4096)
def _script(character: str) -> str | None:
    """The first word of a letter's name, such as LATIN; None of anything else."""
    if not character.isalpha():
        return None
    return unicodedata.name(character, "UNKNOWN").partition(" ")[0]
