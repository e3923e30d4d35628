"""Where mail addresses, handles, IP addresses, IBANs and payment cards stand in a text whose letters were folded by pii.fold.

Every pattern begins where a run of its characters begins and takes it whole or to a fixed length, so time grows with the text alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from tutelage.feedback.pii_tables import (
    CARD_RANGES,
    COUNTRY_DOMAINS,
    GENERIC_DOMAINS,
    IBAN_LENGTH,
    MAIL_HOSTS,
    NOT_DOMAINS,
    NOT_HANDLES,
)

Spot = tuple[int, int]
UNSPACED = (r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
            r"\U00020000-\U0003ffff")
"""Scripts whose words stand side by side without spaces: their letters end an address as a space does."""
BLANK = "\ufffc"
"""Stands for what another kind has claimed: no letter, digit, space or punctuation."""
W = rf"[^\W{UNSPACED}]"
_ALNUM = rf"[^\W_{UNSPACED}]"
_LOCAL = rf"[^\s<>()\[\]{{}},;:\"@\\/=?`|«»¿¡\u2000-\u206f\u3000-\u303f\uff00-\uffff{UNSPACED}]"
_HOST = rf"(?:{_ALNUM}|[.-])"

_EMAIL = re.compile(rf"(?<!{_LOCAL})(?P<local>{_LOCAL}++|\"[^\"\n]{{1,64}}\")@(?P<host>\[[0-9A-Fa-f:.IPv]{{3,50}}\]|{_HOST}++)")
_LABEL = rf"{_ALNUM}(?:{_ALNUM}|-){{0,62}}+"
_DOT = r"(?:\.| ?[\[({] ?(?:dot|\.|punkt|punto|point) ?[\])}] ?| dot | \. ?)"
_SPELLED = re.compile(
    rf"(?<!{W})(?<![.+'%-])(?P<local>(?:{W}|[.+'%-])++)"
    rf"(?P<at> ?[\[({{<] ?(?:at|ät|@) ?[\])}}>] ?| at |@ | @ )(?P<host>{_LABEL}(?:{_DOT}{_LABEL}){{1,5}})", re.IGNORECASE)
_SPELLS = re.compile(r"[\[({<] ?(?:at|ät|@) ?[\])}>]|@ | dot | at [\w-]{1,63}\.\w", re.IGNORECASE)
_ANY_DOT = re.compile(_DOT, re.IGNORECASE)
_TOP = re.compile(r"xn--[a-z0-9-]+|[^\W\d_]+", re.IGNORECASE)
_NO_LOCALS = frozenset("""me us you it him her them look here there is are was be meet find found visit available only again good great bad
    stop arrive arrived live lives work works stay shop buy read see start stand based now out up sit point aim look looking""".split())
_HANDLE = re.compile(
    rf"(?<!{W})(?<![@`\\+-])@(?P<name>{W}++(?:[.-]{_ALNUM}{W}*+){{0,6}})(?:@(?P<host>{_HOST}++))?")
_LETTER, _SEPARATOR = re.compile(r"[^\W\d_]"), re.compile(r"[.-]")
_PROFILE = re.compile(r"[\w-]+\.[a-z]{2,12}/$", re.IGNORECASE)
_TIME = re.compile(r"\d+(?:am|pm|h|x)?(?:\.\d+)?", re.IGNORECASE)
_CODE_AFTER = re.compile(
    r"\(|/[\w@]|\{|\[| ?[:+*/|&-]{0,2}=(?!\))|\.\w+[({]| do \|| (?:annotation|decorator|attribute|directive|mixin|rule|macro)\b", re.I)
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|class|import|from \S+ import|return|npm|npx|pnpm|yarn|git|docker|apt|pip|brew|sudo|puts|attr_\w+|var|const|public|"
    r"private|protected|static)\s|\$ |>>> |/\*\*|\*/|//)|.*\b(?:SELECT|DECLARE|SET|EXEC|WHERE|INTO|VALUES|AND) $")
_NEXT_CODE = re.compile(
    r"[ \t]*(?:\n[ \t]*@[^\n]{0,80}){0,4}\n\s{0,40}(?:(?:async|export|public|private|protected|internal|static|final|abstract|open) )*"
    r"(?:def|class|fun|func|function|void|int|const|let|var|interface|struct|enum|record|fn|public|private|protected)\b")
_FENCE = re.compile(r"```|~~~")
_INLINE = re.compile(r"`[^`\n]{1,200}`")

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4 = re.compile(rf"(?<!{W})(?<!\d[.,])(?<![A-Za-z]-){_OCTET}(?:(?:\.|\[\.\]){_OCTET}){{3}}(?!{W})(?!\.\d|\.[a-z]|-[A-Za-z])")
_V6 = re.compile(rf"(?<!{W})(?<!\.)(?<![0-9A-Fa-f:.]:)[0-9A-Fa-f:][0-9A-Fa-f:.]{{2,44}}+(?:%[0-9A-Za-z]{{1,15}})?(?!{W})")
_DOTTED, _COLONS = re.compile(r"\d(?:\.|\[\.\])\d"), re.compile(r":[0-9A-Fa-f]{0,4}:")
_NUMBERED = frozenset(
    """v ver version versions release releases released rev revision build firmware section sections sec chapter clause article paragraph
    figure table step driver kernel assembly oid patch upgrade upgraded update updated downgrade downgraded python chrome chromium firefox
    safari windows ios macos android linux java jdk php ruby perl office acrobat postgres postgresql mysql redis nginx apache openssl unity
    gcc cuda""".split())
_ADDRESSED = frozenset(
    """ip ips ipv4 address addr host hosts server servers ping ssh telnet curl from client gateway dns subnet proxy router login connect
    connected connection traceroute nmap peer remote inet firewall banned blocked""".split())
_JOINED = re.compile(r"(?:[§¶]|[=~><!]=|[~^]|[A-Za-z]/|/[\w.-]{1,40}:)$")

_IBAN = re.compile(rf"(?:(?<!{W})|(?<=IBAN))([A-Za-z]{{2}})\d\d", re.ASCII)
_FOURS = re.compile(r"[a-z0-9]+|[a-z]{2}\d\d(?: {1,2}[a-z0-9]{4}|[.-][a-z0-9]{4})+(?: {1,2}[a-z0-9]{1,3}|[.-][a-z0-9]{1,3})?")
_IBAN_REST = {length: re.compile(rf"(?:[ .-]{{0,2}}[A-Za-z0-9]){{{length - 4}}}(?!{W})") for length in set(IBAN_LENGTH.values())}

_CARD = re.compile(
    rf"(?<!{W})(?<!\d[.,])(?=[2-689])(?:\d{{12,19}}+"
    r"|\d{4}(?P<sep> {1,2}|[.-]| - )(?:\d{4}(?P=sep)\d{4}(?P=sep)\d{4}(?:(?P=sep)\d{1,3})?|\d{6}(?P=sep)\d{4,5}"
    r"|\d{3}(?P=sep)\d{3}(?P=sep)\d{3})|(?<!\d[ .-])\d(?:[ .-]\d){11,18}(?![ .-]\d(?!\d)))"
    rf"(?!{W})(?![.,]\d)")
_TWELVE = re.compile(r"\d(?:[ .-]{0,3}\d){11}")
_RANGES = {digit: [r for r in CARD_RANGES if r[0][0] <= digit <= r[1][0]] for digit in "0123456789"}
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""A digit -> the digit sum of twice itself."""


