// Keeps the memory of large tensors for later tensors while there are holds.
//
// libtorch returns the memory of each large tensor to the system, and the system clears it page by page before it
// provides it again. A training step allocates and frees gigabytes in the same sizes each time.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

// The minimum size in bytes of memory that is kept. The C library keeps smaller allocations itself.
constexpr size_t LARGE = 1 << 18;

// The size of a page of memory, in bytes.
size_t page() {
#ifdef __linux__
    static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return size;
#else
    return 1 << 12;
#endif
}

struct Part;

// Spare parts by size, the smallest first.
using Spare = std::set<std::pair<size_t, Part*>>;

// A part of a region of memory from the system, linked to its neighbors in that region.
struct Part {
    char* data;
    size_t size;
    Part* before;
    Part* after;
    bool spare;
    // The part's node of a `Spare`, kept while the part is in use: freeing memory must not allocate, which could
    // throw.
    Spare::node_type node;

    bool whole() const {
        return before == nullptr && after == nullptr;
    }
};

std::unique_ptr<Part> new_part(char* data, size_t size, Part* before, Part* after) {
    Spare one{{0, nullptr}};
    return std::unique_ptr<Part>(
        new Part{data, size, before, after, false, one.extract(one.begin())});
}

class Keeper final : public c10::Allocator {
  public:
    // Returns the allocator of this process. It is never destroyed, since tensors may outlive static objects.
    static Keeper& instance() {
        static Keeper* keeper = new Keeper;
        return *keeper;
    }

    c10::DataPtr allocate(size_t n) override {
        if (n < LARGE || holds_.load(std::memory_order_acquire) == 0) {
            return with_retry([&] { return plain_->allocate(n); });
        }
        // Rounding up must not overflow.
        if (n > SIZE_MAX / 2) throw std::bad_alloc();
        void* data = with_retry([&] {
            std::lock_guard<std::mutex> guard(lock_);
            return take((n + page() - 1) / page() * page());
        });
        return {data, data, &give, c10::DeviceType::CPU};
    }

    c10::DeleterFnPtr raw_deleter() const override {
        return &give;
    }

    void copy_data(void* to, const void* from, size_t n) const override {
        default_copy_data(to, from, n);
    }

    void hold() {
        std::lock_guard<std::mutex> guard(lock_);
        holds_.fetch_add(1, std::memory_order_release);
    }

