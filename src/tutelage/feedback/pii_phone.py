"""Where telephone numbers stand in a text whose letters were folded by pii.fold.

With a + or an international prefix the plan of the country decides. Without, a number counts when its grouping is one that national plans
use and that little else has (trunk 0, area code in brackets, 3-3-4 with dashes), or when words beside it say that it is a phone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tutelage.feedback.pii_find import BLANK, Spot, W
from tutelage.feedback.pii_tables import NATIONAL_DIGITS

_START, _END = rf"(?<!{W})", rf"(?!{W})"
_NO_PRICE = r"(?<![$€£#+-])"
_GAP = r"[ .()/-]{0,3}"
_RUN = re.compile(rf"\d(?:{_GAP}\d){{6,}}+")
_DIGITS, _NO_DIGIT = re.compile(r"\d+"), re.compile(r"\D")
_MAX_CUE = 72
"""Characters before a number in which words may say what it is."""

_INTERNATIONAL = re.compile(
    rf"{_START}(?<![+\d][.,])(?:\+ ?\(?|\(\+(?=\d{{1,3}}\))|(?:00[ .-]?|011[ .-])(?=[1-9]))([1-9](?:{_GAP}\d){{6,15}})(?!\d)")
_NANP = re.compile(
    rf"{_START}(?<!\d[.,/-]){_NO_PRICE}(?:1[ .-])?(?:\([2-9]\d\d\)[ .-]?|[2-9]\d\d(?:[ .-]| - ))"
    r"[2-9]\d\d(?:[ .-]| - )\d{4}(?!\d|[.,-]\d)")
_TRUNK = re.compile(
    rf"{_START}(?<!\d[.,/-]){_NO_PRICE}(?:\(0[1-9]\d{{0,3}}\) ?|0 (?=[1-9]\d\d )|0[1-9]\d{{0,4}}(?: ?[/-] ?|[ .]))"
    rf"\d{{2,8}}(?:(?: - |[ .-])\d{{2,6}}){{0,3}}(?!\d|[.,-]\d)")
_BARE_TRUNK = re.compile(rf"{_START}(?<![/=$€£#.,+-])0[1-9]\d{{8,9}}{_END}(?![.,-]\d)")
_SHAPES = re.compile(
    rf"{_START}(?<!\d[ .,/-]){_NO_PRICE}(?:\(\d{{2,4}}\) ?\d{{3,5}}[ -]\d{{4}}"          # (11) 98765-4321
    r"|8[ -]?\(?[3489]\d\d\)?[ -]\d{3}[ -]\d\d[ -]\d\d"                                  # 8 (912) 345-67-89
    r"|1[3-9]\d[ -]\d{4}[ -]\d{4}"                                                       # 138 1234 5678
    r"|[6-9]\d{4} \d{5}"                                                                 # 98765 43210
    r"|\d\d 9\d{4}-\d{4}"                                                                # 11 98765-4321
    r"|[2-9]\d\d[ -]\d{3}[ -]\d\d[ -]\d\d"                                               # 495 123-45-67
    r"|[679]\d\d \d\d \d\d \d\d|[1-9]\d \d{3} \d\d \d\d|[49]\d\d \d\d \d{3})"            # 612 34 56 78, 91 234 56 78, 912 34 567
    rf"{_END}(?![ .,/-]?\d)")
_NATIONAL = ((_NANP, 10, 11), (_TRUNK, 9, 12), (_BARE_TRUNK, 10, 11), (_SHAPES, 8, 11))
"""Pattern, fewest and most digits."""
_GENERIC = re.compile(rf"(?:\((?=\d{{1,5}}\)))?{_START}(?<!{W}\()(?!\d{{1,3}}\. )\d(?:{_GAP}\d){{6,12}}(?!\d)")
_LINE_BEFORE, _LINE_AFTER = re.compile(r"(?:^|\n)[ \t]{0,4}(?:(?:[-*•]|\d{1,3}[.)])[ \t])?$"), re.compile(r"[ \t]*(?:\n|$)")

_NOUNS = (r"tele?ph?on\w*|tel\b[.:]?|phones?\b(?:['’]s)?|mob(?:ile|il)?\b[.:]?|cell(?:ulare|ular)?\b|celular\b|handy\w*|fax\b|whats ?app\b|"
          r"hotline\b|sms\b|voice ?mail\b|viber\b|m[óo]vil\b|t[ée]l(?:[ée]phone)?\b|tel[ée]fono?\b|telefon\w*|komórk\w+|тел(?:ефон\w*)?\b|"
          r"номер\w*|(?:signal|telegram|contact|kontakt|contacto|contatto)(?=:)|[TMFPCHW](?=: ?[(+\d])")
_VERBS = (r"phoned\b|messages? to\b|r[üu]ckruf\b|ruf\w*|anruf\w*|erreich\w+|ll[aá]m\w+|appel\w+|chiam\w+|lig(?:ue|ar)\b|bel\b|wa\.me/|"
          r"(?:call|ring|text|dial|reach|contact|phone|calling|give \w+ an? (?:call|ring))"
          r"(?= (?:me|us|him|her|them|on|at|to|back|by|[+(\d]|\w+ (?:on|at)))")
_NUMBERS = (r"(?:my|his|her|our|your|their|this|phone|cell|mobile|contact|private|work|home|office) (?:new |old |phone |contact |cell )?"
            r"number(?: is|['’]s)?")
_CUE = re.compile(
    rf"(?<![^\W_])(?:{_NOUNS}|{_VERBS}|{_NUMBERS})|电话|電話|手机|手機|號碼|号码|携帯|전화|휴대폰|هاتف|☎|📞|📱", re.IGNORECASE)
_TO_NUMBER = re.compile(rf"[^\d\n;!(+#$€£{BLANK}]{{0,32}}(?:\n[ \t]{{0,8}})?(?=[\d(])")
_NOT_THIS = re.compile(
    r"\b(?:card|order|account|iban|ticket|invoice|zip|page|between|until|costs?|year|carte|karte|tarjeta|can|could|would|holds?|has|have|had|"
    r"sold|bought|than|about|over|nearly|almost|of)\b|\bin $", re.IGNORECASE)
_NEXT = re.compile(r" ?(?:,|/|;|\||\b(?:or|and|und|oder|et|ou|y|o)\b) ?(?:\w{2,6}[:.]? )?(?=[\d(])", re.IGNORECASE)
_SAID_AFTER = re.compile(
    r" ?(?:at (?:home|work)\b|[(\[,-] ?(?:mobile|mob|cell|home|work|office|tel|phone|fax|whatsapp|handy|[mhwcof])\b|"
    r"is (?:my|his|her|our|the) (?:new |work |home )?(?:phone|number|mobile|cell|fax)\b)", re.IGNORECASE)
_BEFORE_PLAIN = re.compile(
    r"(?:\b(?:orders?|invoice|ticket|ref|reference|tracking|serial|account|acct|konto|case|part|sku|isbn(?:-1[03])?|issn|doi|id|zip|postcode|"
    r"item|lot|batch|model|version|pages?|pp|chapters?|rfc|flight|population|timestamp|binary|card|imei|sum|total)\b"
    r"[^\w\n]{0,3}(?:no|nr|number|num|code|id)?\b[^\w\n]{0,3}|[#№$€£¥] ?)$", re.IGNORECASE)
_EXTENSION = re.compile(
    rf"(?:,? {{0,2}}(?:ext(?:ension)?\.?|x|доб\.?|durchwahl|poste|#) ?:?\.? ?\d{{1,6}}){_END}(?![.,-]\d)", re.IGNORECASE)
_WENT_BEFORE, _GOES_ON = re.compile(r"\d ?[ -]$"), re.compile(r"[ -]\d{3}")
_DATE = re.compile(
    r"\(?(?:\d\d?([.\-/ ])\d\d?\1(?:19|20)\d\d|(?:19|20)\d\d([.\-/ ]?)[01]\d\2[0-3]\d)(?!\d)"
    r"|(?:1[5-9]|20)\d\d ?- ?(?:1[5-9]|20)?\d\d(?!\d)|[012]?\d[.:][0-5]\d ?- ?[012]?\d[.:][0-5]\d")


def phones(text: str) -> Iterator[Spot]:
    """International, national and cued numbers with their extensions; they may overlap.

    All are looked for only where seven digits or more stand together, which most text has nowhere.
    """
    done = 0
    for run in _RUN.finditer(text):
        start = max(run.start() - 3, done)
        stop = run.end() + 3                                      # what must not follow is seen too
        spots = [*_international(text, start, stop), *_national(text, start, stop), *_alone(text, start, stop)]
        cued = max(done, run.start() - _MAX_CUE)
        while cue := _CUE.search(text, cued, run.end()):
            found = list(_cued(text, cue.end()))
            spots += found
            cued = found[-1][1] if found else cue.end()
        done = max([run.end(), *(end for _, end in spots)])
        for begin, end in spots:
            extension = _EXTENSION.match(text, end)
            yield begin, extension.end() if extension else end


def _international(text: str, start: int, stop: int) -> Iterator[Spot]:
    for found in _INTERNATIONAL.finditer(text, start, stop):
        if found[0][0] == "0" and (_is_other(text, found.start())
                                   or _WENT_BEFORE.search(text, max(0, found.start() - 3), found.start())):
            continue
        for end in _group_ends(text, found.start(1), found.end()):
            if _in_plan(text[found.start(1):end]):
                yield found.start(), end
                break


def _in_plan(number: str) -> bool:
    """Whether a calling code and what follows it are as long as the country's plan says."""
    digits = _NO_DIGIT.sub("", number.replace("(0)", ""))
    for length in (1, 2, 3):
        if digits[:length] in NATIONAL_DIGITS:
            low, high = NATIONAL_DIGITS[digits[:length]]
            return low <= len(digits) - length <= high
    return digits[:1] in "23456789" and 7 <= len(digits) - 3 <= 10