def emails(text: str) -> Iterator[Spot]:
    """Addresses as they are written, and spelled out with [at], (at) or `at … dot …`."""
    if "@" in text:
        yield from _written(text)
    at = 0 if _SPELLS.search(text) else len(text)
    while spelled := _SPELLED.search(text, at):
        at = spelled.end("at")
        if _is_spelled(spelled, text[spelled.end():spelled.end() + 1]):
            at = spelled.end()
            yield spelled.start("local") + len(spelled["local"]) - len(spelled["local"].lstrip(".'-+%")), at


def _written(text: str) -> Iterator[Spot]:
    for found in _EMAIL.finditer(text):
        local, host, start = found["local"], found["host"], found.start()
        if not local.startswith('"'):
            start += local.rfind("..") + 2 if ".." in local else 0
            while start < found.end("local") and not (text[start].isalnum() or text[start] == "_"):
                start += 1
        end = found.start("host") + (len(host) if host.startswith("[") else _host_length(host, text[found.end():found.end() + 1]))
        if text[start] == "_" == text[end:end + 1]:                 # _emphasis_
            start += 1
        is_remote = local == "git" and text[end:end + 1] == ":"
        if start < found.end("local") and end > found.start("host") and not is_remote and text[start - 1:start] != "@":
            yield start, end


