"""The Python half of tests/interop_onnx.rs, on the real ONNX and ONNX Runtime.

Reads one request per line, `{"folder": ...}`, checks `model.onnx` of that folder, runs it on the batches `x0`, `x1`, ... of
`inputs.safetensors` and writes the outputs as `y0`, `y1`, ... to `outputs.safetensors`. Answers with one line of JSON.
"""

import json
import sys
from pathlib import Path

import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file


def run(folder):
    file = folder / "model.onnx"
    onnx.checker.check_model(file, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (inputs,), (outputs,) = session.get_inputs(), session.get_outputs()
    found = {}
    for name, x in load_file(folder / "inputs.safetensors").items():
        found[f"y{name[1:]}"] = session.run([outputs.name], {inputs.name: x})[0]
    save_file(found, folder / "outputs.safetensors")
    return dict(input=inputs.shape, output=outputs.shape)


def main():
    for line in sys.stdin:
        try:
            answer = run(Path(json.loads(line)["folder"]))
        except Exception as error:
            answer = dict(error=f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
