"""Personal data drawn from the specifications of each kind, and things that look like it. Nothing here knows how they are found.

Sources: ITU E.164 and the national numbering plans for phones; ISO 13616 (the SWIFT registry) for IBANs; ISO/IEC 7812 and the networks'
published ranges for cards; RFC 5321 and 5322 for mail; RFC 4291 and 5952 for IPv6. Every value is made up.
"""

from __future__ import annotations

import ipaddress
import uuid
from random import Random

# National formats and international ones by country. d any digit, N 2 to 9, h 6 to 9, l 2 to 5, m 3 to 9, e 5 to 8; other characters stand
# for themselves. ? before a format: without a trunk prefix, a bracket or dashes, which only words around it tell from any other number.
PHONES = {
    "US": ["(Ndd) Ndd-dddd", "(Ndd)Ndd-dddd", "Ndd-Ndd-dddd", "Ndd.Ndd.dddd", "Ndd Ndd dddd", "1-800-Ndd-dddd", "?NddNdddddd", "?Ndd-dddd",
           "+1 Ndd Ndd dddd", "+1 (Ndd) Ndd-dddd", "+1-Ndd-Ndd-dddd", "+1NddNdddddd", "+1.Ndd.Ndd.dddd", "001 Ndd Ndd dddd"],
    "GB": ["07ddd dddddd", "07ddd ddd ddd", "020 dddd dddd", "0161 ddd dddd", "01ddd dddddd", "(020) dddd dddd", "(01ddd) dddddd",
           "07ddddddddd", "+44 7ddd dddddd", "+44 (0)20 dddd dddd", "+44 20 dddd dddd", "+447ddddddddd", "0044 7ddd dddddd"],
    "DE": ["030 ddddddd", "030/dddddd", "0171 ddddddd", "0151-dddddddd", "(089) ddddddd", "0711 / dddd-ddd", "030 ddddd-dd", "0171ddddddd",
           "+49 30 dddddddd", "+49 (0)89 ddd dddd", "+49 171 ddddddd", "+49171ddddddd", "0049 30 ddddddd", "+49-151-dddddddd"],
    "FR": ["06 dd dd dd dd", "01 dd dd dd dd", "06.dd.dd.dd.dd", "07-dd-dd-dd-dd", "06dddddddd", "+33 6 dd dd dd dd",
           "+33 (0)1 dd dd dd dd",
           "+336dddddddd", "0033 6 dd dd dd dd"],
    "ES": ["?6dd ddd ddd", "?6dd dd dd dd", "?9d ddd dd dd", "?6dddddddd", "+34 6dd ddd ddd", "+34 9d ddd dd dd", "+346dddddddd"],
    "IT": ["?3dd ddd dddd", "?3dd dddddd", "06 dddd dddd", "02 ddddddd", "+39 3dd ddd dddd", "+39 06 dddd dddd", "+39 02 dddddddd"],
    "NL": ["06-dddddddd", "06 dd dd dd dd", "020-ddddddd", "020 ddd dddd", "+31 6 dddddddd", "+31 (0)6 dddddddd", "+31 20 ddd dddd"],
    "AU": ["04dd ddd ddd", "(02) dddd dddd", "?1300 ddd ddd", "+61 4dd ddd ddd", "+61 2 dddd dddd", "04dddddddd"],
    "IN": ["?hdddd ddddd", "022-2ddddddd", "080 2ddd dddd", "?hddddddddd", "+91 hdddd ddddd", "+91-hddddddddd", "+91hddddddddd"],
    "JP": ["090-dddd-dddd", "03-dddd-dddd", "06-dddd-dddd", "045-ddd-dddd", "+81 90 dddd dddd", "+81-3-dddd-dddd"],
    "CN": ["?1md dddd dddd", "?1mddddddddd", "010-dddddddd", "021 dddd dddd", "+86 1md dddd dddd", "+86 10 dddd dddd", "+861mddddddddd"],
    "BR": ["(11) 9dddd-dddd", "(21) lddd-dddd", "?11 9dddd-dddd", "+55 11 9dddd-dddd", "+55 (21) lddd-dddd"],
    "MX": ["?55 dddd dddd", "(33) dddd dddd", "+52 55 dddd dddd", "+52 1 55 dddd dddd"],
    "RU": ["8 (9dd) ddd-dd-dd", "8-9dd-ddd-dd-dd", "+7 9dd ddd-dd-dd", "+7 (495) ddd-dd-dd", "+79ddddddddd", "8 800 ddd-dd-dd"],
    "ZA": ["082 ddd dddd", "(011) ddd dddd", "+27 82 ddd dddd"],
    "PL": ["?edd ddd ddd", "?22 ddd dd dd", "+48 edd ddd ddd", "+48 22 ddd dd dd"],
    "SE": ["070-ddd dd dd", "08-ddd ddd dd", "+46 70 ddd dd dd", "+46 8 ddd ddd dd"],
    "DK": ["?dd dd dd dd", "+45 dd dd dd dd", "+45dddddddd"],
    "NO": ["?9dd dd ddd", "+47 9dd dd ddd"],
    "CH": ["079 ddd dd dd", "044 ddd dd dd", "+41 79 ddd dd dd", "+41 (0)44 ddd dd dd"],
    "TR": ["0 5dd ddd dd dd", "(0212) ddd dd dd", "+90 5dd ddd dd dd"],
    "KR": ["010-dddd-dddd", "02-ddd-dddd", "+82 10-dddd-dddd", "+82-2-dddd-dddd"],
    "SG": ["?8ddd dddd", "+65 9ddd dddd"],
    "NZ": ["021 ddd dddd", "(09) ddd dddd", "+64 21 ddd dddd"],
    "IE": ["087 ddd dddd", "01 ddd dddd", "+353 87 ddd dddd", "+353 1 ddd dddd"],
    "PT": ["?9dd ddd ddd", "+351 9dd ddd ddd"],
    "BE": ["04dd dd dd dd", "02 ddd dd dd", "+32 4dd dd dd dd"],
    "AT": ["0664 ddddddd", "01 ddd dd dd", "+43 664 ddddddd", "+43 1 ddd dd dd"],
    "GR": ["?69d ddd dddd", "+30 69d ddd dddd"],
    "IL": ["054-ddd-dddd", "03-ddd-dddd", "+972 54-ddd-dddd"],
    "AE": ["050 ddd dddd", "+971 50 ddd dddd"],
    "NG": ["0803 ddd dddd", "+234 803 ddd dddd"],
    "KE": ["07dd dddddd", "+254 7dd dddddd"],
    "AR": ["011 dddd-dddd", "011 15-dddd-dddd", "+54 9 11 dddd-dddd"],
    "CL": ["?9 dddd dddd", "+56 9 dddd dddd"],
    "CO": ["?3dd ddd dddd", "+57 3dd ddd dddd"],
    "UA": ["067 ddd dd dd", "+380 67 ddd dd dd"],
    "CZ": ["?7dd ddd ddd", "+420 7dd ddd ddd"],
    "HK": ["?9ddd dddd", "+852 9ddd dddd"],
    "ID": ["0812-dddd-dddd", "+62 812-dddd-dddd"],
}
_DIGITS = {"d": "0123456789", "N": "23456789", "h": "6789", "l": "2345", "m": "3456789", "e": "5678"}
EXTENSIONS = [" ext. {}", " ext {}", " x{}", " extension {}", ", ext. {}", " #{}"]

