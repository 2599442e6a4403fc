// Runs `model.onnx` of an export in C++, by OpenVINO, on images that are prepared as the model card says.
//
//   g++ -std=c++17 model.cpp -I$OPENVINO/include $OPENVINO/libs/libopenvino.so.* -o model
//   ./model knee/model.onnx images.f32
//
// images.f32 holds float32 numbers: images (channels, height, width), one after the other. It prints the logits of each
// image, one at a time, and the exit by which it left if the network has exits.

#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>

int main(int count, char** words) {
    if (count != 3) {
        std::cerr << "model: give the model and the file of images\n";
        return 2;
    }
    ov::Core core;
    auto compiled = core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    ov::Tensor image = request.get_input_tensor();
    std::ifstream images(words[2], std::ios::binary);
    while (images.read(reinterpret_cast<char*>(image.data<float>()), image.get_byte_size())) {
        request.infer();
        ov::Tensor logits = request.get_tensor("logits");
        for (size_t at = 0; at < logits.get_size(); ++at) std::cout << logits.data<float>()[at] << ' ';
        if (compiled.outputs().size() > 1) std::cout << "exit " << request.get_tensor("exit").data<int64_t>()[0];
        std::cout << '\n';
    }
}
