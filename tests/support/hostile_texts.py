"""Texts that try to become markup, and a reader that tells whether one did."""

import html.parser

from hypothesis import strategies as st

HOSTILE = [
    "{{< include /etc/passwd >}}",
    "```{=html}\n<script>alert(1)</script>\n```",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[link](javascript:alert(1)) ![x](y) [^1] @cite #tag",
    "a | b || c\n---\n::: {.x}\n| d",
    "$x^2$ \\alert{} ~~s~~ ^sup^ ~sub~ **b** _i_ `c`",
    "<!-- --> <? ?> &amp; &#60;b&#62;",
    "1. item\n- item\n> quote\n# head\n    code",
    ": def\n{#id .class}\n---\ntitle: x\n...",
    "\u202egnp.exe\u2066 \u0000 \ufeff\u2028",
    "http://example.org www.example.org a@example.org :smile:",
    "...  --- -- 'q' \"q\" \\ \\\\ \\n",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.text(alphabet="{}<>`~!@#$%^&*()[]|\\:;'\"-_=+./? a1\n", max_size=30),
)


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data