def _group_ends(text: str, start: int, end: int) -> list[int]:
    """Ends of the groups of digits between start and end, the last first."""
    return [m.end() for m in _DIGITS.finditer(text, start, end)][::-1]


def _national(text: str, start: int, stop: int) -> Iterator[Spot]:
    for pattern, low, high in _NATIONAL:
        for found in pattern.finditer(text, start, stop):
            if pattern is _NANP and not _is_nanp(found[0]):
                continue
            if pattern is _BARE_TRUNK and _is_isbn(found[0]):
                continue
            if _DATE.match(found[0]) or _is_other(text, found.start()):
                continue
            for end in _group_ends(text, found.start(), found.end()):
                digits = _NO_DIGIT.sub("", text[found.start():end])
                if low <= len(digits) <= high + found[0].startswith("011 15") and len(set(digits)) > 2:
                    if not _is_part(text, found.start(), end):
                        yield found.start(), end
                    break


def _is_other(text: str, start: int) -> bool:
    """Whether the words before a number call it an order, a price or the like."""
    before = text[max(0, start - 24):start]
    return bool(before.strip("0123456789 .()/-\n") and _BEFORE_PLAIN.search(before))


def _is_part(text: str, start: int, end: int) -> bool:
    """Whether groups of digits go on before or after it, so that it is a piece of something longer."""
    if _GOES_ON.match(text, end):
        return True
    return bool(_WENT_BEFORE.search(text, max(0, start - 3), start)) and not {"(", "-"} & set(text[start:end])


