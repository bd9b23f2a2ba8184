"""Lets onnxruntime-genai write what comes next, greedily.

    python in_genai.py BUNDLE < '{"prompts": [[ids], ...], "text": "...", "length": 40}'

Writes the ids of each prompt with what was written, and the ids of the text.
"""

from __future__ import annotations

import json
import sys

import onnxruntime_genai as genai


def main() -> None:
    asked = json.load(sys.stdin)
    model = genai.Model(sys.argv[1])
    written = []
    for prompt in asked["prompts"]:
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=asked["length"])
        generator = genai.Generator(model, params)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        written.append([int(token) for token in generator.get_sequence(0)])
    ids = [int(token) for token in genai.Tokenizer(model).encode(asked["text"])]
    json.dump({"written": written, "ids": ids}, sys.stdout)


main()
