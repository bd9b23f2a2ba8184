"""llama.cpp's own Q4_0 of a GGUF file: python make_gguf.py FILE OUT, in its environment."""

from __future__ import annotations

import ctypes
import sys

import llama_cpp


def main() -> None:
    source, target = sys.argv[1:]
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.allow_requantize = True  # from a file that is rounded already: its weights are exact
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings)):
        raise SystemExit(f"llama.cpp does not quantize {source}")


if __name__ == "__main__":
    main()
