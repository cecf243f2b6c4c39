// What tch and torch-sys have no symbol for.
//
// Every function catches: an exception must not cross into Rust. A function that can fail returns
// its message, which the caller frees with finetune_free, or null.

#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
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

#include <cstring>
#include <exception>
#include <memory>
#include <vector>

namespace {

// Many tensors that one call works on.
using List = std::vector<at::Tensor>;

List& list(void* of) {
    return *static_cast<List*>(of);
}

// Does `body` without recording gradients; the message of what it throws, or null.
template <class Body>
char* caught(Body body) {
    try {
        at::NoGradGuard guard;
        body();
        return nullptr;
    } catch (const std::exception& e) {
        return strdup(e.what());
    }
}

}  // namespace

extern "C" {

void finetune_free(char* text) {
    free(text);
}

// A tensor over memory that `drop(context)` frees when the last use of it ends.
char* finetune_from_blob(void* data, const int64_t* sizes, const int64_t* strides, size_t dims,
                         void (*drop)(void*), void* context, void** out) {
    return caught([&] {
        auto tensor = at::from_blob(
            data, at::IntArrayRef(sizes, dims), at::IntArrayRef(strides, dims),
            [drop, context](void*) { drop(context); }, at::kFloat);
        *out = new at::Tensor(std::move(tensor));
    });
}

// Automatic casts: the state before, packed, or the new state.
int finetune_autocast_get(bool cuda) {
    auto device = cuda ? at::kCUDA : at::kCPU;
    bool enabled = at::autocast::is_autocast_enabled(device);
    int kind = static_cast<int>(at::autocast::get_autocast_dtype(device));
    return kind * 2 + (enabled ? 1 : 0);
}

char* finetune_autocast_set(bool cuda, int state, bool entering) {
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

// Lists of tensors. A list shares its tensors with those it was made of.

char* finetune_list(void** tensors, size_t n, void** out) {
    return caught([&] {
        auto made = std::make_unique<List>();
        made->reserve(n);
        for (size_t i = 0; i < n; ++i) made->push_back(*static_cast<at::Tensor*>(tensors[i]));
        *out = made.release();
    });
}

void finetune_list_free(void* of) {
    delete static_cast<List*>(of);
}

char* finetune_list_get(void* of, size_t i, void** out) {
    return caught([&] { *out = new at::Tensor(list(of).at(i)); });
}

// A new list from an old one: see `NewList` in list.rs.
char* finetune_list_new(int what, void* of, void* as, void** out) {
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
                    made.push_back(t.strides() == like.strides() ? t : at::empty_like(like).copy_(t));
                }
        }
        *out = new List(std::move(made));
    });
}

char* finetune_list_laid_out_as(void* of, void* as, bool* same) {
    return caught([&] {
        *same = true;
        for (size_t i = 0; i < list(of).size(); ++i) {
            *same = *same && list(of)[i].strides() == list(as).at(i).strides();
        }
    });
}

// Changes xs[i]: see `Each` in list.rs.
char* finetune_foreach(int what, void* x, void* y, void* z, double a) {
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

// The gradients of the parameters that learn and have one; `has` says which.
char* finetune_grads(void* params, bool* has, void** out) {
    return caught([&] {
        List grads;
        for (auto& p : list(params)) {
            *has = p.requires_grad() && p.grad().defined();
            if (*has++) grads.push_back(p.grad());
        }
        *out = new List(std::move(grads));
    });
}

char* finetune_clear_grads(void* params) {
    return caught([&] {
        for (auto& p : list(params)) p.mutable_grad() = at::Tensor();
    });
}

// Multiplies by `factor` and tells whether a number was infinite or NaN.
char* finetune_unscale(void* grads, float factor, bool* found) {
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

// One step of Adam with decoupled decay, the `step`th of all of them.
char* finetune_adamw(void* params, void* grads, void* avgs, void* sqrs, double step, double lr,
                     double beta1, double beta2, double decay, double eps) {
    return caught([&] {
        auto& ps = list(params);
        if (ps.empty()) return;
        // One counter for all: the kernels only read it.
        List steps(ps.size(), at::full({}, step, ps[0].options().dtype(at::kFloat)));
        at::_fused_adamw_(ps, list(grads), list(avgs), list(sqrs), {}, steps, lr, beta1, beta2,
                          decay, eps, false, false);
    });
}

// One step of gradient descent with undamped momentum.
char* finetune_sgd(void* params, void* grads, void* sums, double lr, double mom) {
    return caught([&] {
        if (list(params).empty()) return;
        at::_fused_sgd_(list(params), list(grads), list(sums), 0, mom, lr, 0, false, false, false);
    });
}

const char* finetune_version() {
    return TORCH_VERSION;
}

char* finetune_capability() {
    return strdup(at::get_cpu_capability().c_str());
}

}  // extern "C"
