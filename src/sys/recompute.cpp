// Computes intermediate results again in the backward pass instead of keeping them.
//
// libtorch has this only in Python, as torch.utils.checkpoint. Every function catches exceptions, which must not
// cross into Rust. A function that can fail returns an error message, which the caller frees with finetune_free, or
// null.

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/custom_class.h>

#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "message.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A function of `x`, of which it takes ownership. Writes a tensor to `out`, which the caller owns. `again` is false in
// the first pass. Returns a message that the caller frees, or null.
using Run = char* (*)(void* context, void* x, bool again, void** out);

// The state of libtorch's random generators of the CPU and of `device`.
class Draws {
   public:
    explicit Draws(at::Device device) {
        add(at::globalContext().defaultGenerator(at::kCPU));
        if (device.is_cuda()) add(at::globalContext().defaultGenerator(device));
    }

    void restore() const {
        for (auto& [generator, state] : all_) {
            auto of = generator;
            std::lock_guard<std::mutex> lock(of.mutex());
            of.set_state(state);
        }
    }

   private:
    void add(at::Generator generator) {
        std::lock_guard<std::mutex> lock(generator.mutex());
        auto state = generator.get_state();
        all_.emplace_back(std::move(generator), std::move(state));
    }

    std::vector<std::pair<at::Generator, at::Tensor>> all_;
};

// The state of automatic casts on a device.
struct Casts {
    at::DeviceType device;
    bool enabled;
    at::ScalarType kind;

    explicit Casts(at::DeviceType of)
        : device(of),
          enabled(at::autocast::is_autocast_enabled(of)),
          kind(at::autocast::get_autocast_dtype(of)) {}

    void set() const {
        at::autocast::set_autocast_enabled(device, enabled);
        at::autocast::set_autocast_dtype(device, kind);
    }
};

// The state of the random generators and of the automatic casts in the first pass.
struct Circumstances {
    Draws draws;
    Casts casts;

    explicit Circumstances(at::Device device) : draws(device), casts(device.type()) {}
};

// Restores the state of the first pass until it is destroyed.
class Back {
   public:
    Back(const Circumstances& then, at::Device device) : now_(device) {
        then.draws.restore();
        then.casts.set();
        at::autocast::increment_nesting();
    }

    ~Back() {
        try {
            if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
            now_.casts.set();
            now_.draws.restore();
        } catch (...) {
            // Not expected: these states were read from libtorch before. A destructor must not throw.
        }
    }

    Back(const Back&) = delete;
    Back& operator=(const Back&) = delete;

   private:
    Circumstances now_;
};

// The function, and the state of its first pass that the graph keeps.
struct Segment : torch::CustomClassHolder {
    Run run;
    std::shared_ptr<void> context;
    std::optional<Circumstances> then;
    // The result, until it is added to the graph.
    at::Tensor value;

    at::Tensor call(const at::Tensor& x, bool again) const {
        void* out = nullptr;
        char* message = run(context.get(), new at::Tensor(x), again, &out);
        if (message != nullptr) {
            std::string why(message);
            finetune::free_message(message);
            throw std::runtime_error(why);
        }
        std::unique_ptr<at::Tensor> y(static_cast<at::Tensor*>(out));
        return *y;
    }
};

// Returns the leaf variables of the graph of `y` other than `x`: the trainable parameters of the function.
variable_list leaves(const at::Tensor& y, const at::Tensor& x) {
    variable_list found;
    std::unordered_set<torch::autograd::Node*> seen;
    std::vector<torch::autograd::Node*> next;
    auto visit = [&](torch::autograd::Node* node) {
        if (node != nullptr && seen.insert(node).second) next.push_back(node);
    };
    visit(torch::autograd::impl::gradient_edge(y).function.get());
    while (!next.empty()) {
        auto* node = next.back();
        next.pop_back();
        if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
            if (!leaf->variable.is_same(x)) found.push_back(leaf->variable);
        }
        for (auto& edge : node->next_edges()) visit(edge.function.get());
    }
    return found;
}

struct Recompute : torch::autograd::Function<Recompute> {
    // `inputs` are the input and the parameters, so that they are part of the graph.
    static variable_list forward(AutogradContext* ctx, at::TensorList inputs,
                                 c10::intrusive_ptr<Segment> segment) {
        ctx->save_for_backward(inputs.vec());
        variable_list result{std::move(segment->value)};
        ctx->saved_data["segment"] = c10::IValue::make_capsule(std::move(segment));
        return result;
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        TORCH_CHECK(!at::GradMode::is_enabled(),
                    "gradients of gradients cannot be computed with gradient checkpointing");
        auto saved = ctx->get_saved_variables();
        auto holder = ctx->saved_data["segment"].toCapsule();
        auto& segment = static_cast<Segment&>(*holder);
        auto x = saved[0].detach();
        x.set_requires_grad(saved[0].requires_grad());
        at::Tensor y;
        {
            Back back(*segment.then, x.device());
            at::AutoGradMode record(true);
            y = segment.call(x, true);
        }
        variable_list inputs;
        if (x.requires_grad()) inputs.push_back(x);
        inputs.insert(inputs.end(), saved.begin() + 1, saved.end());
        auto found = torch::autograd::grad({y}, inputs, {grads[0]}, std::nullopt, false, true);
        variable_list all;
        if (!x.requires_grad()) all.emplace_back();
        all.insert(all.end(), found.begin(), found.end());
        all.emplace_back();  // `segment` has no gradient
        return all;
    }
};

at::Tensor recompute(const at::Tensor& input, const c10::intrusive_ptr<Segment>& segment) {
    if (!at::GradMode::is_enabled()) return segment->call(input, false);
    segment->then.emplace(input.device());
    auto x = input.detach();
    x.set_requires_grad(input.requires_grad());
    auto version = x._version();
    auto y = segment->call(x, false);
    TORCH_CHECK(x._version() == version,
                "a block changes its input in place, which gradient checkpointing cannot undo");
    if (!y.requires_grad()) return y;
    auto inputs = leaves(y, x);
    inputs.insert(inputs.begin(), input);
    // Frees the graph of the first pass and the intermediate results that it keeps.
    segment->value = y.is_alias_of(x) ? y.detach().clone() : y.variable_data();
    y.reset();
    // `apply` recognizes only a `TensorList` as a list of variables.
    return Recompute::apply(at::TensorList(inputs), segment)[0];
}

}  // namespace

extern "C" {

// Creates a message of `n` bytes of text without zeros, to be freed with `finetune_free`.
char* finetune_message(const char* text, size_t n) noexcept {
    try {
        return finetune::message(std::string(text, n).c_str());
    } catch (...) {
        return finetune::exhausted();
    }
}

// Computes `run` of a tensor, so that the backward pass computes it again. Takes ownership of the context, even on
// failure: `drop(context)` is called once, on any thread, when the graph is freed or when this function fails.
char* finetune_recompute(void* x, Run run, void* context, void (*drop)(void*), void** out) noexcept {
    try {
        std::shared_ptr<void> owner(context, drop);
        auto segment = c10::make_intrusive<Segment>();
        segment->run = run;
        segment->context = std::move(owner);
        *out = new at::Tensor(recompute(*static_cast<at::Tensor*>(x), segment));
        return nullptr;
    } catch (const std::exception& e) {
        return finetune::message(e.what());
    } catch (...) {
        return finetune::message("an exception of unknown type");
    }
}

}  // extern "C"
