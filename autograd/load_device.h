// Which of a machine's devices a process uses, said before CUDA starts. load_device() itself is in
// autograd/device.h.
#pragma once

#include <string_view>

namespace tandem {

// Of "cuda:N", as load_device takes it, shows this process that one device. Must come before whatever starts
// CUDA, and an MPI that knows CUDA starts it when it joins the ranks: so before nn::join_ranks(), and
// load_device after it. Does nothing for other names, nor where the choice is wrong: load_device says what
// is.
void choose_device(std::string_view name);

}  // namespace tandem
