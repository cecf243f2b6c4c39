// Functions of libtorch that tch and torch-sys do not export.
//
// No exception crosses into Rust: every function catches exceptions or is noexcept. A function that can fail returns
// an error message, which the caller frees with finetune_free, or null.

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_exp.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_log1p.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/version.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "message.h"

namespace {

using finetune::caught;

// A list of tensors on which one call operates.
using List = std::vector<at::Tensor>;

List& list(void* of) {
    return *static_cast<List*>(of);
}

// Returns true if two tensors have the same sizes, strides, type and device.
bool alike(const at::Tensor& a, const at::Tensor& b) {
    return a.sizes() == b.sizes() && a.strides() == b.strides() &&
           a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

// Checks the arguments of a fused kernel. It reads as many elements of each tensor as its parameter has, in memory
// order, and ignores sizes and strides.
void check_fused(const List& params, std::initializer_list<std::pair<const char*, const List*>> all) {
    for (size_t i = 0; i < params.size(); ++i) {
        TORCH_CHECK(params[i].is_non_overlapping_and_dense(), "parameter ", i,
                    " is a view with gaps or overlaps in memory; make it contiguous");
    }
    for (auto& [name, tensors] : all) {
        TORCH_CHECK(tensors->size() == params.size(), params.size(), " parameters and ",
                    tensors->size(), " tensors of ", name);
        for (size_t i = 0; i < params.size(); ++i) {
            auto& p = params[i];
            auto& t = (*tensors)[i];
            TORCH_CHECK(t.defined() && alike(p, t), name, " ", i, " does not fit its parameter of shape ",
                        p.sizes(), " and type ", p.scalar_type(), " on ", p.device(),
                        ": sizes, strides, types and devices must be equal");
        }
    }
}

}  // namespace

extern "C" {

void finetune_free(char* text) noexcept {
    finetune::free_message(text);
}

// Creates a tensor over memory that `drop(context)` frees when the last handle is dropped. Takes ownership of the
// context, even on failure: it is then dropped before the return.
char* finetune_from_blob(void* data, const int64_t* sizes, const int64_t* strides, size_t dims,
                         void (*drop)(void*), void* context, void** out) noexcept {
    return caught([&] {
        // The shared pointer frees the context, wherever libtorch fails: its deleter only holds a copy of it.
        std::shared_ptr<void> owner(context, drop);
        auto tensor = at::from_blob(
            data, at::IntArrayRef(sizes, dims), at::IntArrayRef(strides, dims),
            [owner](void*) {}, at::kFloat);
        *out = new at::Tensor(std::move(tensor));
    });
}

// Returns true if this thread records gradients.
bool finetune_grad_enabled() noexcept {
    return at::GradMode::is_enabled();
}

void finetune_set_grad_enabled(bool enabled) noexcept {
    at::GradMode::set_enabled(enabled);
}

// Reads the state of automatic casts: the type times 2, plus 1 if they are enabled.
char* finetune_autocast_get(bool cuda, int* state) noexcept {
    return caught([&] {
        auto device = cuda ? at::kCUDA : at::kCPU;
        bool enabled = at::autocast::is_autocast_enabled(device);
        int kind = static_cast<int>(at::autocast::get_autocast_dtype(device));
        *state = kind * 2 + (enabled ? 1 : 0);
    });
}

char* finetune_autocast_set(bool cuda, int state, bool entering) noexcept {
    return caught([&] {
        auto device = cuda ? at::kCUDA : at::kCPU;
        at::autocast::set_autocast_enabled(device, (state & 1) != 0);
        at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(state / 2));
        if (entering) {
            at::autocast::increment_nesting();
        } else if (at::autocast::decrement_nesting() == 0) {
            at::autocast::clear_cache();
        }
    });
}

// Creates a list of handles to the tensors.

char* finetune_list(void** tensors, size_t n, void** out) noexcept {
    return caught([&] {
        auto made = std::make_unique<List>();
        made->reserve(n);
        for (size_t i = 0; i < n; ++i) made->push_back(*static_cast<at::Tensor*>(tensors[i]));
        *out = made.release();
    });
}

void finetune_list_free(void* of) noexcept {
    delete static_cast<List*>(of);
}

char* finetune_list_get(void* of, size_t i, void** out) noexcept {
    return caught([&] { *out = new at::Tensor(list(of).at(i)); });
}

// Creates a list from another one: see `NewList` in list.rs.
char* finetune_list_new(int what, void* of, void* as, void** out) noexcept {
    return caught([&] {
        List made;
        switch (what) {
            case 0:
                for (auto& t : list(of)) made.push_back(at::zeros_like(t));
                break;
            case 1:
                for (auto& t : list(of)) made.push_back(t.detach().clone());
                break;
            case 2:
                made = at::_foreach_norm(list(of), 2);
                break;
            default:
                for (size_t i = 0; i < list(of).size(); ++i) {
                    auto& t = list(of)[i];
                    auto& like = list(as).at(i);
                    TORCH_CHECK(t.sizes() == like.sizes(), "tensor ", i, " of shape ", t.sizes(),
                                " does not fit shape ", like.sizes());
                    made.push_back(alike(t, like) ? t : at::empty_like(like).copy_(t));
                }
        }
        *out = new List(std::move(made));
    });
}

// Sets `same` to true if the lists have equal lengths, and the tensors of each pair have the same sizes, strides,
// type and device.
char* finetune_list_laid_out_as(void* of, void* as, bool* same) noexcept {
    return caught([&] {
        *same = list(of).size() == list(as).size();
        for (size_t i = 0; *same && i < list(of).size(); ++i) {
            *same = alike(list(of)[i], list(as)[i]);
        }
    });
}

// Changes each tensor of `x` in place: see `Each` in list.rs.
char* finetune_foreach(int what, void* x, void* y, void* z, double a) noexcept {
    return caught([&] {
        auto& xs = list(x);
        if (xs.empty()) return;
        switch (what) {
            case 0: return at::_foreach_mul_(xs, a);
            case 1: return at::_foreach_add_(xs, a);
            case 2: return at::_foreach_sqrt_(xs);
            case 3: return at::_foreach_exp_(xs);
            case 4: return at::_foreach_log1p_(xs);
            case 5: return at::_foreach_add_(xs, list(y), a);
            case 6: return at::_foreach_lerp_(xs, list(y), a);
            case 7: return at::_foreach_mul_(xs, list(y));
            case 8: return at::_foreach_copy_(xs, list(y));
            case 9: return at::_foreach_addcmul_(xs, list(y), list(z), a);
            default: return at::_foreach_addcdiv_(xs, list(y), list(z), a);
        }
    });
}

// Creates a list of the gradients of the trainable parameters that have one. Sets `has` for each parameter.
char* finetune_grads(void* params, bool* has, void** out) noexcept {
    return caught([&] {
        List grads;
        for (auto& p : list(params)) {
            *has = p.requires_grad() && p.grad().defined();
            if (*has++) grads.push_back(p.grad());
        }
        *out = new List(std::move(grads));
    });
}

char* finetune_clear_grads(void* params) noexcept {
    return caught([&] {
        for (auto& p : list(params)) p.mutable_grad() = at::Tensor();
    });
}

// Multiplies by `factor`, and sets `found` to true if a value was infinite or NaN.
char* finetune_unscale(void* grads, float factor, bool* found) noexcept {
    return caught([&] {
        *found = false;
        if (list(grads).empty()) return;
        auto options = list(grads)[0].options().dtype(at::kFloat);
        auto bad = at::zeros({}, options);
        at::_amp_foreach_non_finite_check_and_unscale_(list(grads), bad,
                                                       at::full({}, factor, options));
        *found = bad.item<float>() != 0;
    });
}

// Takes step number `step` of Adam with decoupled weight decay.
char* finetune_adamw(void* params, void* grads, void* avgs, void* sqrs, double step, double lr,
                     double beta1, double beta2, double decay, double eps) noexcept {
    return caught([&] {
        auto& ps = list(params);
        if (ps.empty()) return;
        check_fused(ps, {{"gradient", &list(grads)}, {"average", &list(avgs)}, {"square", &list(sqrs)}});
        // All parameters share one counter, since the kernels only read it.
        List steps(ps.size(), at::full({}, step, ps[0].options().dtype(at::kFloat)));
        at::_fused_adamw_(ps, list(grads), list(avgs), list(sqrs), {}, steps, lr, beta1, beta2,
                          decay, eps, false, false);
    });
}

// Takes one step of gradient descent with undamped momentum.
char* finetune_sgd(void* params, void* grads, void* sums, double lr, double mom) noexcept {
    return caught([&] {
        if (list(params).empty()) return;
        check_fused(list(params), {{"gradient", &list(grads)}, {"momentum", &list(sums)}});
        at::_fused_sgd_(list(params), list(grads), list(sums), 0, mom, lr, 0, false, false, false);
    });
}

// Whether the CUDA half was loaded when libtorch looked for it. Otherwise a stand-in takes its place for the
// rest of the program.
char* finetune_has_cuda_half(bool* has) noexcept {
    return caught([&] {
        *has = typeid(at::detail::getCUDAHooks()) != typeid(at::CUDAHooksInterface);
    });
}

// The number of threads within an operation that libtorch uses by default.
char* finetune_default_threads(int* threads) noexcept {
    return caught([&] { *threads = at::intraop_default_num_threads(); });
}

// A copy in pinned memory. tch passes a device, for which libtorch prints a warning with every call.
char* finetune_pinned(void* of, void** out) noexcept {
    return caught([&] { *out = new at::Tensor(static_cast<at::Tensor*>(of)->pin_memory()); });
}

const char* finetune_version() noexcept {
    return TORCH_VERSION;
}

// Returns the name of the vector instructions in use, which the caller frees like a message.
char* finetune_capability() noexcept {
    std::string name;
    char* failed = caught([&] { name = at::get_cpu_capability(); });
    return failed != nullptr ? failed : finetune::message(name.c_str());
}

}  // extern "C"
