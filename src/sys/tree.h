// A tree of modules with the variables of a network, and a run of libtorch's tracer with it.

#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/normalize_ops.h>

#include <map>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

// Modules by path, as in the names of variables: `layer1.0.conv1` is a submodule of `layer1.0`.
class Tree {
   public:
    Tree() : unit_(std::make_shared<torch::jit::CompilationUnit>()) { make(""); }

    torch::jit::Module& root() { return modules_.at(""); }

    void add(const std::string& name, const at::Tensor& tensor, bool parameter) {
        auto dot = name.rfind('.');
        auto& owner = at(dot == std::string::npos ? "" : name.substr(0, dot));
        auto own = dot == std::string::npos ? name : name.substr(dot + 1);
        if (parameter) {
            owner.register_parameter(own, tensor, false);
        } else {
            owner.register_buffer(own, tensor);
        }
    }

   private:
    torch::jit::Module& make(const std::string& path) {
        // A class name must be an identifier; a part of `path`, such as `0`, may not be one.
        auto name = "__torch__.finetune.Module" + std::to_string(modules_.size());
        auto at = modules_.emplace(path, torch::jit::Module(c10::QualifiedName(name), unit_)).first;
        at->second.register_attribute("training", c10::BoolType::get(), false);
        return at->second;
    }

    torch::jit::Module& at(const std::string& path) {
        auto found = modules_.find(path);
        if (found != modules_.end()) return found->second;
        auto dot = path.rfind('.');
        auto& owner = at(dot == std::string::npos ? "" : path.substr(0, dot));
        auto& made = make(path);
        owner.register_module(dot == std::string::npos ? path : path.substr(dot + 1), made);
        return made;
    }

    std::shared_ptr<torch::jit::CompilationUnit> unit_;
    std::map<std::string, torch::jit::Module> modules_;
};

// A function that takes ownership of a tensor and returns one that the caller owns, or null on failure.
using Forward = void* (*)(void*, void*);

// Adds `n` tensors to the tree, parameters first, and records the operations of `forward` on one input. Unless
// `in_place`, in-place operations are recorded as operations that return a tensor.
std::shared_ptr<torch::jit::Graph> traced(Tree& tree, const char** names, void** tensors, size_t parameters, size_t n,
                                          void* input, Forward forward, void* context, bool in_place) {
    for (size_t i = 0; i < n; ++i) {
        tree.add(names[i], *static_cast<at::Tensor*>(tensors[i]), i < parameters);
    }
    auto run = [&](torch::jit::Stack inputs) -> torch::jit::Stack {
        std::unique_ptr<at::Tensor> out(
            static_cast<at::Tensor*>(forward(context, new at::Tensor(inputs[0].toTensor()))));
        if (out == nullptr) throw std::runtime_error("the forward pass failed");
        return torch::jit::Stack{*out};
    };
    auto unnamed = [](const at::Tensor&) { return std::string(); };
    auto& in = *static_cast<at::Tensor*>(input);
    auto done = torch::jit::tracer::trace({in}, run, unnamed, true, !in_place, &tree.root(), {"x"});
    auto graph = done.first->graph;
    torch::jit::NormalizeOps(graph);
    return graph;
}

}  // namespace
