// The types of gloo that <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp> needs to be complete.
//
// libtorch holds gloo but ships none of its headers. Nothing here is instantiated: the real types are in
// libtorch_cpu. What is declared is what c10d's inline code names, in gloo's order of virtual functions.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
   public:
    void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {

class Device;

class UnboundBuffer {
   public:
    virtual ~UnboundBuffer() = 0;
};

}  // namespace transport

namespace rendezvous {

class Store {
   public:
    virtual ~Store() = default;
    virtual void set(const std::string& key, const std::vector<char>& data) = 0;
    virtual std::vector<char> get(const std::string& key) = 0;
    virtual void wait(const std::vector<std::string>& keys) = 0;
    virtual void wait(const std::vector<std::string>& keys,
                      const std::chrono::milliseconds& timeout) = 0;
};

}  // namespace rendezvous

}  // namespace gloo
