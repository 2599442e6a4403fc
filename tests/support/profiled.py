"""What ONNX Runtime's own profiler saw."""

import json

import onnxruntime


def convolutions_run(model, image, folder):
    """How many convolutions ONNX Runtime really ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"image": image})
    with open(session.end_profiling()) as file:
        events = json.load(file)
    run = [event for event in events if event["name"].endswith("_kernel_time")]
    return sum("Conv" in event["args"]["op_name"] for event in run)
