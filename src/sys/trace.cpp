// Writes a TorchScript file of the operations of a function on one input.

#include "message.h"
#include "tree.h"

#include <string>

extern "C" {

// Records a function and writes the file. The first `parameters` of the `n` tensors are parameters, the others
// buffers.
char* finetune_trace(const char** names, void** tensors, size_t parameters, size_t n, void* input,
                     Forward forward, void* context, const char** file_names,
                     const char** file_texts, size_t files, const char* path) noexcept {
    return finetune::caught([&] {
        Tree tree;
        auto graph = traced(tree, names, tensors, parameters, n, input, forward, context, false);
        auto type = tree.root().type();
        auto name = c10::QualifiedName(*type->name(), "forward");
        type->addMethod(tree.root()._ivalue()->compilation_unit()->create_function(name, graph));
        torch::jit::ExtraFilesMap extra;
        for (size_t i = 0; i < files; ++i) extra[file_names[i]] = file_texts[i];
        tree.root().save(path, extra);
    });
}

}  // extern "C"