def _is_nanp(number: str) -> bool:
    """No area code or exchange is N11, none has 9 in its middle place for expansion (North American Numbering Plan)."""
    digits = _NO_DIGIT.sub("", number)[-10:]
    return digits[1:3] != "11" and digits[1] != "9" and digits[4:6] != "11"


def _is_isbn(number: str) -> bool:
    return sum((10 - i) * int(c) for i, c in enumerate(number)) % 11 == 0 if len(number) == 10 else False


def _cued(text: str, start: int) -> Iterator[Spot]:
    """Any number of 7 to 13 digits behind words that call it a phone, and further ones of the same list."""
    gap = _TO_NUMBER.match(text, start)
    while gap is not None and not _NOT_THIS.search(gap[0]):
        begin = gap.end()
        if (end := _plain_number(text, begin)) is None and text[begin] == "(":
            begin += 1
            end = _plain_number(text, begin)
        if end is None:
            break
        yield begin, end
        gap = _NEXT.match(text, end)


def _alone(text: str, start: int, stop: int) -> Iterator[Spot]:
    """A number alone on its line, or one that the words after it call a phone."""
    for found in _GENERIC.finditer(text, start, stop):
        said = _SAID_AFTER.match(text, found.end())
        alone = _LINE_AFTER.match(text, found.end()) and _LINE_BEFORE.search(text, max(0, found.start() - 8), found.start())
        if not (said or alone) or _DATE.match(found[0]) or _is_year_list(found[0]):
            continue
        if said and not _is_part(text, found.start(), found.end()) or alone and _looks_dialled(found[0]):
            yield found.span()


def _looks_dialled(number: str) -> bool:
    """Whether a number with nothing beside it is grouped as phones are, not as sums or lists."""
    groups = re.findall(r"\d+", number)
    if re.fullmatch(r"\d{1,2}(?: \d{3})+|\d{5}-\d{4}", number):              # thousands, a postal code
        return False
    return (9 <= sum(map(len, groups)) <= 12 and 2 <= len(groups) <= 5 and max(map(len, groups)) > 2 and number[0] != "("
            and number.count(".") < 3 and len(set("".join(groups))) > 2)


def _is_year_list(number: str) -> bool:
    return all(re.fullmatch(r"(?:1[5-9]|20)\d\d", group) for group in re.findall(r"\d+", number))


def _plain_number(text: str, start: int) -> int | None:
    """End of the number that starts here, None if it is none: 7 to 13 digits that are no date, years or opening hours."""
    found = _GENERIC.match(text, start)
    if found is None or _DATE.match(found[0]) or _is_year_list(found[0]):
        return None
    for end in _group_ends(text, start, found.end()):
        if 7 <= len(_NO_DIGIT.sub("", text[start:end])) <= 13:
            return None if re.match(r" ?[=*<>%]", text[end:end + 2]) else end
    return None
