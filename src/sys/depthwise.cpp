// Gradients of depthwise convolutions in bfloat16 on a CPU.
//
// oneDNN has no fast bfloat16 kernels for the gradients of a depthwise convolution with a stride or with
// a window larger than 3 by 3: they take 3 to 14 times as long as in 32-bit floats. The CPU kernel of
// `convolution_backward` is therefore replaced by one that computes such gradients in 32-bit floats and rounds
// them to bfloat16. All other calls are passed to libtorch's function.

#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution_backward_native.h>
#include <torch/library.h>

#include <array>
#include <tuple>

#include "message.h"

namespace {

using finetune::caught;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

bool slow_in_bfloat16(const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
                      bool transposed, int64_t groups) {
    if (transposed || groups < 2 || input.dim() != 4 || weight.dim() != 4) return false;
    if (input.scalar_type() != at::kBFloat16 || input.size(1) != groups) return false;
    bool strided = stride.size() == 2 && (stride[0] > 1 || stride[1] > 1);
    bool large = weight.size(2) > 3 || weight.size(3) > 3;
    return strided || large;
}

Gradients convolution_backward(const at::Tensor& grad, const at::Tensor& input,
                               const at::Tensor& weight, at::OptionalIntArrayRef bias_sizes,
                               at::IntArrayRef stride, at::IntArrayRef padding,
                               at::IntArrayRef dilation, bool transposed,
                               at::IntArrayRef output_padding, int64_t groups,
                               std::array<bool, 3> wanted) {
    auto in = [&](const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight) {
        return at::native::convolution_backward(grad, input, weight, bias_sizes, stride, padding,
                                                dilation, transposed, output_padding, groups,
                                                wanted);
    };
    if (!slow_in_bfloat16(input, weight, stride, transposed, groups)) return in(grad, input, weight);
    auto [of_input, of_weight, of_bias] =
        in(grad.to(at::kFloat), input.to(at::kFloat), weight.to(at::kFloat));
    auto rounded = [](const at::Tensor& of) {
        return of.defined() ? of.to(at::kBFloat16) : of;
    };
    return {rounded(of_input), rounded(of_weight), rounded(of_bias)};
}

}  // namespace

extern "C" {

// Registers the function above, once per process.
char* finetune_fast_depthwise() noexcept {
    return caught([] {
        static torch::Library library = [] {
            torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
            library.impl("convolution_backward", TORCH_FN(convolution_backward));
            return library;
        }();
    });
}

}  // extern "C"
