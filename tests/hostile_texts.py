"""Texts that try to become markup, script or a link, or to reorder and hide what stands beside them."""

from playwright.async_api import Page

HOSTILE = (
    "<script>window.hurt=1</script>",
    "\"><img src=x onerror='window.hurt=1'>",
    "javascript:window.hurt=1//",
    "</title></textarea></select><svg onload=window.hurt=1>",
    "'-(window.hurt=1)-'",
    "{{7*7}} ${7*7} &lt;b&gt; &#x3C;i&#x3E;",
    "<a href='javascript:window.hurt=1'>a</a><form action=//evil.example><style>*{display:none}</style>",
    "zero\u200bwidth\u2060joined\u200d\ufeff",
)
# Texts of several lines may have these; a name may not (app.domain.fields).
REORDERING = ("\u202eright to left\u202d", "\u2067an isolate that never ends")


def packed(most: int) -> list[str]:
    """All of them in few texts of up to `most` characters, 100 and more."""
    texts = [""]
    for text in HOSTILE:
        if texts[-1] and len(texts[-1]) + 1 + len(text) > most:
            texts.append("")
        texts[-1] = f"{texts[-1]} {text[:most]}".strip()
    return texts


_FOUND = """() => {
    const found = [...document.querySelectorAll(
        "script:not([src]), style, [onerror], [onload], main svg:not(.chart), main img[src='x'], iframe, object, " +
        "[href^='javascript:' i], [action^='//']"
    )].map((each) => each.outerHTML)
    if (window.hurt) found.push("a script has run")
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
        const { data, parentElement } = walker.currentNode
        if (!/[\\u202a-\\u202e\\u2066-\\u2069]/.test(data)) continue
        const kept = parentElement.closest("bdi, [dir=auto], textarea")
        if (!kept) found.push(`not isolated: ${data}`)
    }
    return found
}"""


async def harm(page: Page) -> list[str]:
    """What hostile texts have become on the page: nothing, where they are shown as texts."""
    found: list[str] = await page.evaluate(_FOUND)
    return found
