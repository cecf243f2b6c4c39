// How C++ tells Rust that something failed.

#ifndef FINETUNE_MESSAGE_H
#define FINETUNE_MESSAGE_H

#include <ATen/core/grad_mode.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

namespace finetune {

// The message where there is no memory for a message. Null would mean success.
inline char* exhausted() noexcept {
    static char text[] = "out of memory";
    return text;
}

// A copy of `text` for `free_message`.
inline char* message(const char* text) noexcept {
    char* copy = strdup(text);
    return copy != nullptr ? copy : exhausted();
}

inline void free_message(char* text) noexcept {
    if (text != exhausted()) free(text);
}

// Runs `body` without recording gradients. Returns the message of what it throws, or null.
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
