// A launch as a program of its own, for the sanitizers: the arguments come in a file, each buffer in
// memory of just its size, and the buffers go back into it.
//
//   program FILE: int64 kernel, grid[3], block[3], count; then for each argument int64 bytes, and
//   the bytes; negative bytes: a buffer. The file is written anew with the buffers' contents.
#pragma once

#include <fstream>
#include <iostream>
#include <vector>

#include "grid.h"

namespace host_grid {

static int program(const Kernel* kernels, const char* path) {
    std::ifstream in(path, std::ios::binary);
    auto number = [&] {
        std::int64_t n = 0;
        in.read(reinterpret_cast<char*>(&n), sizeof n);
        return n;
    };
    const Kernel& kernel = kernels[number()];
    unsigned sizes[6];
    for (unsigned& size : sizes) size = unsigned(number());
    std::int64_t count = number();
    struct Argument {
        std::vector<char> value;
        std::int64_t bytes = 0;
        std::unique_ptr<char[]> memory;
        char* buffer = nullptr;
    };
    std::vector<Argument> given(count);
    std::vector<void*> pointers;
    for (Argument& argument : given) {
        argument.bytes = number();
        std::int64_t size = std::abs(argument.bytes);
        if (argument.bytes < 0) {
            argument.memory.reset(new char[size]);
            argument.buffer = argument.memory.get();
            in.read(argument.buffer, size);
            pointers.push_back(&argument.buffer);
        } else {
            argument.value.resize(size);
            in.read(argument.value.data(), size);
            pointers.push_back(argument.value.data());
        }
    }
    if (!in) {
        std::cerr << "the file of arguments ends too early\n";
        return 2;
    }
    std::string error = run(kernel.call, pointers.data(), {sizes[0], sizes[1], sizes[2]},
                            {sizes[3], sizes[4], sizes[5]});
    if (!error.empty()) {
        std::cerr << error << "\n";
        return 3;
    }
    std::ofstream out(path, std::ios::binary);
    for (Argument& argument : given)
        if (argument.buffer) out.write(argument.buffer, -argument.bytes);
    return out ? 0 : 2;
}

}  // namespace host_grid
