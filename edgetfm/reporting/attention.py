"""A page that shows what a model attends to: one file, no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from edgetfm.errors import InputError

MOST = 512
"""Tokens of a side of a map: more are finer than a screen, and the page grows with their square."""


def attention_page(title: str, labels: Sequence[str], maps: Sequence[tuple[str, Any]]) -> str:
    """The page of maps (name, weights [heads, tokens, tokens]), a label for each token.

    Weights are kept in 255 steps. Raises InputError for more than MOST tokens.
    """
    if len(labels) > MOST:
        raise InputError(
            f"a map of {len(labels)} tokens cannot be read: give an input of at most {MOST}"
        )
    layers = [
        {
            "name": name,
            "heads": len(weights),
            "steps": base64.b64encode(np.rint(weights * 255).astype(np.uint8).tobytes()).decode(),
        }
        for name, weights in maps
    ]
    data = json.dumps({"labels": list(labels), "layers": layers}).replace("<", "\\u003c")
    return _PAGE.replace("TITLE", escape(title)).replace("DATA", data)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>TITLE</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
  canvas { image-rendering: pixelated; border: 1px solid #ccc; cursor: crosshair }
  #text span { padding: 0 1px; border-radius: 3px; cursor: pointer; white-space: pre-wrap }
  #text { margin: 1rem 0; max-width: 60rem }
  #said { min-height: 1.5em; color: #555 }
</style>
<h1>TITLE</h1>
<p>
  <label>Layer <select id="layer"></select></label>
  <label>Head <select id="head"></select></label>
</p>
<p>A row is a token that looks, a column one that is looked at; darker is more. Point at a token to
see where it looks.</p>
<div id="text"></div>
<p id="said"></p>
<canvas id="map"></canvas>
<script type="application/json" id="data">DATA</script>
<script>
const {labels, layers} = JSON.parse(document.getElementById("data").textContent);
const n = labels.length, at = id => document.getElementById(id);
const steps = layers.map(l => Uint8Array.from(atob(l.steps), c => c.charCodeAt(0)));
layers.forEach((l, i) => at("layer").add(new Option(`${i}: ${l.name}`, i)));
function heads() {
  const chosen = at("head").value;
  at("head").replaceChildren(new Option("mean", "mean"));
  for (let h = 0; h < layers[at("layer").value].heads; h++) at("head").add(new Option(h, h));
  at("head").value = [...at("head").options].some(o => o.value === chosen) ? chosen : "mean";
}
function weight(i, j) {
  const l = +at("layer").value, h = at("head").value, all = steps[l], count = layers[l].heads;
  if (h !== "mean") return all[(+h * n + i) * n + j] / 255;
  let sum = 0;
  for (let k = 0; k < count; k++) sum += all[(k * n + i) * n + j];
  return sum / count / 255;
}
const spans = labels.map((label, i) => {
  const span = document.createElement("span");
  span.textContent = label;
  span.onpointerenter = () => look(i, null);
  at("text").append(span);
  return span;
});
function look(i, j) {
  const row = labels.map((_, k) => weight(i, k)), most = Math.max(...row);
  spans.forEach((span, k) => {
    span.style.background = `rgba(200, 60, 0, ${most ? 0.8 * row[k] / most : 0})`;
    span.style.outline = k === i ? "2px solid #036" : "";
  });
  at("said").textContent = j === null ? `"${labels[i]}" (${i})`
    : `"${labels[i]}" (${i}) gives "${labels[j]}" (${j}) ${(100 * row[j]).toFixed(1)} %`;
}
const side = Math.max(1, Math.min(24, Math.floor(640 / n)));
function draw() {
  const canvas = at("map"), paint = canvas.getContext("2d");
  canvas.width = canvas.height = n * side;
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    const w = Math.sqrt(weight(i, j));
    paint.fillStyle = `rgb(${255 - 55 * w}, ${255 - 195 * w}, ${255 - 255 * w})`;
    paint.fillRect(j * side, i * side, side, side);
  }
}
at("map").onpointermove = e => {
  const place = x => Math.min(n - 1, Math.max(0, Math.floor(x / side)));
  look(place(e.offsetY), place(e.offsetX));
};
at("layer").onchange = () => { heads(); draw(); };
at("head").onchange = draw;
heads();
draw();
</script>
</html>
"""
