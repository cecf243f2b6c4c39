// What tch and torch-sys have no symbol for.
//
// Every function catches: an exception must not cross into Rust. A function that can fail returns
// its message, which the caller frees with finetune_free, or null.

#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/from_blob.h>
#include <torch/version.h>

#include <cstring>
#include <exception>
#include <vector>

namespace {

char* message(const std::exception& e) {
    return strdup(e.what());
}

std::vector<at::Tensor> tensors(void** of, size_t n) {
    std::vector<at::Tensor> all;
    all.reserve(n);
    for (size_t i = 0; i < n; ++i) all.push_back(*static_cast<at::Tensor*>(of[i]));
    return all;
}

}  // namespace

extern "C" {

void finetune_free(char* text) {
    free(text);
}

// A tensor over memory that `drop(context)` frees when the last use of it ends.
char* finetune_from_blob(void* data, const int64_t* sizes, const int64_t* strides, size_t dims,
                         void (*drop)(void*), void* context, void** out) {
    try {
        auto tensor = at::from_blob(
            data, at::IntArrayRef(sizes, dims), at::IntArrayRef(strides, dims),
            [drop, context](void*) { drop(context); }, at::kFloat);
        *out = new at::Tensor(std::move(tensor));
        return nullptr;
    } catch (const std::exception& e) {
        return message(e);
    }
}

// Automatic casts: the state before, packed, or the new state.
int finetune_autocast_get(bool cuda) {
    auto device = cuda ? at::kCUDA : at::kCPU;
    bool enabled = at::autocast::is_autocast_enabled(device);
    int kind = static_cast<int>(at::autocast::get_autocast_dtype(device));
    return kind * 2 + (enabled ? 1 : 0);
}

char* finetune_autocast_set(bool cuda, int state, bool entering) {
    try {
        auto device = cuda ? at::kCUDA : at::kCPU;
        at::autocast::set_autocast_enabled(device, (state & 1) != 0);
        at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(state / 2));
        if (entering) {
            at::autocast::increment_nesting();
        } else if (at::autocast::decrement_nesting() == 0) {
            at::autocast::clear_cache();
        }
        return nullptr;
    } catch (const std::exception& e) {
        return message(e);
    }
}

// One step of Adam with decoupled decay for all parameters at once. `steps` has one number each.
char* finetune_adamw(void** params, void** grads, void** avgs, void** sqrs, void** steps, size_t n,
                     double lr, double beta1, double beta2, double decay, double eps) {
    try {
        at::NoGradGuard guard;
        at::_fused_adamw_(tensors(params, n), tensors(grads, n), tensors(avgs, n), tensors(sqrs, n),
                          {}, tensors(steps, n), lr, beta1, beta2, decay, eps, false, false);
        return nullptr;
    } catch (const std::exception& e) {
        return message(e);
    }
}

// xs[i] *= factor
char* finetune_foreach_mul(void** xs, size_t n, double factor) {
    try {
        at::NoGradGuard guard;
        at::_foreach_mul_(tensors(xs, n), factor);
        return nullptr;
    } catch (const std::exception& e) {
        return message(e);
    }
}

// xs[i] += factor * ys[i]
char* finetune_foreach_add(void** xs, void** ys, size_t n, double factor) {
    try {
        at::NoGradGuard guard;
        at::_foreach_add_(tensors(xs, n), tensors(ys, n), factor);
        return nullptr;
    } catch (const std::exception& e) {
        return message(e);
    }
}

const char* finetune_version() {
    return TORCH_VERSION;
}

char* finetune_capability() {
    return strdup(at::get_cpu_capability().c_str());
}

}  // extern "C"
