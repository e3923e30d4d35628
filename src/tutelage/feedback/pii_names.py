"""Names of people in a text whose letters were folded by pii.fold: only where the words around say so. Best effort, and no more.

A name without such words is not found. Titles before the names of novels' people are found as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Spot = tuple[int, int]
_PART = r"[A-ZÀ-ÖØ-ÞĀ-ſΑ-ΩА-Я][\w'’-]{1,30}+"
_NAME = rf"{_PART}(?: (?:(?:van|von|de|der|den|del|della|di|da|dos|du|la|le|al|bin|ben|ter|ten) ){{0,2}}(?:{_PART}|[A-Z]\.)){{0,3}}"
_WORDS = frozenset("""Sir Madam Madame Sirs Team All Everyone Friend Friends Customer Colleague Colleagues Hiring Manager Editor Diary God
    Lord Santa Mr Mrs Ms Dr Mister Reader Readers Students Parents Professor Doctor President Chair Committee Support Chatgpt Assistant The
    This That It There What Who How Why When Where Please Thanks Thank Yes No Ok Okay Hello Hi Hey In On At For And But So If My Your Our
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July August September October November
    December English German French Spanish Italian Chinese Japanese American British Indian Russian Sent Best Kind Warm Regards Dear
    Speaker Chief Justice Vice Engineer Mayor Judge Captain Secretary Minister Ambassador Senator Chairman General Bot Darling Love Honey
    Baby Sweetheart Mom Mum Dad Mother Father Mama Papa Grandma Grandpa Auntie Uncle Aunt""".split())
_SAID = re.compile(
    rf"(?:\b(?i:my (?:full |first |last |sur)?name(?: is|['’]s|:)|i am called|call me|ich hei(?:ß|ss)e|mein name ist|je m['’]appelle|"
    rf"me llamo|mi nombre es|mi chiamo|meu nome é|ik heet|jag heter) |"
    rf"(?:^|(?<=[\n,;|({{\"]))[ \t]{{0,4}}(?i:(?:full |first |last )?name|patient|author|contact person) ?: ?)({_NAME})")
_GREETED = re.compile(
    rf"(?:^|(?<=[\n.!?:\"“]))[ \t]{{0,4}}(?i:dear|hi|hello|hey|liebe|lieber|hallo|cher|chère|querid[oa]|estimad[oa]|caro|cara|beste) "
    rf"((?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?{_NAME})(?=[ \t]*(?:[,!:\n]|$))")
_TITLED = re.compile(rf"(?<!\w)(?:Mrs?|Ms|Mx|Dr|Prof|Herr|Frau|Mme|Mlle|Señora?|Sra?|Signora?)(?:\. ?| )({_NAME})")
_SIGNED = re.compile(
    rf"^[ \t]*(?i:(?:best|kind|warm|warmest|many|with best|with kind)?[ ]?(?:regards|wishes|thanks)|best|sincerely|"
    rf"yours(?: sincerely| truly| faithfully)?|sincerely yours|cheers|love|mit freundlichen grüßen|viele grüße|cordialement|saludos|"
    rf"cordiali saluti|met vriendelijke groet),?[ \t]*\n(?:[ \t]*\n)?[ \t]*-{{0,2}}[ \t]?({_NAME})[ \t]*$", re.MULTILINE)


def names(text: str) -> Iterator[Spot]:
    """Names after `my name is`, in greetings and signatures, after titles and in fields called name."""
    for pattern in (_SAID, _GREETED, _TITLED, _SIGNED):
        for found in pattern.finditer(text):
            name = re.sub(r"['’]s?$", "", found[1])
            end = found.start(1) + len(name)
            words = name.split()
            while words and words[-1] in _WORDS:                    # Dear John Please -> John
                end -= len(words.pop()) + 1
            if words and words[0].rstrip(".") not in _WORDS - {"Mr", "Mrs", "Ms", "Dr"}:
                yield found.start(1), end