    void release() noexcept {
        std::lock_guard<std::mutex> guard(lock_);
        if (holds_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
        most_ = 0;
        return_spare();
    }

    // Returns the number of bytes of all regions, and of their spare parts.
    std::pair<size_t, size_t> bytes() noexcept {
        std::lock_guard<std::mutex> guard(lock_);
        return {bytes_, bytes_ - used_bytes_};
    }

  private:
    Keeper() : plain_(c10::GetCPUAllocator()) {
        c10::SetCPUAllocator(this);
    }

    // Returns the result of `get`. If it fails, returns the spare memory to the system and calls it again.
    template <class Get>
    auto with_retry(Get get) -> decltype(get()) {
        try {
            return get();
        } catch (...) {
            std::lock_guard<std::mutex> guard(lock_);
            if (spare_.empty()) throw;
            return_spare();
        }
        return get();
    }

    // Returns `n` bytes of the smallest spare part that is large enough, or of a new region. Spare regions are
    // first returned to the system if all regions together would exceed the maximum in use so far.
    void* take(size_t n) {
        Part* part;
        auto found = spare_.lower_bound({n, nullptr});
        if (found != spare_.end()) {
            part = found->second;
            used_.emplace(part->data, part);  // May throw, so it comes before other changes.
            part->node = spare_.extract(found);
            part->spare = false;
            split(part, n);
        } else {
            make_room(n);
            auto made = new_part(nullptr, n, nullptr, nullptr);
            std::unique_ptr<void, decltype(&c10::free_cpu)> data(c10::alloc_cpu(n), &c10::free_cpu);
            made->data = static_cast<char*>(data.get());
            used_.emplace(made->data, made.get());
            data.release();
            part = made.release();
            bytes_ += n;
        }
        used_bytes_ += part->size;
        most_ = std::max(most_, used_bytes_);
        return part->data;
    }

    // Shrinks a part to `n` bytes and makes the rest a spare part, if the rest is large.
    void split(Part* part, size_t n) noexcept {
        if (part->size - n < LARGE) return;
        Part* rest;
        try {
            rest = new_part(part->data + n, part->size - n, part, part->after).release();
        } catch (const std::bad_alloc&) {
            return;  // The part is then larger than requested.
        }
        if (rest->after != nullptr) rest->after->before = rest;
        part->after = rest;
        part->size = n;
        put(rest);
    }

    void make_room(size_t n) noexcept {
        for (auto next = spare_.end(); next != spare_.begin() && bytes_ + n > most_;) {
            Part* part = std::prev(next)->second;
            if (part->whole()) {
                forget(part);
            } else {
                --next;
            }
        }
    }

    // Marks a part as spare.
    void put(Part* part) noexcept {
        part->spare = true;
        part->node.value() = {part->size, part};
        spare_.insert(std::move(part->node));
    }

    // Returns all spare memory to the system.
    void return_spare() noexcept {
        for (auto next = spare_.begin(); next != spare_.end();) {
            let_go((next++)->second);
        }
    }

    // Returns a spare part to the system: the region, or only the pages if the region is still in use.
    void let_go(Part* part) noexcept {
        if (part->whole()) {
            forget(part);
        } else {
            clear(part);
        }
    }

    void forget(Part* part) noexcept {
        spare_.erase({part->size, part});
        bytes_ -= part->size;
        c10::free_cpu(part->data);
        delete part;
    }

    static void clear(const Part* part) noexcept {
#ifdef __linux__
        auto data = reinterpret_cast<uintptr_t>(part->data);
        auto first = (data + page() - 1) / page() * page(), end = (data + part->size) / page() * page();
        if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
#endif
    }

    // Joins a part and the next one, neither of which is in `spare_`.
    static void join(Part* part, Part* after) noexcept {
        part->size += after->size;
        part->after = after->after;
        if (part->after != nullptr) part->after->before = part;
        delete after;
    }

    void take_back(Part* part) noexcept {
        used_bytes_ -= part->size;
        if (Part* after = part->after; after != nullptr && after->spare) {
            spare_.erase({after->size, after});
            join(part, after);
        }
        if (Part* before = part->before; before != nullptr && before->spare) {
            before->node = spare_.extract({before->size, before});
            join(before, part);
            part = before;
        }
        put(part);
        if (holds_.load(std::memory_order_relaxed) == 0) let_go(part);
    }

    // Frees the memory of a tensor. Memory from the previous allocator is freed by that allocator.
    static void give(void* data) noexcept {
        auto& keeper = instance();
        {
            std::lock_guard<std::mutex> guard(keeper.lock_);
            auto found = keeper.used_.find(data);
            if (found != keeper.used_.end()) {
                Part* part = found->second;
                keeper.used_.erase(found);
                keeper.take_back(part);
                return;
            }
        }
        keeper.plain_->raw_deleter()(data);
    }

    c10::Allocator* plain_;
    std::mutex lock_;
    std::atomic<size_t> holds_{0};
    std::unordered_map<void*, Part*> used_;
    Spare spare_;
    // The number of bytes of all regions, and of their used parts.
    size_t bytes_ = 0, used_bytes_ = 0;
    // The maximum number of bytes in use since the first hold.
    size_t most_ = 0;
};

// Returns true if memory may be kept: unless the environment variable `FINETUNE_KEEP_MEMORY` is `0`.
bool wanted() noexcept {
    const char* said = std::getenv("FINETUNE_KEEP_MEMORY");
    return said == nullptr || std::strcmp(said, "0") != 0;
}

// libtorch reads its allocator without a lock. The allocator is therefore replaced when the program is loaded,
// before other threads could allocate.
const bool installed = [] {
    if (!wanted()) return false;
    Keeper::instance();
    return true;
}();

}  // namespace

extern "C" {

// Starts to keep memory. Returns false if it is never kept; `finetune_memory_release` must not be called then.
bool finetune_memory_hold() noexcept {
    if (!installed) return false;
    Keeper::instance().hold();
    return true;
}

void finetune_memory_release() noexcept {
    Keeper::instance().release();
}

void finetune_memory_bytes(size_t* all, size_t* spare) noexcept {
    *all = *spare = 0;
    if (installed) std::tie(*all, *spare) = Keeper::instance().bytes();
}

}  // extern "C"
