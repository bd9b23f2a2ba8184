"""Makes matplotlib's SVG part of a page: its colours, its font, nothing that refers to elsewhere.

Colours become CSS variables, so that one drawing serves light and dark; text loses its font and
takes the page's; what was defined once and used by reference is written out, so that no id of one
drawing can meet an id of another. A dot is a group whose id begins with `dot-`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

Element = ElementTree.Element
_XLINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"defs", "metadata", "style"}


def inline(
    drawing: str,
    colours: Mapping[str, str],
    title: str,
    description: str,
    dots: Mapping[str, tuple[str, str]],
) -> str:
    """The drawing as an element of an HTML page, drawn by matplotlib with `svg.fonttype` none.

    colours: '#rrggbb' as drawn -> what stands for it. title, description: for those who do not
    see it. dots: the id of each dot -> (its classes, its title).
    """
    root = ElementTree.fromstring(drawing)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    defined = {str(p.get("id")): p for p in root.iter("path") if p.get("id")}
    _rewrite(root, defined, colours, dots)
    for name in ("width", "height", "version", "id"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "role": "img", "aria-labelledby": "chart-title chart-says"}
    for number, (tag, text) in enumerate((("title", title), ("desc", description))):
        said = Element(tag, {"id": "chart-title" if tag == "title" else "chart-says"})
        said.text = text
        root.insert(number, said)
    ElementTree.indent(root, "")
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(
    parent: Element,
    defined: Mapping[str, Element],
    colours: Mapping[str, str],
    dots: Mapping[str, tuple[str, str]],
) -> None:
    kept = [child for child in parent if child.tag not in _DROPPED]
    parent[:] = [_written_out(c, defined) if c.tag == "use" else c for c in kept]
    for child in parent:
        name = child.attrib.pop("id", "")
        child.attrib.pop("clip-path", None)
        if "style" in child.attrib:
            child.set("style", _styled(child.get("style", ""), colours))
        if "d" in child.attrib:
            child.set("d", " ".join(child.get("d", "").split()))
        _rewrite(child, defined, colours, dots)
        if name in dots:
            child.set("class", f"dot {dots[name][0]}".strip())
            said = Element("title")
            said.text = dots[name][1]
            child.insert(0, said)


def _written_out(use: Element, defined: Mapping[str, Element]) -> Element:
    """The path that a `use` refers to, where the `use` puts it."""
    path = defined[use.get(_XLINK, "").removeprefix("#")]
    where = f"translate({use.get('x', '0')} {use.get('y', '0')})"
    style = "; ".join(filter(None, (path.get("style"), use.get("style"))))
    return Element("path", {"d": path.get("d", ""), "transform": where, "style": style})


def _styled(style: str, colours: Mapping[str, str]) -> str:
    """A style without a font, its colours replaced; of what is said twice the last holds."""
    parts = {
        key.strip(): value.strip()
        for key, colon, value in (part.partition(":") for part in style.split(";"))
        if colon and key.strip() != "font-family"
    }
    return "; ".join(
        f"{key}: {re.sub('#[0-9a-f]{6}', lambda m: colours[m[0]], value)}"
        for key, value in parts.items()
    )
