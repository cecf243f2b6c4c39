// libtorch's distributed engine: store, process group, reducer.
//
// Every function catches exceptions, which must not cross into Rust. A function that can fail returns an
// error message, which the caller frees with finetune_free, or null.

#define USE_C10D_GLOO

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using List = std::vector<at::Tensor>;
using Store = c10::intrusive_ptr<c10d::Store>;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using std::chrono::milliseconds;

// Runs `body`. Returns the message of the exception that it throws, or null.
template <class Body>
char* caught(Body body) {
    try {
        body();
        return nullptr;
    } catch (const c10::Error& e) {
        return strdup(e.what_without_backtrace());
    } catch (const std::exception& e) {
        return strdup(e.what());
    } catch (...) {
        return strdup("an exception that is not a std::exception");
    }
}

// Runs `body`, which frees an object, and ignores exceptions: a destructor cannot report them.
template <class Body>
void freed(Body body) {
    try {
        body();
    } catch (...) {
    }
}

at::Tensor& tensor(void* of) {
    return *static_cast<at::Tensor*>(of);
}

Store& store(void* of) {
    return *static_cast<Store*>(of);
}

Group& group(void* of) {
    return *static_cast<Group*>(of);
}

c10d::Reducer& reducer(void* of) {
    return **static_cast<std::shared_ptr<c10d::Reducer>*>(of);
}

// Replaces `t` by its sum over all ranks.
void all_reduce(const Group& all, at::Tensor& t) {
    List list{t};
    all->allreduce(list)->wait();
}

// The differentiable sum over all ranks. Its gradient is the sum of the gradients over all ranks.
struct SumOfAll : torch::autograd::Function<SumOfAll> {
    static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                              int64_t of) {
        context->saved_data["group"] = of;
        auto sum = x.clone(at::MemoryFormat::Contiguous);
        all_reduce(group(reinterpret_cast<void*>(of)), sum);
        return sum;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list grads) {
        auto of = context->saved_data["group"].toInt();
        auto sum = grads[0].clone(at::MemoryFormat::Contiguous);
        all_reduce(group(reinterpret_cast<void*>(of)), sum);
        return {sum, at::Tensor()};
    }
};

// Ignores warnings. The reducer warns if every parameter was used, which is the usual case.
struct Silent : c10::WarningHandler {
    void process(const c10::Warning&) override {}
};

#ifndef _WIN32

// Returns an exported function of libtorch_cuda, which is loaded at run time.
template <class F>
F symbol(const char* name) {
    auto found = dlsym(RTLD_DEFAULT, name);
    if (!found) {
        throw std::runtime_error(std::string("libtorch_cuda does not export ") + name +
                                 ": it has no NCCL, or is not the libtorch of this build");
    }
    return reinterpret_cast<F>(found);
}

using NcclOptions = c10::intrusive_ptr<c10d::Backend::Options>;

// Creates a c10d::ProcessGroupNCCL through the mangled names of its constructors. Its header includes headers of
// NCCL and CUDA, which a build without CUDA does not have. The allocated sizes are upper bounds.
c10::intrusive_ptr<c10d::Backend> nccl(Store keys, int rank, int size, milliseconds timeout) {
    auto make_options = symbol<void (*)(void*, bool)>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb");
    auto make_group = symbol<void (*)(void*, Store*, int, int, NcclOptions*)>(
        "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_"
        "default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE");
    void* options_at = ::operator new(4096);
    try {
        make_options(options_at, false);
    } catch (...) {
        ::operator delete(options_at);
        throw;
    }
    auto options =
        NcclOptions::unsafe_steal_from_new(static_cast<c10d::Backend::Options*>(options_at));
    options->timeout = timeout;
    void* group_at = ::operator new(16384);
    try {
        make_group(group_at, &keys, rank, size, &options);
    } catch (...) {
        ::operator delete(group_at);
        throw;
    }
    return c10::intrusive_ptr<c10d::Backend>::unsafe_steal_from_new(
        static_cast<c10d::Backend*>(group_at));
}

#else

c10::intrusive_ptr<c10d::Backend> nccl(Store, int, int, milliseconds) {
    throw std::runtime_error("NCCL is not available on Windows");
}

#endif

}  // namespace