IBANS = {
    "AD": "8n12c", "AE": "19n", "AL": "8n16c", "AT": "16n", "AZ": "4a20c", "BA": "16n", "BE": "12n", "BG": "4a6n8c", "BR": "23n1a1c",
    "CH": "5n12c", "CR": "18n", "CY": "8n16c", "CZ": "20n", "DE": "18n", "DK": "14n", "DO": "4c20n", "EE": "16n", "ES": "20n", "FI": "14n",
    "FR": "10n11c2n", "GB": "4a14n", "GE": "2a16n", "GI": "4a15c", "GR": "7n16c", "HR": "17n", "HU": "24n", "IE": "4a14n", "IL": "19n",
    "IS": "22n", "IT": "1a10n12c", "KW": "4a22c", "KZ": "3n13c", "LB": "4n20c", "LI": "5n12c", "LT": "16n", "LU": "3n13c", "LV": "4a13c",
    "MC": "10n11c2n", "MD": "20c", "ME": "18n", "MK": "3n10c2n", "MT": "4a5n18c", "NL": "4a10n", "NO": "11n", "PK": "4a16c", "PL": "24n",
    "PT": "21n", "QA": "4a21c", "RO": "4a16c", "RS": "18n", "SA": "2n18c", "SE": "20n", "SI": "15n", "SK": "20n", "SM": "1a10n12c",
    "TN": "20n", "TR": "6n16c", "UA": "6n19c", "VA": "18n", "XK": "16n",
}
CARDS = [("visa", ["4"], 16), ("visa", ["4"], 16), ("mastercard", ["51", "52", "53", "54", "55", "2221", "2345", "2720"], 16),
         ("amex", ["34", "37"], 15), ("discover", ["6011", "644", "649", "65"], 16), ("diners", ["36", "38", "300", "305"], 14),
         ("jcb", ["3528", "3566", "3589"], 16), ("unionpay", ["62"], 16), ("unionpay", ["6221"], 19), ("mir", ["2200", "2204"], 16),
         ("maestro", ["5018", "6304", "6759"], 16), ("visa", ["4"], 13)]
