// Modules that hold the variables of a network under their names, for libtorch's tracer.

#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>

namespace {

// Modules by the names of their variables: `layer1.0.conv1` is a module below `layer1.0`.
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
        // Names of classes must be identifiers, which parts of `path` may not be.
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

}  // namespace
