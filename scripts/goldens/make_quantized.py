#!/usr/bin/env python3
"""NF4 codes as bitsandbytes makes and decodes them, for tests/models/quantized_test.cpp.

  pip install torch bitsandbytes safetensors
  scripts/goldens/make_quantized.py       writes tests/models/goldens/quantized.safetensors
"""
import pathlib

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/models/goldens/quantized.safetensors"

torch.manual_seed(7)
weight = torch.randn(8, 192) * torch.logspace(-3, 1, 8).unsqueeze(1)
weight[3, 64:128] = 0  # a block without a largest number
codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
save_file(
    {
        "weight": weight,
        "codes": codes.reshape(8, 96),
        "scales": state.absmax.reshape(8, 3).float(),
        "decoded": dequantize_4bit(codes, state).reshape(8, 192),
    },
    OUT,
)
