"""Opens bundles with Optimum, in its own environment: nothing here is edgetfm's.

Reads a list of jobs (JSON) from stdin; writes what each was given and answered as an .npz.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import optimum.onnxruntime
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer


def inputs_of(job):
    if "arrays" in job:
        return dict(np.load(job["arrays"]))
    if "pictures" in job:
        processor = AutoImageProcessor.from_pretrained(job["bundle"], use_fast=False)
        pictures = [Image.open(path).convert("RGB") for path in job["pictures"]]
        return processor(pictures, return_tensors="np")
    tokenizer = AutoTokenizer.from_pretrained(job["bundle"])
    return tokenizer(
        job["texts"], job.get("pairs"), padding=True, truncation=True, return_tensors="np"
    )


for job in json.load(sys.stdin):
    model = getattr(optimum.onnxruntime, job["class"]).from_pretrained(
        job["bundle"], **job["options"]
    )
    inputs = inputs_of(job)
    if "generate" in job:  # which takes tensors of PyTorch
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        outputs = {"tokens": model.generate(**tensors, **job["generate"]).numpy()}
    else:
        outputs = model(**inputs)
    arrays = {f"inputs.{name}": np.asarray(array) for name, array in inputs.items()}
    arrays |= {f"outputs.{name}": np.asarray(array) for name, array in outputs.items()}
    np.savez(job["answers"], **arrays)
