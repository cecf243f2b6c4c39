// Records the operations of a function on one input as JSON: libtorch's operations in order, their arguments, and
// the shapes of their results. In-place operations keep their names, which end in `_`.

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "message.h"
#include "tree.h"

#include <cmath>
#include <locale>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using torch::jit::Node;
using torch::jit::Value;

// Writes a graph of the tracer as JSON. Tensors that are neither parameters nor buffers are kept in a list, and the
// JSON refers to them by position.
class Writer {
   public:
    explicit Writer(std::vector<at::Tensor>& constants) : constants_(constants) {
        // The program may have set a locale whose number format is not that of JSON.
        out_.imbue(std::locale::classic());
        out_.precision(17);
    }

    std::string write(torch::jit::Graph& graph, const Value* self, const at::Tensor& input) {
        if (self != nullptr) paths_[self] = "";
        out_ << "{\"nodes\":[";
        bool first = true;
        for (const Node* node : graph.nodes()) {
            if (skipped(node)) continue;
            out_ << (first ? "" : ",") << "{\"op\":";
            first = false;
            text(node->kind().toQualString());
            out_ << ",\"args\":[";
            for (size_t i = 0; i < node->inputs().size(); ++i) {
                if (i > 0) out_ << ',';
                argument(node->inputs()[i]);
            }
            out_ << "],\"out\":[";
            for (size_t i = 0; i < node->outputs().size(); ++i) {
                if (i > 0) out_ << ',';
                result(node->outputs()[i]);
            }
            out_ << "]}";
        }
        out_ << "],\"input\":{\"id\":" << graph.inputs().back()->unique() << ',';
        shape(input.sizes(), input.scalar_type());
        out_ << "},\"outputs\":[";
        for (size_t i = 0; i < graph.outputs().size(); ++i) {
            if (i > 0) out_ << ',';
            argument(graph.outputs()[i]);
        }
        out_ << "]}";
        return out_.str();
    }

   private:
    // Returns true for nodes that are not operations: attributes, constants and lists that other nodes use.
    bool skipped(const Node* node) {
        switch (node->kind()) {
            case torch::jit::prim::GetAttr: {
                auto owner = paths_.find(node->input());
                if (owner == paths_.end()) return false;
                auto own = node->s(torch::jit::attr::name);
                paths_[node->output()] = owner->second.empty() ? own : owner->second + "." + own;
                return true;
            }
            case torch::jit::prim::Constant:
            case torch::jit::prim::ListConstruct:
                return true;
            default:
                return false;
        }
    }

    void argument(const Value* value) {
        auto named = paths_.find(value);
        if (named != paths_.end()) {
            out_ << "{\"param\":";
            text(named->second);
            out_ << '}';
            return;
        }
        const Node* node = value->node();
        if (node->kind() == torch::jit::prim::Constant) {
            constant(*torch::jit::toIValue(value));
        } else if (node->kind() == torch::jit::prim::ListConstruct) {
            out_ << "{\"list\":[";
            for (size_t i = 0; i < node->inputs().size(); ++i) {
                if (i > 0) out_ << ',';
                argument(node->inputs()[i]);
            }
            out_ << "]}";
        } else {
            out_ << "{\"value\":" << value->unique() << '}';
        }
    }

    void constant(const c10::IValue& value) {
        if (value.isNone()) {
            out_ << "\"none\"";
        } else if (value.isBool()) {
            out_ << "{\"bool\":" << (value.toBool() ? "true" : "false") << '}';
        } else if (value.isInt()) {
            out_ << "{\"int\":" << value.toInt() << '}';
        } else if (value.isDouble()) {
            number(value.toDouble());
        } else if (value.isString()) {
            out_ << "{\"text\":";
            text(value.toStringRef());
            out_ << '}';
        } else if (value.isTensor() && value.toTensor().defined()) {
            out_ << "{\"constant\":" << constants_.size() << '}';
            constants_.push_back(value.toTensor());
        } else if (value.isList()) {
            out_ << "{\"list\":[";
            bool first = true;
            for (const c10::IValue& item : value.toListRef()) {
                if (!first) out_ << ',';
                first = false;
                constant(item);
            }
            out_ << "]}";
        } else {
            out_ << "{\"text\":";
            text("a " + value.tagKind());
            out_ << '}';
        }
    }

    // Writes infinities and NaN as `beyond`, since JSON has neither.
    void number(double value) {
        if (std::isfinite(value)) {
            out_ << "{\"float\":" << value << '}';
        } else {
            out_ << "{\"beyond\":" << (std::isnan(value) ? 0 : value > 0 ? 1 : -1) << '}';
        }
    }

    void result(const Value* value) {
        out_ << "{\"id\":" << value->unique();
        auto type = value->type()->cast<c10::TensorType>();
        auto sizes = type ? type->sizes().concrete_sizes() : std::nullopt;
        if (sizes && type->scalarType()) {
            out_ << ',';
            shape(*sizes, *type->scalarType());
        }
        out_ << '}';
    }

    void shape(c10::IntArrayRef sizes, at::ScalarType kind) {
        out_ << "\"shape\":[";
        for (size_t i = 0; i < sizes.size(); ++i) out_ << (i > 0 ? "," : "") << sizes[i];
        out_ << "],\"kind\":";
        text(c10::toString(kind));
    }

    void text(const std::string& text) {
        out_ << '"';
        for (unsigned char c : text) {
            if (c == '"' || c == '\\') {
                out_ << '\\' << c;
            } else if (c < 0x20) {
                const char* digits = "0123456789abcdef";
                out_ << "\\u00" << digits[c >> 4] << digits[c & 15];
            } else {
                out_ << c;
            }
        }
        out_ << '"';
    }

    std::ostringstream out_;
    std::vector<at::Tensor>& constants_;
    std::unordered_map<const Value*, std::string> paths_;
};

}  // namespace

extern "C" {

// Records a function; the arguments are those of finetune_trace. Passes the JSON, and the tensors to which it refers
// by position, to `done`, which takes ownership of the tensors.
char* finetune_graph(const char** names, void** tensors, size_t parameters, size_t n, void* input,
                     Forward forward, void* context,
                     void (*done)(void*, const char*, void**, size_t), void* result) noexcept {
    return finetune::caught([&] {
        Tree tree;
        auto graph = traced(tree, names, tensors, parameters, n, input, forward, context, true);
        torch::jit::EliminateDeadCode(graph);
        std::vector<at::Tensor> constants;
        auto* self = graph->inputs().size() > 1 ? graph->inputs().front() : nullptr;
        auto text = Writer(constants).write(*graph, self, *static_cast<at::Tensor*>(input));
        std::vector<void*> pointers;
        pointers.reserve(constants.size());
        for (auto& tensor : constants) pointers.push_back(new at::Tensor(tensor));
        done(result, text.c_str(), pointers.data(), pointers.size());
    });
}

}  // extern "C"