FIRST = ("anna ben carla david elena farid grace hiro ines jonas kofi lucia marek nadia omar priya quentin rosa sven tariq ursula viktor "
         "wanda xavier yuki zofia maría jörg françois").split()
LAST = ("smith o'neil garcia muller tanaka ivanova nowak silva kim chen rossi dubois jansen larsson okafor haddad cohen novak mcdonald "
        "fernandez wright").split()
HOSTS = ("gmail.com yahoo.co.uk outlook.com proton.me icloud.com gmx.de web.de mail.ru orange.fr libero.it uni-bonn.de cs.ox.ac.uk "
         "example.org startup.io agency.photography cafe.berlin nhs.net state.gov.au kyoto-u.ac.jp company.com.br müller-bau.de "
         "xn--mller-kva.de a.museum mail.dept.corp.example.com qq.com 163.com hey.com shop.online fastmail.fm").split()


def pick(rng: Random, items):  # type: ignore[no-untyped-def]
    return items[rng.randrange(len(items))]


def digits(rng: Random, n: int) -> str:
    return "".join(rng.choices("0123456789", k=n))


def phone(rng: Random) -> tuple[str, str]:
    """(number, "phone" or, where only words around it can tell, "phone?")."""
    form = pick(rng, PHONES[pick(rng, sorted(PHONES))])
    bare, form = form.startswith("?"), form.removeprefix("?")
    while True:
        number = "".join(pick(rng, _DIGITS[c]) if c in _DIGITS else c for c in form)
        parts = [p for p in "".join(c if c.isdigit() else " " for c in number).split()]
        if "N" not in form or not any(p[1:3] == "11" or (len(p) == 3 and p[1] == "9") for p in parts):       # N11 and N9X are no area codes
            break
    if not bare and rng.random() < 0.08 and not form.endswith("-dd"):
        number += pick(rng, EXTENSIONS).format(digits(rng, rng.randint(2, 4)))
    if rng.random() < 0.06:
        number = disguised(rng, number)
    return number, "phone?" if bare else "phone"


