// Writes a TorchScript file of what a function does to one input.

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/normalize_ops.h>

#include "message.h"
#include "tree.h"

#include <memory>
#include <stdexcept>
#include <string>

extern "C" {

// `forward` gets a tensor that it owns, and returns one that the caller owns, or null if it failed.
// The first `parameters` of the `n` tensors are parameters, the others buffers.
char* finetune_trace(const char** names, void** tensors, size_t parameters, size_t n, void* input,
                     void* (*forward)(void*, void*), void* context, const char** file_names,
                     const char** file_texts, size_t files, const char* path) noexcept {
    return finetune::caught([&] {
        Tree tree;
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
        auto traced = torch::jit::tracer::trace({*static_cast<at::Tensor*>(input)}, run, unnamed, true,
                                                true, &tree.root(), {"x"});
        auto graph = traced.first->graph;
        torch::jit::NormalizeOps(graph);
        auto type = tree.root().type();
        auto name = c10::QualifiedName(*type->name(), "forward");
        type->addMethod(tree.root()._ivalue()->compilation_unit()->create_function(name, graph));
        torch::jit::ExtraFilesMap extra;
        for (size_t i = 0; i < files; ++i) extra[file_names[i]] = file_texts[i];
        tree.root().save(path, extra);
    });
}

}  // extern "C"
