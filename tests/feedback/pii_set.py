"""A seeded set of sentences with personal data marked in them, and of sentences that only look so.

A set drawn with `unseen=True` has other sentences around the same kinds of values than one without: the rules were written looking at the
latter only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.feedback import pii_values as values
from tests.feedback.pii_values import digits, hexes, pick

Mark = tuple[int, int, str]
KINDS = ("email", "phone", "card", "iban", "ip", "handle")


@dataclass(frozen=True)
class Example:
    """A text and where in it what stands: (start, end, kind). `about`: which sentences it was drawn from."""

    text: str
    marks: tuple[Mark, ...]
    about: str


# Words that go with one kind, and frames for any: {} is the value.
CUED = {
    "phone": ["My number is {}.", "Please call me on {} after six.", "Tel: {}", "phone {}", "You can text me at {}, thanks!",
              "Mobile: {} (evenings only)",
              "WhatsApp {}", "reach me by phone at {} or drop by", "Fax {}", "Her cell is {}.", "Ruf mich an: {}", "Handy: {}", "Tél. : {}",
              "Mi teléfono es {}.", "cellulare {}", "Meu celular é {}", "Telefon {}, bitte nur abends", "我的电话是{}，谢谢",
              "電話は{}です",
              "Мой телефон {}", "Contact phone number: {}", "Give Anna a ring on {}", "if anything breaks, phone {} at once"],
    "email": ["Write to {} please.", "My email is {}.", "E-mail: {}", "contact {} for details", "Send the draft to {}, not to me.", "<{}>",
              "Anna Schmidt <{}>", "mailto:{}", "邮箱{}，谢谢", "Meine Adresse: {}.", "cc: {}", "Forward it to {} and tell me", "({})"],
    "card": ["My card number is {}.", "Visa: {}", "charge it to {} please", "Card {} exp 04/27", "Kreditkarte: {}",
             "la tarjeta {} no funciona",
             "卡号：{}。", "pay with {}, CVV 123"],
    "iban": ["IBAN: {}", "Please wire it to {}.", "my account is {}", "Bitte auf {} überweisen", "IBAN {} BIC COBADEFFXXX",
             "mon compte {} est fermé",
             "Transfer 200 euros to {}, thanks."],
    "ip": ["My IP address is {}.", "ping {}", "ssh root@{}", "server at {} does not answer", "Host {} is down", "connect to {} please",
           "IP: {}",
           "The request came from {}.", "blocked {} yesterday", "Failed password for root from {} port 22 ssh2"],
    "handle": ["Follow me: {}", "I am {} on Instagram", "my twitter is {}", "DM {} for the link", "thanks to {}!", "({})", "photo by {}",
               "RT {}: lovely day",
               "hey {}, are you there?", "credit: {}", "{} and I are going", "Ask {}'s brother", "via {}", "insta {}"],
}
OPEN = ["{}", "{} is what I have.", "Anna Schmidt, {}, Berlin", "| Bob | {} | London |", "Best,\nBob\n{}", "- {}", "Is {} still right?",
        "name;{};Paris",
        "I wrote down {} yesterday and lost the note.", "\"{}\"", "Ich habe {} notiert.", "J'ai noté {} hier.", "* Bob: {}",
        "see below\n\n{}\n\nand reply",
        "({})", "Rewrite this politely: you can find me under {}, any time", '{{"contact": "{}", "name": "Bob"}}',
        "it says {}; is that you?"]
AROUND = ["", "", "", "The meeting is on 2024-03-12 at 14:30. ", "We have 3 cats and 12 hens. ", "Summarise this for me: ",
          "Translate into French:\n",
          "Order 48213 cost $1,234.56. ", "Version 2.4.1 is out. ", "Can you help me? ", "In 1998 I moved. ", "Here are 2 notes.\n\n"]
AFTER = ["", "", "", " It is 7 pm now.", " Thanks!", " I paid 20 euros.", "\n\nThe rest is on page 12.", " See chapter 3.",
         " That was in 2019."]

UNSEEN_CUED = {
    "phone": ["Could you ring {} before noon?", "For bookings telephone {}.", "cell phone: {}", "Our fax number: {}",
              "Sie erreichen mich unter der Nummer {}",
              "numéro de téléphone {}", "llámame al {}", "Mob. {}", "dial {} and ask for Eva", "SMS to {}", "Phone no. {}", "T: {}",
              "my new phone number's {}",
              "Bel mij op {}", "手机号码 {}", "携帯 {}", "тел. {}", "The hotline ({}) is closed", "customers should call {} instead"],
    "email": ["You'll get me at {}!", "the login {} stopped working", "Reply-To: {}", "ask support ({})", "user={}", "my mail: {};",
              "Schreib an {}",
              "ecrivez à {}", "{} is her address", "subscribe {}", "To: \"Ivan\" <{}>"],
    "card": ["the plastic says {}", "CC# {}", "Payment details: {} 09/28 321", "numéro de carte {}", "is {} a stolen card?",
             "refund to {} failed"],
    "iban": ["send rent to {} by Friday", "Konto {}", "beneficiary account {} (EUR)", "my bank gave me {}", "rekening {}",
             "conto corrente {}"],
    "ip": ["traceroute {}", "who owns {}?", "firewall drops {}", "client {} sent 400 bytes", "DNS server {} times out", "banned IP {}",
           "curl http://{}/health",
           "nmap -sV {}"],
    "handle": ["shoutout {}", "my insta handle: {}", "Tag {} in it", "{} said so", "on TikTok I'm {}", "cc {}", "big fan of {}, love it",
               "is {} a bot?",
               "from {} with love", "{}: what do you think?"],
}
UNSEEN_OPEN = ["Bob / {} / Rome", "1. {}", "Cheers\nEva\n{}", "I found {} on a scrap of paper.", "does {} look familiar?", "<td>{}</td>",
               "[{}]",
               "Name: Eva\nContact: {}\nCity: Oslo", "… {} …", "Correct my grammar: him give me {} yesterday", "{}?", "'{}'",
               "Eva\t{}\tOslo"]

VERSIONED = ["Chrome/{}", "firmware {}", "version {}", "v{}", "Upgrade to {} now, release {} is broken", "build {}", "pip install tool=={}",
             "driver {} crashes",
             "libfoo-{}.tar.gz", "kernel {}-generic", "assembly version {}", "Release notes for {}", "section {}",
             "clause {} of the contract", "see §{}",
             "Python {}", "image: repo/app:{}"]


def _version(r: Random) -> str:
    return pick(r, VERSIONED).replace("{}", ".".join(str(r.randint(0, pick(r, [9, 9, 20, 120]))) for _ in range(4)))


def _decorator(r: Random) -> str:
    return pick(r, ["@property\ndef size(self):\n    return 1", "@staticmethod\ndef f(x): ...", "@app.route('/home')\ndef home():",
                    "@pytest.mark.slow\ndef test_a(): pass",
                    "@dataclass(frozen=True)\nclass A:", "@Override\npublic void run() {", "@Autowired\nprivate Foo foo;",
                    "@media (max-width: 600px) { a { color: red } }",
                    "@import url('a.css');", "/** @param x the value\n * @return twice x */", "npm install @types/node",
                    'import x from "@angular/core";',
                    "@items.each do |item|", "@name = name", "Why does `@lru_cache` not help here?", "What does @classmethod do in Python?",
                    "use @Component({selector: 'a'})", "SELECT @total := 1;", "DECLARE @count INT = 0;", "@font-face { font-family: x }",
                    "```python\n@wraps(f)\ndef g(): pass\n```", "I need it @ 5pm", "10 apples @ $2 each", "@keyframes spin { from {} }",
                    "return@forEach",
                    "email me @ work", "@everyone please read", "the @ sign", "a @ b is a matrix product", "y = x @ w.T",
                    "@echo off\ncd ..",
                    "@interface Foo : NSObject", "@jit(nopython=True)\ndef f(x):", "@Test\nvoid adds() {",
                    "@click.option('--n')\ndef run(n):",
                    "explain the @Bean annotation in Spring", "yarn add @babel/core", "$ git log @{u}..",
                    "@app.get('/')\nasync def root():"])


def _mailish(r: Random) -> str:
    return pick(r, ["git clone git@github.com:org/repo.git", "npm i react@18.2.0", "icon@2x.png is blurry", "user@localhost",
                    "scp a b@host:/srv", "x = a@b.T",
                    "lodash@4.17.21 has a bug", "C = A@B.reshape(2, 3)", "root@server:~# ls", "logo@3x.jpg", "foo@bar",
                    "uses: actions/checkout@v4",
                    "git@gitlab.com:a/b.git", "go get golang.org/x/tools@v0.1.0", "the @ in a.b", "W@x.sum()",
                    "docker pull a/b@sha256:" + hexes(r, 64),
                    "look at the dot on the map", "meet me at noon dot", "vue@next", "dotted.name.only", "at example we test", "node@lts.",
                    "me@", "@.com",
                    "What is at dot in R?", "eslint@^8.0.0", "sum(a @ b.mean(axis=0))", "She is good at dot painting",
                    "https://medium.com/@/feed"])


def _number(r: Random) -> str:
    a = r.randint
    return pick(r, [lambda: f"Order #{digits(r, 10)} has not arrived.", lambda: f"invoice {digits(r, 3)}-{digits(r, 4)}-{digits(r, 4)}",
                    lambda: f"on {a(1, 28):02d}.{a(1, 12):02d}.{a(1950, 2030)}", lambda: f"from {a(1950, 2000)}-{a(2001, 2030)}",
                    lambda: f"{a(1990, 2030)}-{a(1, 12):02d}-{a(1, 28):02d} {a(0, 23):02d}:{a(0, 59):02d}:{a(0, 59):02d}",
                    lambda: f"ISBN {values.isbn13(r)}",
                    lambda: f"ISBN-10: {values.isbn10(r)}", lambda: values.isbn13(r),
                    lambda: f"open {a(8, 10):02d}.00-{a(16, 20)}.30 daily",
                    lambda: f"${a(1, 999)},{digits(r, 3)}.{digits(r, 2)}", lambda: f"{a(100, 999)} + {a(1000, 9999)} = {a(1000, 99999)}",
                    lambda: f"{a(100, 999)}-{a(100, 999)}={a(-99, 99)}", lambda: f"zip code {digits(r, 5)}-{digits(r, 4)}",
                    lambda: f"Austin, TX {digits(r, 5)}",
                    lambda: values.a_uuid(r), lambda: f"sha1 {hexes(r, 40)}", lambda: f"commit {hexes(r, 7)}",
                    lambda: f"population {a(1, 99)} {digits(r, 3)} {digits(r, 3)}",
                    lambda: " ".join(str(a(1, 99)) for _ in range(a(4, 9))), lambda: "pi is 3.14159265358979 and e 2.71828182845905",
                    lambda: f"at {a(-89, 89)}.{digits(r, 6)}, {a(-179, 179)}.{digits(r, 6)}",
                    lambda: f"scored {a(1, 7)}-{a(1, 7)} {a(1, 7)}-{a(1, 7)}",
                    lambda: f"tracking number 1Z{digits(r, 3)}W{digits(r, 8)}", lambda: f"case no. {digits(r, 2)}-{digits(r, 5)}",
                    lambda: f"{digits(r, 20)}",
                    lambda: f"timestamp 17{digits(r, 11)}", lambda: f"0.{digits(r, 12)}", lambda: f"{a(1, 9)}.{digits(r, 9)}e-{a(1, 20)}",
                    lambda: f"call f({digits(r, 3)}, {digits(r, 4)})", lambda: f"RFC {digits(r, 4)}",
                    lambda: f"chapters {a(1, 9)}-{a(10, 20)}, pages {a(100, 200)}-{a(201, 400)}",
                    lambda: f"serial number {digits(r, 4)}-{digits(r, 4)}-{digits(r, 3)}",
                    lambda: f"{a(1, 9)},{digits(r, 3)},{digits(r, 3)} people",
                    lambda: f"https://example.org/item/{digits(r, 10)}?ref={digits(r, 6)}",
                    lambda: f"1920x1080 or {a(1000, 9999)}x{a(1000, 9999)}",
                    lambda: f"solve {a(10, 99)}x + {a(100, 999)} = {a(1000, 9999)}", lambda: f"ticket {digits(r, 6)}/{a(2000, 2030)}",
                    lambda: f"{a(1, 12)}/{a(1, 28)}/{a(1950, 2030)}",
                    lambda: f"the years {a(1800, 1900)}, {a(1900, 1950)} and {a(1950, 2030)}",
                    lambda: f"part no. {digits(r, 3)}-{digits(r, 3)}-{digits(r, 3)}",
                    lambda: f"account {digits(r, 8)}", lambda: "binary 0101 1100 0011 1010",
                    lambda: f"{a(1, 12):02d}:{a(0, 59):02d}-{a(1, 12):02d}:{a(0, 59):02d}",
                    lambda: f"sort [{', '.join(str(a(1, 9999)) for _ in range(6))}]", lambda: f"{a(100, 999)} {a(100, 999)} km",
                    lambda: f"flight LH{digits(r, 4)} at {a(10, 23)}.{a(10, 59)}",
                    ])()


def _cardish(r: Random) -> str:
    return pick(r, [lambda: values.card(r, valid=False), lambda: f"order {values.card(r, valid=False)}", lambda: f"IMEI {values.imei(r)}",
                    lambda: values.isbn13(r),
                    lambda: f"17{digits(r, 11)}", lambda: digits(r, 20), lambda: f"tracking 94{digits(r, 20)}", lambda: " ".join(digits(r,
                        4) for _ in range(6)),
                    lambda: f"4,{digits(r, 3)},{digits(r, 3)},{digits(r, 3)},{digits(r, 3)},{digits(r, 3)}", lambda: values.a_uuid(r),
                    lambda: f"0.{digits(r, 16)}",
                    lambda: f"ICCID 89{digits(r, 17)}", lambda: hexes(r, 32), lambda: f"{digits(r, 16)}px", lambda: f"3.{digits(r, 15)}",
                    _number_of(r)])()


def _number_of(r: Random) -> Callable[[], str]:
    return lambda: _number(r)


def _ibanish(r: Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    return pick(r, [lambda: values.iban(r, valid=False), lambda: f"IBAN {values.iban(r, valid=False)}", lambda: f"VAT DE{digits(r, 9)}",
                    lambda: f"RR{digits(r, 9)}DE",
                    lambda: "-".join("".join(r.choices(letters + "23456789", k=5)) for _ in range(5)), lambda: "BIC COBADEFFXXX",
                    lambda: f"GB{digits(r, 2)} is full",
                    lambda: f"flight BA{digits(r, 4)}", lambda: values.a_uuid(r).upper(),
                    lambda: f"part AB{digits(r, 2)} {digits(r, 4)} {digits(r, 4)}",
                    lambda: hexes(r, 40).upper(), lambda: f"SE{digits(r, 10)}01", lambda: f"W0L0{digits(r, 13)}", _number_of(r)])()


def _ipish(r: Random) -> str:
    a = r.randint
    return pick(r, [lambda: _version(r), lambda: _version(r), lambda: _version(r), lambda: f"{a(0, 23):02d}:{a(0, 59):02d}:{a(0, 59):02d}",
                    lambda: ":".join(hexes(r, 2) for _ in range(6)),
                    lambda: "std::vector<int> a;", lambda: "x[1::2] and y[::3]", lambda: f"OID 1.3.6.1.4.1.{a(1, 99999)}",
                    lambda: f"{a(256, 999)}.{a(0, 255)}.{a(0, 255)}.{a(0, 255)}",
                    lambda: ":".join(hexes(r, 2).upper() for _ in range(20)), lambda: "localhost 127.0.0.1:8080",
                    lambda: f"{a(1, 20)}.{a(1, 20)}.{a(1, 20)} is out",
                    lambda: "Foo::Bar::baz()", lambda: "netmask 255.255.255.0", lambda: f"{a(1, 28)}.{a(1, 12)}.{a(1950, 2030)}",
                    lambda: "bind 0.0.0.0", lambda: "ratio 3:2:1:4",
                    lambda: f"Genesis {a(1, 50)}:{a(1, 30)}-{a(31, 40)}", lambda: "a::b::c",
                    lambda: f"{a(1, 9)}.{a(10, 99)}.{a(10, 999)}.{a(256, 999)}", _number_of(r)])()


NEGATIVE: dict[str, Callable[[Random], str]] = {"email": _mailish, "phone": _number, "card": _cardish, "iban": _ibanish, "ip": _ipish,
                                                "handle": _decorator}
VALUE: dict[str, Callable[[Random], str]] = {"email": values.email, "card": values.card, "iban": values.iban, "ip": values.ip,
                                             "handle": values.handle}
NEGATIVE_FRAMES = ["{}", "{}", "What is this: {}", "Explain\n{}", "{}\nWhy?", "Is {} fine?", "note: {}", "I saw {} today.", "{}, I think"]


def positive(kind: str, rng: Random, *, unseen: bool = False) -> Example:
    """One value of a kind in a sentence.

    A phone number that only the words around it tell gets such words four times of five; else its kind is `phone?`.
    """
    cued, frames = (UNSEEN_CUED, UNSEEN_OPEN) if unseen else (CUED, OPEN)
    value, label = values.phone(rng) if kind == "phone" else (VALUE[kind](rng), kind)
    with_words = rng.random() < (0.8 if label == "phone?" else 0.5)
    if label == "phone?" and with_words:
        label = "phone"
    frame = pick(rng, cued[kind] if with_words else frames)
    before, _, after = frame.replace("{{", "\0").replace("}}", "\1").partition("{}")
    before, after = (part.replace("\0", "{").replace("\1", "}") for part in (before, after))
    before, after = pick(rng, AROUND) + before, after + pick(rng, AFTER)
    return Example(before + value + after, ((len(before), len(before) + len(value), label),), frame)


def negative(kind: str, rng: Random) -> Example:
    frame = pick(rng, NEGATIVE_FRAMES)
    text = NEGATIVE[kind](rng)
    return Example(pick(rng, AROUND) + frame.replace("{}", text) + pick(rng, AFTER), (), f"not {kind}")


def draw(seed: int, *, per_kind: int = 2000, unseen: bool = False) -> list[Example]:
    """So many positives and as many negatives of each kind."""
    rng = Random(seed)
    return [one for kind in KINDS for _ in range(per_kind) for one in (positive(kind, rng, unseen=unseen), negative(kind, rng))]


Found = Sequence[tuple[int, int, str]]


@dataclass
class Tally:
    """Per kind: values there were, values found whole and no further, spans found that are none."""

    there: Counter[str]
    found: Counter[str]
    wrong: Counter[str]
    missed: list[Example]
    extra: list[tuple[Example, Mark]]


def score(examples: Sequence[Example], find: Callable[[str], Found]) -> Tally:
    """A value counts as found when a span of its kind begins and ends where it does, invisible characters at its ends aside."""
    tally = Tally(Counter(), Counter(), Counter(), [], [])
    for example in examples:
        left = {_trimmed(example.text, mark): mark for mark in example.marks}
        for start, end, kind in find(example.text):
            for key in ((start, end, kind), (start, end, kind + "?")):
                if (mark := left.pop(_trimmed(example.text, key), None)) is not None:
                    tally.found[mark[2]] += 1
                    break
            else:
                if kind in KINDS:
                    tally.wrong[kind] += 1
                    tally.extra.append((example, (start, end, kind)))
        tally.there.update(mark[2] for mark in example.marks)
        if left:
            tally.missed.append(example)
    return tally


def _trimmed(text: str, mark: Mark) -> Mark:
    start, end, kind = mark
    while start < end and text[start] in "\u202a\u200f\u200e":
        start += 1
    while start < end and text[end - 1] in "\u202a\u200f\u200e":
        end -= 1
    return start, end, kind
