// What tch has no symbol for. Every function catches: an exception must not cross into Rust.
#include <torch/torch.h>
