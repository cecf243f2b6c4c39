// Memory of large tensors that is used again while somebody asks for it.
//
// libtorch returns the memory of each large tensor to the system, and the system clears what it gives
// out again, page by page. A training step makes and drops gigabytes in the same sizes each time.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <mutex>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

// Smaller pieces are kept by the C library itself, in bytes.
constexpr size_t LARGE = 1 << 18;
constexpr size_t PAGE = 1 << 12;

// A part of a region of memory that the system gave, between its neighbours in that region.
struct Part {
    char* data;
    size_t size;
    Part* before;
    Part* after;
    bool spare;

    bool whole() const {
        return before == nullptr && after == nullptr;
    }
};

class Keeper final : public c10::Allocator {
  public:
    // The one of this process. It is never destroyed: tensors may outlive what is.
    static Keeper& instance() {
        static Keeper* keeper = new Keeper;
        return *keeper;
    }

    c10::DataPtr allocate(size_t n) override {
        if (n >= LARGE) {
            std::lock_guard<std::mutex> guard(lock_);
            if (holds_ > 0) {
                void* data = take((n + PAGE - 1) / PAGE * PAGE);
                return {data, data, &give, c10::DeviceType::CPU};
            }
        }
        return plain_->allocate(n);
    }

    c10::DeleterFnPtr raw_deleter() const override {
        return &give;
    }

    void copy_data(void* to, const void* from, size_t n) const override {
        default_copy_data(to, from, n);
    }

    void hold() {
        std::lock_guard<std::mutex> guard(lock_);
        ++holds_;
    }

    void release() {
        std::lock_guard<std::mutex> guard(lock_);
        if (--holds_ > 0) return;
        most_ = 0;
        for (auto next = spare_.begin(); next != spare_.end();) {
            let_go((next++)->second);
        }
    }

    // The bytes of the regions, and of what is spare in them.
    std::pair<size_t, size_t> bytes() {
        std::lock_guard<std::mutex> guard(lock_);
        return {bytes_, bytes_ - used_bytes_};
    }

  private:
    Keeper() : plain_(c10::GetCPUAllocator()) {
        c10::SetCPUAllocator(this);
    }

    // `n` bytes of the smallest spare part that has as many, else of a new region. Regions that are spare
    // are given up where all together would be larger than what was ever used at once.
    void* take(size_t n) {
        Part* part;
        auto found = spare_.lower_bound({n, nullptr});
        if (found != spare_.end()) {
            part = found->second;
            spare_.erase(found);
            part->spare = false;
            split(part, n);
        } else {
            make_room(n);
            part = new Part{static_cast<char*>(c10::alloc_cpu(n)), n, nullptr, nullptr, false};
            bytes_ += n;
        }
        used_.emplace(part->data, part);
        used_bytes_ += part->size;
        most_ = std::max(most_, used_bytes_);
        return part->data;
    }

    // Leaves a part `n` bytes and makes the rest a spare part of its own, if it is large.
    void split(Part* part, size_t n) {
        if (part->size - n < LARGE) return;
        auto* rest = new Part{part->data + n, part->size - n, part, part->after, true};
        if (rest->after != nullptr) rest->after->before = rest;
        part->after = rest;
        part->size = n;
        spare_.insert({rest->size, rest});
    }

    void make_room(size_t n) {
        for (auto next = spare_.end(); next != spare_.begin() && bytes_ + n > most_;) {
            Part* part = std::prev(next)->second;
            if (part->whole()) {
                forget(part);
            } else {
                --next;
            }
        }
    }

    // Returns what is spare to the system: the region, or the pages where the region is still in use.
    void let_go(Part* part) {
        if (part->whole()) {
            forget(part);
        } else {
            clear(part);
        }
    }

    void forget(Part* part) {
        spare_.erase({part->size, part});
        bytes_ -= part->size;
        c10::free_cpu(part->data);
        delete part;
    }

    static void clear(const Part* part) {
#ifdef __linux__
        auto data = reinterpret_cast<uintptr_t>(part->data);
        auto first = (data + PAGE - 1) / PAGE * PAGE, end = (data + part->size) / PAGE * PAGE;
        if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
#endif
    }

    // Makes one of a part and the one after it, of which at most one is in `spare_`.
    void join(Part* part, Part* after) {
        part->size += after->size;
        part->after = after->after;
        if (part->after != nullptr) part->after->before = part;
        delete after;
    }

    void take_back(Part* part) {
        used_bytes_ -= part->size;
        part->spare = true;
        if (Part* after = part->after; after != nullptr && after->spare) {
            spare_.erase({after->size, after});
            join(part, after);
        }
        if (Part* before = part->before; before != nullptr && before->spare) {
            spare_.erase({before->size, before});
            join(before, part);
            part = before;
        }
        spare_.insert({part->size, part});
        if (holds_ == 0) let_go(part);
    }

    // What every tensor's memory goes back by: what is not from here is the allocator's before.
    static void give(void* data) {
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
    size_t holds_ = 0;
    std::unordered_map<void*, Part*> used_;
    // By size, the smallest first.
    std::set<std::pair<size_t, Part*>> spare_;
    // Of all regions, and of what is used of them.
    size_t bytes_ = 0, used_bytes_ = 0;
    // The most that was in use at once since it is held.
    size_t most_ = 0;
};

}  // namespace

extern "C" {

char* finetune_memory_hold() {
    try {
        Keeper::instance().hold();
        return nullptr;
    } catch (const std::exception& e) {
        return strdup(e.what());
    }
}

void finetune_memory_release() {
    Keeper::instance().release();
}

void finetune_memory_bytes(size_t* all, size_t* spare) {
    std::tie(*all, *spare) = Keeper::instance().bytes();
}

}  // extern "C"