def disguised(rng: Random, text: str) -> str:
    """Written with other code points that look or print the same."""
    how = rng.randrange(4)
    if how == 0:
        return "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in text)            # fullwidth digits
    if how == 1:
        at = rng.randrange(1, len(text))
        return text[:at] + pick(rng, ["\u200b", "\u200d", "\u2060", "\ufeff", "\u200e", "\u00ad"]) + text[at:]
    if how == 2:
        return text.replace(" ", pick(rng, ["\u00a0", "\u202f", "\u2009"])).replace("-", pick(rng, ["\u2011", "\u2010", "\u2013"]))
    return "\u202a" + text[:-1] + "\u200f" + text[-1] if len(text) > 1 else text


def luhn_digit(body: str) -> str:
    """ISO/IEC 7812-1, annex B: the digit that makes the sum a multiple of ten."""
    total = sum(sum(divmod(2 * int(c), 10)) if i % 2 == 0 else int(c) for i, c in enumerate(reversed(body)))
    return str(-total % 10)


def card(rng: Random, *, valid: bool = True) -> str:
    network, prefixes, length = pick(rng, CARDS)
    prefix = pick(rng, prefixes)
    body = prefix + digits(rng, length - 1 - len(prefix))
    check = luhn_digit(body)
    number = body + (check if valid else str((int(check) + rng.randint(1, 9)) % 10))
    groups = {15: [4, 6, 5], 14: [4, 6, 4], 19: [4, 4, 4, 4, 3], 13: [4, 3, 3, 3]}.get(length, [4, 4, 4, 4])
    cut = [number[sum(groups[:i]):sum(groups[:i + 1])] for i in range(len(groups))]
    written = pick(rng, [number, " ".join(cut), " ".join(cut), " ".join(cut), "-".join(cut), ".".join(cut), "  ".join(cut),
                         " ".join(number)])
    return disguised(rng, written) if valid and rng.random() < 0.06 else written


def iban(rng: Random, *, valid: bool = True) -> str:
    """Country, two check digits (98 - value mod 97, ISO 7064), and a national part of the registry's form."""
    country = pick(rng, sorted(IBANS))
    rest, count = "", ""
    for c in IBANS[country]:
        if c.isdigit():
            count += c
        else:
            letters = {"n": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "c": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}[c]
            rest, count = rest + "".join(rng.choices(letters, k=int(count))), ""
    check = 98 - int("".join(str(int(c, 36)) for c in rest + country + "00")) % 97
    if not valid:
        check = (check - 2 + rng.randint(1, 96)) % 97 + 2
    code = f"{country}{check:02d}{rest}"
    grouped = " ".join(code[i:i + 4] for i in range(0, len(code), 4))
    written = pick(rng, [code, grouped, grouped, grouped, grouped.replace(" ", "-"), code.lower(), grouped.lower()])
    return disguised(rng, written) if valid and rng.random() < 0.06 else written


def local_part(rng: Random) -> str:
    first, last = pick(rng, FIRST), pick(rng, LAST)
    return pick(rng, [f"{first}.{last}", f"{first}{last}", f"{first[0]}{last}", f"{first}_{last}", f"{first}-{last}",
                      f"{first}{digits(rng, 2)}",
                      f"{first}.{last}+{pick(rng, ['news', 'shop', 'a1'])}", f"{first.title()}.{last.title()}",
                      f"{last}{first[0]}{digits(rng, 4)}",
                      f"{digits(rng, 9)}", f"{first.upper()}", f"x_{first}_x", f"{first}.{digits(rng, 1)}.{last}"])