extern "C" {

// Creates a client of the store at `host`:`port`. If `listener` is not negative, it is a listening socket on
// which this process serves the store.
char* finetune_store(const char* host, uint16_t port, int listener, int64_t timeout, void** out) {
    return caught([&] {
        // Reads TORCH_CPP_LOG_LEVEL. Otherwise, every retried connection is logged with a backtrace.
        static std::once_flag once;
        std::call_once(once, [] { c10::initLogging(); });
        c10d::TCPStoreOptions options;
        options.port = port;
        options.isServer = listener >= 0;
        if (listener >= 0) options.masterListenFd = listener;
        options.waitWorkers = false;
        options.timeout = milliseconds(timeout);
        *out = new Store(c10::make_intrusive<c10d::TCPStore>(host, options));
    });
}

// Creates another connection to the same store, which does not wait for calls on this one.
char* finetune_store_clone(void* of, void** out) {
    return caught([&] { *out = new Store(store(of)->clone()); });
}

void finetune_store_free(void* of) {
    freed([&] { delete static_cast<Store*>(of); });
}

char* finetune_store_set(void* of, const char* key, const uint8_t* data, size_t n) {
    return caught([&] { store(of)->set(key, std::vector<uint8_t>(data, data + n)); });
}

char* finetune_store_add(void* of, const char* key, int64_t n, int64_t* sum) {
    return caught([&] { *sum = store(of)->add(key, n); });
}

char* finetune_store_has(void* of, const char* key, bool* has) {
    return caught([&] { *has = store(of)->check({key}); });
}

// Passes the value of a key to `take`. Waits until the key is set.
char* finetune_store_get(void* of, const char* key, void (*take)(void*, const uint8_t*, size_t),
                         void* context) {
    return caught([&] {
        auto value = store(of)->get(key);
        take(context, value.data(), value.size());
    });
}

// Creates a group of processes that communicate by gloo, on the interface with this address or name.
char* finetune_group(void* keys, const char* prefix, int rank, int size, int64_t timeout,
                     const char* address, bool is_interface, void** out) {
    return caught([&] {
        using Gloo = c10d::ProcessGroupGloo;
        auto options = Gloo::Options::create(milliseconds(timeout));
        options->devices.push_back(is_interface ? Gloo::createDeviceForInterface(address)
                                                : Gloo::createDeviceForHostname(address));
        options->threads = 2;
        Store own = c10::make_intrusive<c10d::PrefixStore>(prefix, store(keys));
        auto gloo = c10::make_intrusive<Gloo>(
            c10::make_intrusive<c10d::PrefixStore>("gloo", own), rank, size, options);
        auto all = c10::make_intrusive<c10d::ProcessGroup>(own, rank, size);
        all->setBackend(at::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
        all->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
        all->setGroupName(prefix);
        *out = new Group(std::move(all));
    });
}

// Adds NCCL to a group, so that it can reduce tensors on GPUs.
char* finetune_group_nccl(void* of, void* keys, const char* prefix, int64_t timeout) {
    return caught([&] {
        auto& all = group(of);
        Store own = c10::make_intrusive<c10d::PrefixStore>(prefix, store(keys));
        auto backend = nccl(c10::make_intrusive<c10d::PrefixStore>("nccl", own), all->getRank(),
                            all->getSize(), milliseconds(timeout));
        all->setBackend(at::kCUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
        all->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    });
}

void finetune_group_free(void* of) {
    freed([&] { delete static_cast<Group*>(of); });
}

char* finetune_group_barrier(void* of) {
    return caught([&] {
        c10d::BarrierOptions options;
        options.device = at::Device(at::kCPU);
        group(of)->barrier(options)->wait();
    });
}

char* finetune_group_all_reduce(void* of, void* t) {
    return caught([&] {
        at::NoGradGuard guard;
        all_reduce(group(of), tensor(t));
    });
}

char* finetune_group_broadcast(void* of, void* t, int root) {
    return caught([&] {
        at::NoGradGuard guard;
        List list{tensor(t)};
        c10d::BroadcastOptions options;
        options.rootRank = root;
        group(of)->broadcast(list, options)->wait();
    });
}

// Gathers `t` from all ranks. `outs` is a list with one tensor per rank, each of the size of `t`.
char* finetune_group_all_gather(void* of, void* t, void* outs) {
    return caught([&] {
        at::NoGradGuard guard;
        List in{tensor(t)};
        std::vector<List> out{*static_cast<List*>(outs)};
        group(of)->allgather(out, in)->wait();
    });
}

// Computes the sum over all ranks, recorded for gradients.
char* finetune_group_sum(void* of, void* t, void** out) {
    return caught([&] {
        auto sum = SumOfAll::apply(tensor(t), reinterpret_cast<int64_t>(of));
        *out = new at::Tensor(std::move(sum));
    });
}

// Replaces the gradients of a list of parameters. An undefined tensor removes the gradient.
char* finetune_set_grads(void* params, void* grads) {
    return caught([&] {
        auto& ps = *static_cast<List*>(params);
        auto& gs = *static_cast<List*>(grads);
        for (size_t i = 0; i < ps.size(); ++i) ps[i].mutable_grad() = gs.at(i);
    });
}

// Creates a reducer, which averages the gradients of a list of parameters, bucket by bucket, during the backward
// pass.
char* finetune_reducer(void* of, void* params, int64_t first_bytes, int64_t bytes, void** out) {
    return caught([&] {
        auto& list = *static_cast<List*>(params);
        std::vector<bool> sparse(list.size(), false);
        std::vector<size_t> limits{static_cast<size_t>(first_bytes), static_cast<size_t>(bytes)};
        auto [buckets, sizes] =
            c10d::compute_bucket_assignment_by_size(list, limits, sparse, {}, std::nullopt);
        // The gradients of the last parameters are computed first.
        std::reverse(buckets.begin(), buckets.end());
        auto made = std::make_shared<c10d::Reducer>(
            list, std::move(buckets), group(of), std::move(sparse), bytes,
            /*find_unused_parameters=*/true, /*gradient_as_bucket_view=*/true,
            std::unordered_map<size_t, std::string>{}, first_bytes,
            /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
            std::vector<int64_t>{});
        *out = new std::shared_ptr<c10d::Reducer>(std::move(made));
    });
}

// Prepares the forward pass.
char* finetune_reducer_forward(void* of) {
    return caught([&] {
        reducer(of).prepare_for_forward();
        reducer(of).rebuild_buckets();
    });
}

// Prepares the backward pass from `loss`.
char* finetune_reducer_backward(void* of, void* loss) {
    return caught([&] {
        Silent silent;
        c10::WarningUtils::WarningHandlerGuard guard(&silent);
        reducer(of).prepare_for_backward({tensor(loss)});
    });
}

void finetune_reducer_free(void* of) {
    freed([&] { reducer(of).remove_autograd_hooks(); });
    freed([&] { delete static_cast<std::shared_ptr<c10d::Reducer>*>(of); });
}

}  // extern "C"
