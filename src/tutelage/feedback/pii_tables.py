"""Facts that tell personal data from other text: lengths and prefixes of published numbering plans, top-level domains, words of code.

Sources: ISO 13616 registry (IBAN lengths); ITU-T E.164 list of calling codes and the national plans it links; ISO/IEC 7812 and the card
networks' published ranges; the ISO 3166 top-level domains and the generic ones seen most in mail.
"""

from __future__ import annotations

IBAN_LENGTH = {
    country: length for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST",
        26: "DZ IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
        31: "MT SC", 32: "LC", 33: "RU"}.items() for country in countries.split()
}
"""Country -> characters, the two letters and two check digits included."""

CARD_RANGES = (
    ("4", "4", (13, 16, 19)), ("51", "55", (16,)), ("2221", "2720", (16,)), ("34", "34", (15,)), ("37", "37", (15,)),
    ("6011", "6011", (16, 19)), ("644", "649", (16, 19)), ("65", "65", (16, 19)), ("300", "305", (14, 16)), ("3095", "3095", (14, 16)),
    ("36", "36", (14, 16)), ("38", "39", (14, 16)), ("3528", "3589", (16, 19)), ("62", "62", (16, 17, 18, 19)), ("81", "81", (16,)),
    ("2200", "2204", (16,)), ("50", "50", (16, 18, 19)), ("56", "59", (16, 18, 19)), ("60", "60", (16,)), ("63", "63", (16, 18, 19)),
    ("67", "67", (16, 18, 19)), ("9792", "9792", (16,)),
)
"""First and last prefix of a network's range, and the lengths its numbers have."""

NATIONAL_DIGITS = {
    "1": (10, 10), "7": (10, 10), "20": (8, 10), "27": (9, 9), "30": (10, 10), "31": (9, 9), "32": (8, 9), "33": (9, 9), "34": (9, 9),
    "36": (8, 9), "39": (6, 11), "40": (9, 9), "41": (9, 9), "43": (7, 13), "44": (9, 10), "45": (8, 8), "46": (7, 10), "47": (8, 8),
    "48": (9, 9), "49": (7, 12), "51": (8, 9), "52": (10, 11), "53": (8, 8), "54": (10, 11), "55": (10, 11), "56": (9, 9), "57": (8, 10),
    "58": (10, 10), "60": (8, 10), "61": (9, 9), "62": (8, 12), "63": (8, 10), "64": (8, 10), "65": (8, 8), "66": (8, 9), "81": (9, 10),
    "82": (8, 11), "84": (9, 10), "86": (10, 11), "90": (10, 10), "91": (10, 10), "92": (9, 10), "93": (9, 9), "94": (9, 9), "95": (7, 10),
    "98": (10, 10), "852": (8, 8), "853": (8, 8), "886": (8, 9), "971": (8, 9), "972": (8, 9), "353": (7, 9), "351": (9, 9), "420": (9, 9),
    "421": (9, 9), "380": (9, 9), "234": (8, 10), "254": (9, 9),
}
"""Calling code -> fewest and most digits after it, the trunk 0 left out. Codes of three digits that are not here: 7 to 10."""

COUNTRY_DOMAINS = frozenset(
    """ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca cc cd cf cg ch ci
    ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr
    gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu
    lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm
    pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to
    tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw""".split())
GENERIC_DOMAINS = frozenset(
    """com org net edu gov mil int info biz name pro aero coop museum jobs mobi travel tel cat asia post app dev page blog shop store
    online site website tech space live life world today news media email cloud host agency company group team work works company studio
    design photography photo photos art music video film games game fun club social network chat community center digital global
    international solutions services support systems technology software ventures capital finance financial bank money tax legal law
    lawyer doctor health care clinic dental fitness yoga academy school college university education training courses institute foundation
    charity ngo ong church family love wedding gift flowers fashion boutique jewelry shoes clothing beauty salon style hotel restaurant
    cafe bar pizza kitchen recipes wine beer coffee farm garden green eco energy solar bike car cars auto taxi house homes apartments
    properties estate rent land build builders construction engineering industries tools expert guru ninja zone xyz top win vip wiki ink
    one plus red blue pink black gold rocks cool berlin london paris nyc tokyo amsterdam hamburg koeln wien madrid barcelona moscow
    istanbul sydney melbourne vegas miami boston swiss scot wales irish bayern saarland ruhr nrw gal eus bzh quebec africa lat local lan
    internal home corp onion arpa bet ltd gmbh llc inc science press report review reviews events party dance band theater show
    direct express delivery supply supplies parts market marketing sale deals discount cheap bargains exchange trade trading""".split())
NOT_DOMAINS = frozenset(
    """png jpg jpeg gif svg webp bmp ico tiff pdf doc docx xls xlsx ppt pptx txt csv tsv json jsonl xml yaml yml toml ini cfg conf log
    html htm css scss less js jsx ts tsx mjs cjs vue rb java kt kts go rs c h cpp hpp cs swift m php pl lua sql bat cmd exe dll so tar gz
    tgz zip rar bin dat bak tmp lock min map test spec shape dtype size grad weight weights bias transpose reshape item items value values
    data mean sum dot numpy length each name names id key keys index""".split())
"""Last words after a dot that are files and attributes, not mail hosts."""
MAIL_HOSTS = frozenset(
    """gmail.com googlemail.com yahoo.com yahoo.co.uk hotmail.com outlook.com live.com msn.com icloud.com me.com mac.com aol.com proton.me
    protonmail.com gmx.de gmx.net gmx.com web.de t-online.de mail.ru yandex.ru orange.fr free.fr wanadoo.fr libero.it qq.com 163.com
    126.com fastmail.com fastmail.fm hey.com zoho.com mail.com tutanota.com""".split())

NOT_HANDLES = frozenset(
    """property staticmethod classmethod abstractmethod dataclass dataclasses lru_cache cache cached_property wraps contextmanager overload
    override final pytest app router click api jit njit numba tf torch functools asyncio unittest mock patch given settings fixture
    parametrize login_required require_http_methods validator field_validator model_validator root_validator computed_field register setter
    getter deleter typing no_grad inference_mode register_buffer task job celery bp blueprint server client route get post put delete
    before after retry timeit profile singleton decorator media import charset font-face keyframes -webkit-keyframes supports page layer
    container namespace tailwind apply include mixin extend function return if else elseif endif for foreach each while use forward at-root
    warn error debug section yield csrf extends stop show param params arg args argument returns throws throw exception raises author
    since version see link code deprecated todo example type typedef template callback private public protected readonly abstract
    constructor interface implementation end protocol selector synthesize dynamic optional required autoreleasepool try catch finally
    everyone here channel all echo off name names user username handle handles you yourname yourhandle someone somebody twitter instagram
    bean component service repository controller restcontroller requestmapping getmapping postmapping putmapping deletemapping
    requestbody pathvariable requestparam entity table column id test before beforeeach beforeall aftereach afterall inject injectable
    ngmodule input output nullable notnull nonnull suppresswarnings safevarargs functionalinterface transactional value data getter
    builder slf4j noargsconstructor allargsconstructor requiredargsconstructor composable preview state binding published observedobject
    stateobject environmentobject environment mainactor objc iboutlet ibaction discardableresult escaping available autoclosure
    springbootapplication configuration enablewebmvc autowired qualifier scope lazy primary valid size min max pattern jsonproperty
    jsonignore target self this selector main home work babel types angular vue nestjs latest next master main head""".split())
"""Words after an @ that are decorators, annotations, at-rules, tags of comments, calls to everyone, or placeholders."""
