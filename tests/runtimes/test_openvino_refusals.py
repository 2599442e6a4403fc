"""What OpenVINO cannot run is one message, not an error of its own."""

import pytest

from dynnas.errors import TargetError
from dynnas.runtimes.openvino.session import OpenVinoSession


def test_a_graph_that_it_cannot_run_is_refused():
    pytest.importorskip("openvino")
    helper = pytest.importorskip("onnx.helper")
    image, logits = (helper.make_tensor_value_info(name, 1, [1, 3]) for name in ("image", "logits"))
    node = helper.make_node("Nothing", ["image"], ["logits"], domain="nowhere")
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "graph", [image], [logits]), opset_imports=versions)
    with pytest.raises(
        TargetError, match=r"OpenVINO cannot run the network's graph: .*nowhere\.Nothing.*runtime"
    ):
        OpenVinoSession(model.SerializeToString(), threads=1)
