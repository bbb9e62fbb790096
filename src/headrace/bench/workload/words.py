"""Prose for prompts, made here: plain sentences of common short words, each of which is one token to nearly any model.

Made of words alone (no commas or full stops), so that a prompt's tokens are its words, wherever it is cut.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError


def _listed(words: str) -> list[str]:
    return words.split()


ADJECTIVES = _listed(
    """
    big small old new young long short high low early late great little good bad best fine fair free full open
    strong weak hard soft dark light bright clear cold warm hot dry wet clean deep wide narrow heavy quick slow
    fast quiet loud calm wild poor rich strange simple common rare main real true false safe dangerous happy sad
    proud kind gentle sharp flat round square red blue green white black brown grey golden silver distant local
    foreign public private modern ancient
    """
)

NOUNS = _listed(
    """
    man woman child boy girl friend mother father brother sister son daughter king queen doctor teacher student
    worker farmer soldier captain leader people family city town village street road bridge house room door window
    wall floor garden field forest tree river lake sea ocean island mountain hill valley rock stone sand water
    fire wind rain snow storm sun moon star sky cloud morning evening night day week month year hour summer winter
    spring horse dog cat bird fish sheep bear lion ship boat train car table chair book letter paper story song
    picture game machine engine tool box bag bottle cup glass clock coat hat ring bread meat milk fruit apple
    sugar salt coffee tea money price market shop bank company office school church court army party team state
    country nation world law plan idea question answer problem reason word name number line point part side end
    hand eye head heart voice face body
    """
)

VERBS = _listed(
    """
    is was became saw found met left took gave brought made kept held heard knew thought felt followed crossed
    reached passed entered watched called asked told showed opened closed carried built bought sold wanted needed
    loved remembered forgot turned changed moved covered filled joined served won lost
    """
)

LINKS = _listed(
    """
    in on at by near under over behind before after with without against between across through toward around
    """
)

DETERMINERS = _listed("the a this that one each every another some our their his her")

JOINTS = _listed("and but while because so when until where")

_SENTENCE = (DETERMINERS, ADJECTIVES, NOUNS, VERBS, DETERMINERS, NOUNS, LINKS, DETERMINERS, ADJECTIVES, NOUNS, JOINTS)

WORDS = tuple(sorted({word for kind in (*_SENTENCE, VERBS, LINKS) for word in kind}))
"""All words, in a fixed order."""

OPENER = "Once"
"""How every prompt of prose begins. The words after it have a space before them, as words that are one token do; a
first word has none, or the template of a chat may trim it."""


def prose(count: int, draw: np.random.Generator, left_out: Collection[str] = ()) -> tuple[list[str], NDArray[np.int64]]:
    """Words, and ``count`` indices into them that read as sentences. Raises BenchError where too many are left out."""
    kinds = _kinds(left_out)
    if not all(kinds):
        raise BenchError("too many words are left out of prose; expected some of every kind to be left")
    words = [word for word in WORDS if word not in left_out]
    index = {word: place for place, word in enumerate(words)}
    sentences = -(-count // len(kinds))
    columns = [draw.choice([index[word] for word in kind], sentences) for kind in kinds]
    return words, np.stack(columns, axis=1).reshape(-1)[:count].astype(np.int64)


def readable(left_out: Collection[str]) -> bool:
    """Prose can do without these words: half of each kind are left."""
    return all(2 * len(left) >= len(kind) for left, kind in zip(_kinds(left_out), _SENTENCE, strict=True))


def _kinds(left_out: Collection[str]) -> list[list[str]]:
    return [[word for word in kind if word not in left_out] for kind in _SENTENCE]