def email(rng: Random) -> str:
    local, host = local_part(rng), pick(rng, HOSTS)
    how = rng.random()
    if how < 0.75:
        return f"{local}@{host}"
    if how < 0.80:
        return f"{local}@{host}".upper()
    if how < 0.85:
        return disguised(rng, f"{local}@{host}").replace("@", pick(rng, ["@", "\uff20", "\ufe6b"]))
    spelled = host.replace(".", pick(rng, [" dot ", " [dot] ", "(dot)", " (.) ", ".", "."]))
    if " dot " in spelled and rng.random() < 0.5:
        return f"{local} at {spelled}"
    return f"{local}{pick(rng, [' [at] ', ' (at) ', '[at]', ' @ ', ' {at} ', ' AT ' if ' dot ' in spelled else '(at)'])}{spelled}"


def ip(rng: Random) -> str:
    if rng.random() < 0.6:
        block = pick(rng, ["192.168.{}.{}", "10.{}.{}.{}", "172.16.{}.{}", "{}.{}.{}.{}", "{}.{}.{}.{}", "{}.{}.{}.{}"])
        octets = [str(rng.randint(11, 223))] + [str(rng.randint(0, 255)) for _ in range(3)]
        address = block.format(*octets) if block.startswith("{") else block.format(*octets[1:])
        if address.startswith("127."):
            address = "8" + address[3:]
        how = rng.random()
        return address.replace(".", "[.]") if how < 0.03 else disguised(rng, address) if how < 0.08 else address
    groups = [f"{rng.choice([0x2001, 0x2a02, 0x2600, 0xfd12, 0xfe80]):x}"] + [f"{rng.randrange(65536):x}" for _ in range(7)]
    if rng.random() < 0.5:
        start = rng.randint(1, 5)
        groups[start:rng.randint(start + 1, 7)] = ["0"] * (rng.randint(start + 1, 7) - start)
        groups = (groups + ["1"] * 8)[:8]
    address = ipaddress.IPv6Address(":".join(groups))
    text = pick(rng, [address.compressed, address.compressed, address.exploded, address.compressed.upper()])
    if text.lower().startswith("fe80") and rng.random() < 0.5:
        text += pick(rng, ["%eth0", "%en1", "%3"])
    if rng.random() < 0.05:
        text = f"::ffff:{rng.randint(11, 223)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    return text


def handle(rng: Random) -> str:
    first, last = pick(rng, FIRST[:-3]), pick(rng, LAST).replace("'", "")
    name = pick(rng, [f"{first}{last}", f"{first}_{last}", f"{first}{digits(rng, 2)}", f"{first.title()}{last.title()}", f"_{first}_",
                      f"the_{last}",
                      f"{first}.{last}", f"real{first.title()}", f"{first[0]}{last}{digits(rng, 3)}", f"x{first}x",
                      f"{last}_{digits(rng, 4)}"])
    how = rng.random()
    if how < 0.07:
        return f"@{name.replace('.', '_')}@{pick(rng, ['mastodon.social', 'fosstodon.org', 'hachyderm.io', 'chaos.social'])}"
    if how < 0.12:
        return f"@{name.replace('_', '-').replace('.', '-').strip('-').lower()}.bsky.social"
    return ("\uff20" if how > 0.98 else "@") + name


def isbn13(rng: Random) -> str:
    body = pick(rng, ["978", "979"]) + digits(rng, 9)
    check = str(-sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(body)) % 10)
    return pick(rng, [body + check, f"{body[:3]}-{body[3]}-{body[4:6]}-{body[6:]}-{check}",
                      f"{body[:3]} {body[3]} {body[4:8]} {body[8:]} {check}"])


def isbn10(rng: Random) -> str:
    body = digits(rng, 9)
    check = sum((i + 1) * int(c) for i, c in enumerate(body)) % 11
    last = "X" if check == 10 else str(check)
    return pick(rng, [body + last, f"{body[0]}-{body[1:4]}-{body[4:]}-{last}"])


def imei(rng: Random) -> str:
    body = pick(rng, ["35", "86", "01"]) + digits(rng, 12)
    return body + luhn_digit(body)


def a_uuid(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def hexes(rng: Random, n: int) -> str:
    return "".join(rng.choices("0123456789abcdef", k=n))
