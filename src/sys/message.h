// Error messages of the native layer for Rust.

#ifndef FINETUNE_MESSAGE_H
#define FINETUNE_MESSAGE_H

#include <ATen/core/grad_mode.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

namespace finetune {

// Returns the message that is used if there is no memory for another. Null would mean success.
inline char* exhausted() noexcept {
    static char text[] = "out of memory";
    return text;
}

// Returns a copy of `text`, to be freed with `free_message`.
inline char* message(const char* text) noexcept {
    char* copy = strdup(text);
    return copy != nullptr ? copy : exhausted();
}

inline void free_message(char* text) noexcept {
    if (text != exhausted()) free(text);
}

// Runs `body` without recording gradients. Returns the message of the exception that it throws, or null.
template <class Body>
char* caught(Body&& body) noexcept {
    try {
        at::NoGradGuard guard;
        std::forward<Body>(body)();
        return nullptr;
    } catch (const std::exception& e) {
        return message(e.what());
    } catch (...) {
        return message("an exception of unknown type");
    }
}

}  // namespace finetune

#endif
