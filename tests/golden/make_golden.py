#!/usr/bin/python3
"""Writes the golden values beside this file; README.md describes the format."""
import pathlib
import sys

sys.dont_write_bytecode = True
import common
import decoder_cases
import encoder_cases
import function_cases
import model_cases
import op_cases
import optim_cases
import rdrop_cases

here = pathlib.Path(__file__).resolve().parent
ops = op_cases.all_cases()
rdrop_cases.add_cases()
common.write(here / "ops.json", ops)
common.write(here / "functions.json", function_cases.all_cases())
common.write(here / "layers.json", model_cases.layers())
common.write(here / "models.json", model_cases.models())
common.write(here / "decoder.json", decoder_cases.all_cases())
common.write(here / "encoder.json", encoder_cases.all_cases())
common.write(here / "optim.json", optim_cases.all_cases())