def _is_spelled(found: re.Match[str], follows: str) -> bool:
    """Whether `name at host dot top` and the like mean an address."""
    labels = [label.lower() for label in _ANY_DOT.split(found["host"]) if label]
    at, top = found["at"].strip().lower(), labels[-1]
    if at == "at" and " dot " not in found["host"].lower() and ".".join(labels) not in MAIL_HOSTS:
        return False
    if at == "at" and found["local"].lower() in _NO_LOCALS:
        return False
    if top in COUNTRY_DOMAINS or top in GENERIC_DOMAINS or top.startswith("xn--"):
        return not (at == "@" and follows == "(")
    return at not in ("at", "@") and top.isalpha() and len(top) > 1 and top not in NOT_DOMAINS


def _host_length(host: str, follows: str) -> int:
    """How much of a run of host characters is a host with a top-level domain; 0 if none of it. follows: the character after the run."""
    ends, at = list[tuple[int, str, bool]](), 0
    for i, label in enumerate(host[:254].split(".")):
        if not label or len(label) > 63 or label.startswith("-"):
            break
        if i and (found := _TOP.match(label)):
            ends.append((at + found.end(), found[0].lower(), found.end() == len(label)))
        at += len(label) + 1
    known = [end for end, top, _ in ends if top in COUNTRY_DOMAINS or top in GENERIC_DOMAINS or top.startswith("xn--")]
    if known or not ends:
        return known[-1] if known else 0
    end, top, whole = ends[-1]
    one_case = host[end - len(top):end] in (top, top.upper())
    return end if whole and one_case and len(top) > 2 and top not in NOT_DOMAINS and follows not in ("(", "[", "=") else 0


def handles(text: str) -> Iterator[Spot]:
    """@name where it is no decorator, annotation, package scope or variable; @name@host of federated networks whole."""
    if "@" not in text:
        return
    fences = [m.start() for m in _FENCE.finditer(text)]
    code = [*zip(fences[::2], fences[1::2], strict=False), *(m.span() for m in _INLINE.finditer(text))]
    code.sort()
    inside = 0
    for found in _HANDLE.finditer(text):
        while inside < len(code) and code[inside][1] <= found.start():
            inside += 1
        if inside < len(code) and code[inside][0] <= found.start():
            continue
        name, end = found["name"], found.end("name")
        if found["host"] and (length := _host_length(found["host"], "")):
            yield found.start(), found.start("host") + length
            continue
        if cut := re.search(r"(?<=[a-z0-9_])\.(?=[A-Z][a-z])", name):
            name, end = name[:cut.start()], found.start("name") + cut.start()
        if _is_handle(text, found.start(), name, end):
            yield found.start(), end


def _is_handle(text: str, start: int, name: str, end: int) -> bool:
    lower = name.lower()
    if lower in NOT_HANDLES or not 2 <= len(name) <= 60 or not _LETTER.search(name) or _TIME.fullmatch(name):
        return False
    if "." in name or "-" in name:
        if lower.endswith((".com", ".org", ".net", ".edu", ".gov")):            # any address at that host
            return False
        if _SEPARATOR.split(lower, maxsplit=1)[0] in NOT_HANDLES and not lower.endswith(".bsky.social"):
            return False
    if text[start - 1:start] == "/" and not _PROFILE.search(text, max(0, start - 40), start):
        return False
    if _CODE_AFTER.match(text, end) and not text.startswith("/@", end):
        return False
    line = max(text.rfind("\n", max(0, start - 200), start) + 1, start - 200, 0)
    if _CODE_LINE.match(text, line, start):
        return False
    return not (_NEXT_CODE.match(text, end) and not text[line:start].strip())


