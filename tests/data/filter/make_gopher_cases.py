"""Texts for the Gopher filters, with what datatrove 0.10.1 makes of them where a word is what stands between white space.

usage: make_gopher_cases.py > gopher.jsonl        (needs datatrove==0.10.1 and numpy)
"""
import json
import random

import datatrove.pipeline.filters.gopher_quality_filter as quality
import datatrove.pipeline.filters.gopher_repetition_filter as repetition
from datatrove.data import Document
from datatrove.utils.text import PUNCTUATION_SET

repetition.split_into_words = quality.split_into_words = lambda text, language: text.split()
WORDS = """the river and a bridge to be of with stone that have under morning light people walk slowly over water where boats
wait for evening bread smells from small kitchens children count gulls nobody hurries past old market walls which hold
warmth until night comes again with rain upon quiet roofs""".split()
REPETITION = repetition.GopherRepetitionFilter()
QUALITY = quality.GopherQualityFilter()


def prose(seed, words, line=12):
    r = random.Random(seed)
    out = [r.choice(WORDS) for _ in range(words)]
    return "\n".join(" ".join(out[i:i + line]) + "." for i in range(0, words, line))


def numbered(words):
    return " ".join(f"word{i}" for i in range(words))


LINES = "One line that comes again and again, more than once.\n"
TEXTS = {
    "prose": prose(1, 240),
    "short": prose(2, 20),
    "long words": " ".join(f"extraordinarily{i}" for i in range(80)),
    "short words": "a b c of to be " * 20,
    "hashes": prose(3, 100) + " #" * 30,
    "ellipses": prose(4, 100) + " \u2026 ..." * 10,
    "bullets": "\n".join(f"\u2022 that point about {i} with people" if i % 2 else f"  - have bread with water{i}" for i in range(40)),
    "ellipsis ends": "\n".join(f"that line{i} about people with evening bread goes" + ("..." if i % 2 else " \u2026 ") for i in range(20)),
    "numbers": prose(5, 60) + " 1234 345678 5.6789 7890" * 30,
    "no stop words": numbered(100),
    "other scripts": "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u4f60\u597d \u4e16\u754c \u0391\u03b8\u03ae\u03bd\u03b1 \u0663\u0664 \u00bd \u2167 \u00aa \u02b0 \U0001d400\u3002 \uff1f " * 10,
    "punctuation": "the , . ! \u201c of \u00bb \u300c to \u2026 " * 20,
    "line ends": "the of\r\nto be\u2028and that\x0bhave with\x85the last\x1eline \u00a0of\u3000all\u2009words\x1f" * 3,
    "lines": prose(6, 60) + "\n" + LINES * 8,
    "long line": "A" * 300 + "\n" + numbered(60).replace(" ", "\n") + "\n" + "A" * 300,
    "paragraphs": "\n\n".join([LINES.strip()] * 6 + [prose(7, 24)]),
    "long paragraph": "\n\n".join(["B" * 300, numbered(30), "x", "y", "z", "B" * 300]),
    "blank edges": "\n\n\n \u00a0First.\n\n\n\nSecond.\n\nFirst.\n\n\n\t\n",
    "top 2": " ".join(f"word{i} same pair" for i in range(60)),
    "top 3": " ".join(f"w{i} {i}x {i}y one same triple" for i in range(60)),
    "top 4": " ".join(f"w{i} o{i} t{i} x{i} y{i} an even same quadruple" for i in range(40)),
    "runs of 5": " ".join(f"some{i} words{i} that differ{i} each{i} time{i} five words in a row" for i in range(20)),
    "runs of 8": numbered(60) + " " + " ".join(f"word{i}" for i in range(3, 23)) + " " + prose(8, 30),
    "joined alike": "ab cd e f g h a bcd e f g h " * 4 + numbered(50),
    "one word": "word",
    "two words": "two words",
    "ten words": numbered(10),
    "equal tops": "b c a a b c x y " + numbered(40),
    "all alike": "na " * 60,
}
NAMES = {"dup_para_frac": "duplicate_paragraphs", "dup_para_char_frac": "duplicate_paragraph_characters",
         "dup_line_frac": "duplicate_lines", "dup_line_char_frac": "duplicate_line_characters",
         "gopher_short_doc": "minimum_words", "gopher_long_doc": "maximum_words",
         "gopher_below_avg_threshold": "minimum_mean_word", "gopher_above_avg_threshold": "maximum_mean_word",
         "gopher_too_many_hashes": "maximum_hashes", "gopher_too_many_ellipsis": "maximum_ellipses",
         "gopher_too_many_bullets": "maximum_bullet_lines", "gopher_too_many_end_ellipsis": "maximum_ellipsis_lines",
         "gopher_below_alpha_threshold": "minimum_alphabetic", "gopher_enough_stop_words": "minimum_stop_words",
         **{f"top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
         **{f"duplicated_{n}_n_grams": f"duplicate_{n}_grams" for n in range(5, 11)}}


def repetition_values(text, words):
    paragraphs, lines = REPETITION.paragraph_exp.split(text.strip()), REPETITION._line_splitter.split(text)
    n_grams = [repetition.get_n_grams(words, n) for n in (2, 3, 4)]
    return {"characters": len(text), "paragraphs": [len(paragraphs), *repetition.find_duplicates(paragraphs)],
            "lines": [len(lines), *repetition.find_duplicates(lines)],
            "top": [repetition.find_top_duplicate(g) if g else None for g in n_grams],
            "duplicate": [repetition.find_all_duplicate(words, n) for n in range(5, 11)]}


def quality_values(text, words):
    plain = [w for w in words if any(c not in PUNCTUATION_SET for c in w)]
    lines = text.splitlines()
    return {"words": len(words), "plain_words": len(plain), "plain_characters": sum(map(len, plain)),
            "hashes": text.count("#"), "ellipses": text.count("...") + text.count("\u2026"), "lines": len(lines),
            "bullets": sum(s.lstrip().startswith(("\u2022", "-")) for s in lines),
            "ellipsis_ends": sum(s.rstrip().endswith(("...", "\u2026")) for s in lines),
            "alphabetic": sum(any(c.isalpha() for c in w) for w in words),
            "stop_words": len(set(quality.STOP_WORDS) & set(words))}


def verdict(filter, text):
    kept = filter.filter(Document(text, "x"))
    return "" if kept is True else NAMES[kept[1]]


for name, text in TEXTS.items():
    words = text.split()
    print(json.dumps({"name": name, "text": text,
                      "gopher_repetition": {"reason": verdict(REPETITION, text), "values": repetition_values(text, words)},
                      "gopher_quality": {"reason": verdict(QUALITY, text), "values": quality_values(text, words)}}))
