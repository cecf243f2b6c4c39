// Writes a TorchScript file of the operations of a function on a batch of images.

#include <torch/csrc/jit/ir/constants.h>

#include "message.h"
#include "tree.h"

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Makes a recording valid for any number of images. The tracer records the sizes of tensors as numbers. Those that differ
// in a recording of another batch depend on the number of images, and become expressions of the size of the input.
class AnyBatch {
   public:
    // `graph` is the recording of `n` images, the other one is of `m` images.
    AnyBatch(Graph& graph, int64_t n, int64_t m) : graph_(graph), input_(graph.inputs().back()), n_(n), m_(m) {}

    void generalize(Graph& other) {
        auto ours = operations(graph_);
        auto theirs = operations(other);
        agree(ours.size() == theirs.size());
        for (size_t i = 0; i < ours.size(); ++i) {
            agree(ours[i]->kind() == theirs[i]->kind());
            arguments(ours[i], theirs[i]);
        }
    }

   private:
    static void agree(bool same) {
        if (!same) throw std::runtime_error("the network runs other operations for another number of images");
    }

    // Returns the operations in order, without attributes, constants and lists, which other nodes use.
    static std::vector<Node*> operations(Graph& graph) {
        std::vector<Node*> all;
        for (Node* node : graph.nodes()) {
            auto kind = node->kind();
            bool used = kind == torch::jit::prim::Constant || kind == torch::jit::prim::ListConstruct ||
                        kind == torch::jit::prim::GetAttr;
            if (!used) all.push_back(node);
        }
        return all;
    }

    void arguments(Node* node, Node* other) {
        agree(node->inputs().size() == other->inputs().size());
        for (size_t i = 0; i < node->inputs().size(); ++i) {
            Value* ours = node->inputs()[i];
            Value* theirs = other->inputs()[i];
            Node* list = ours->node();
            if (lists_.count(list) > 0) continue;
            agree(list->kind() == theirs->node()->kind());
            if (list->kind() == torch::jit::prim::ListConstruct) {
                arguments(list, theirs->node());
                lists_.insert(list);
            } else if (list->kind() == torch::jit::prim::Constant) {
                auto a = *torch::jit::toIValue(ours);
                auto b = *torch::jit::toIValue(theirs);
                if (same(a, b)) continue;
                agree(a.isInt() && b.isInt());
                node->replaceInput(i, size(node, a.toInt(), b.toInt()));
            }
        }
    }

    static bool same(const c10::IValue& a, const c10::IValue& b) {
        if (a.isTensor() && b.isTensor()) {
            const at::Tensor& x = a.toTensor();
            const at::Tensor& y = b.toTensor();
            if (!x.defined() || !y.defined()) return x.defined() == y.defined();
            return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() && x.equal(y);
        }
        if (a.isTensor() || b.isTensor()) return false;
        if (a.isDouble() && b.isDouble() && std::isnan(a.toDouble())) return std::isnan(b.toDouble());
        return a == b;
    }

    // Inserts an expression before `node` that is `a` for `n` images and `b` for `m`.
    Value* size(Node* node, int64_t a, int64_t b) {
        if (a * m_ != b * n_ || a % n_ != 0) {
            throw std::runtime_error("a size is " + std::to_string(a) + " for " + std::to_string(n_) + " images and " +
                                     std::to_string(b) + " for " + std::to_string(m_) +
                                     "; it must be a multiple of the number of images");
        }
        torch::jit::WithInsertPoint guard(node);
        Value* images = graph_.insert(torch::jit::aten::size, {input_, int64_t(0)});
        int64_t each = a / n_;
        return each == 1 ? images : graph_.insert(torch::jit::aten::mul, {images, each});
    }

    Graph& graph_;
    Value* input_;
    int64_t n_, m_;
    std::unordered_set<const Node*> lists_;
};

}  // namespace

extern "C" {

// Records a function and writes the file. The first `parameters` of the `n` tensors are parameters, the others
// buffers. `input` and `other` are batches of different sizes.
char* finetune_trace(const char** names, void** tensors, size_t parameters, size_t n, void* input, void* other,
                     Forward forward, void* context, const char** file_names,
                     const char** file_texts, size_t files, const char* path) noexcept {
    return finetune::caught([&] {
        Tree tree, second;
        auto graph = traced(tree, names, tensors, parameters, n, input, forward, context, false);
        auto larger = traced(second, names, tensors, parameters, n, other, forward, context, false);
        auto images = [](void* batch) { return static_cast<at::Tensor*>(batch)->size(0); };
        AnyBatch(*graph, images(input), images(other)).generalize(*larger);
        auto type = tree.root().type();
        auto name = c10::QualifiedName(*type->name(), "forward");
        type->addMethod(tree.root()._ivalue()->compilation_unit()->create_function(name, graph));
        torch::jit::ExtraFilesMap extra;
        for (size_t i = 0; i < files; ++i) extra[file_names[i]] = file_texts[i];
        tree.root().save(path, extra);
    });
}

}  // extern "C"