def ips(text: str) -> Iterator[Spot]:
    """Addresses of version 4 and 6; not loopback, netmasks or the unspecified address, which are nobody's, and not version numbers."""
    for found in _V4.finditer(text) if _DOTTED.search(text) else ():
        octets = [int(o) for o in re.findall(r"\d+", found[0])]
        if octets[0] in (0, 127, 255):
            continue
        before = text[max(0, found.start() - 44):found.start()]
        words = [word.strip(".:#,()").lower() for word in before.split()[-3:]]
        if words and (words[-1] in _NUMBERED or (words[-1] in ("to", "for", "from") and words[-2:-1] and words[-2] in _NUMBERED | {"notes"})
                      or _JOINED.search(before.rstrip(" ")[-42:])):
            continue
        if octets[0] != 10 and max(octets) <= 20 and before[-1:] not in ("@", "/") and _ADDRESSED.isdisjoint(words):
            continue
        yield found.span()
    for found in _V6.finditer(text) if _COLONS.search(text) else ():
        run = found[0].rstrip(".")
        run = run[:-1] if run.endswith(":") and not run.endswith("::") else run
        if run.count(":") > 1 and _is_v6(run):
            yield found.start(), found.start() + len(run)


def _is_v6(run: str) -> bool:
    groups = [group for group in run.partition("%")[0].split(":") if group]
    if len(groups) < 2 or (len(groups) == 2 and len(groups[0]) < 4 and "." not in run) or not any(c.isdigit() for c in run):
        return False
    if len(groups) == 8 and all(len(group) == 2 for group in groups):       # a hardware address
        return False
    try:
        address = ipaddress.IPv6Address(run)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def ibans(text: str) -> Iterator[Spot]:
    """Country, length and the remainder of 97 must all be right (ISO 13616, ISO 7064)."""
    after = 0
    for found in _IBAN.finditer(text):
        length = IBAN_LENGTH.get(found[1].upper())
        if length is None or found.start() < after or (rest := _IBAN_REST[length].match(text, found.end())) is None:
            continue
        number = re.sub(r"[ .-]", "", rest[0] + found[0])
        written = found[0] + rest[0]
        if written != written.upper() and not _FOURS.fullmatch(written):      # words that follow, or a code in mixed case
            continue
        if int("".join(str(int(c, 36)) for c in number)) % 97 == 1:
            yield found.start(), rest.end()
            after = rest.end()


def cards(text: str) -> Iterator[Spot]:
    """Numbers of a network's range and length whose Luhn sum is right (ISO/IEC 7812-1, annex B)."""
    at = 0 if _TWELVE.search(text) else len(text)
    while found := _CARD.search(text, at):
        at = found.start() + 1
        for end in _card_ends(found):
            number = re.sub(r"\D", "", text[found.start():end])
            if _in_range(number) and luhn(number):
                yield found.start(), end
                at = end
                break


def _card_ends(found: re.Match[str]) -> list[int]:
    """Where it may end: with or without a last short group."""
    groups = [m.end() for m in re.finditer(r"\d+", found[0])]
    return [found.start() + end for end in ([groups[-1], groups[-2]] if len(groups) == 5 else [groups[-1]])]


def _in_range(number: str) -> bool:
    return any(first <= number[:len(first)] <= last and len(number) in lengths for first, last, lengths in _RANGES.get(number[0], ()))


def luhn(number: str) -> bool:
    """Whether the sum over the digits, every second from the right doubled, is a multiple of ten."""
    return (sum(map(int, number[::-2])) + sum(map(int, number[-2::-2].translate(_DOUBLED)))) % 10 == 0
