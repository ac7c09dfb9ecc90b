// A GPU's launch grid on one CPU: blocks one after another, the threads of a block as fibers.
//
// What cuda_host.h and metal_stdlib give a language its meaning with:
//   - a fiber runs until it ends, or waits at a barrier of its block or of its warp (32 threads, a
//     simdgroup in Metal's words); in every second phase the threads of a block run in reverse
//     order, so that a missing barrier shows in the result;
//   - shared memory is filled with NaN before each block, for it holds anything on a GPU;
//   - a barrier that some threads of a block do not reach ends the launch with a message; a GPU
//     would hang, or go on with wrong numbers.
// Under ThreadSanitizer each block has an operating system's thread, each GPU thread a fiber that
// the sanitizer knows, and nothing but barriers orders them: it sees races within a block, and
// those between blocks.
#pragma once

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define HOST_GRID_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#define HOST_GRID_SHARED static thread_local
#elif defined(__SANITIZE_ADDRESS__)
#define HOST_GRID_UNSEEN __attribute__((no_sanitize("address"), noinline))
#define HOST_GRID_SHARED static
#else
#define HOST_GRID_UNSEEN
#define HOST_GRID_SHARED static __attribute__((section("shared_memory")))
extern "C" char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define HOST_GRID_SANITIZED
#endif

namespace host_grid {

constexpr unsigned WARP = 32, MOST_THREADS = 1024;
constexpr std::size_t STACK = 256 * 1024;  // touched pages alone take memory

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
    unsigned long long count() const { return 1ull * x * y * z; }
};

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Thread {
    Dim3 index;
    unsigned linear = 0;
    State state = State::ready;
    std::uint64_t slot = 0;  // what the other lanes of the warp may read
    bool started = false;
    ucontext_t context;
#ifdef HOST_GRID_SANITIZED
    void* fiber = nullptr;
#else
    jmp_buf jump;
#endif
    std::unique_ptr<char[]> stack;
};

using Call = void (*)(void** arguments);

struct Launch {
    Dim3 grid, block, block_index;
    Call call;
    void** arguments;
};

static Launch launch_now;
static Thread* running;
static Thread* fibers[MOST_THREADS];  // made as they are wanted
static unsigned fibers_made;
static ucontext_t scheduler_context;
#ifdef HOST_GRID_SANITIZED
static void* scheduler_fiber;
#else
static jmp_buf scheduler_jump;
#endif
static char block_token, end_token, warp_tokens[MOST_THREADS / WARP];

HOST_GRID_UNSEEN static Dim3 thread_index() { return running->index; }
HOST_GRID_UNSEEN static unsigned thread_linear() { return running->linear; }
HOST_GRID_UNSEEN static Dim3 block_index() { return launch_now.block_index; }
HOST_GRID_UNSEEN static Dim3 block_size() { return launch_now.block; }
HOST_GRID_UNSEEN static Dim3 grid_size() { return launch_now.grid; }

__attribute__((noinline)) HOST_GRID_UNSEEN static void enter(Thread& thread) {
    running = &thread;
#ifdef HOST_GRID_SANITIZED
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(thread.fiber, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&scheduler_context, &thread.context);
#else
    // setjmp saves no signal mask, which swapcontext asks the kernel for each time
    if (_setjmp(scheduler_jump) == 0) {
        if (thread.started) _longjmp(thread.jump, 1);
        thread.started = true;
        setcontext(&thread.context);
    }
#endif
}

__attribute__((noinline)) HOST_GRID_UNSEEN static void leave(State state) {
    running->state = state;
#ifdef HOST_GRID_SANITIZED
    Thread& self = *running;
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(scheduler_fiber, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&self.context, &scheduler_context);
#else
    if (_setjmp(running->jump) == 0) _longjmp(scheduler_jump, 1);
#endif
}

HOST_GRID_UNSEEN static void body() {
    for (;;) {  // a fiber is used again by the thread that has its place in the next block
        launch_now.call(launch_now.arguments);
#ifdef __SANITIZE_THREAD__
        __tsan_release(&end_token);
#endif
        leave(State::done);
    }
}

__attribute__((noinline)) HOST_GRID_UNSEEN static void ordered(State barrier, char* token) {
#ifdef __SANITIZE_THREAD__
    __tsan_release(token);
#endif
    leave(barrier);
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(token);
#endif
    (void)token;
}

static void block_barrier() { ordered(State::at_block_barrier, &block_token); }
HOST_GRID_UNSEEN static void warp_barrier() {
    ordered(State::at_warp_barrier, &warp_tokens[running->linear / WARP]);
}

// What the thread in `lane` of this warp gives as `value`; of a lane that is not there, one's own.
template <class T>
HOST_GRID_UNSEEN static T from_lane(T value, unsigned lane) {
    static_assert(sizeof(T) <= 8, "a lane gives up to eight bytes");
    std::memcpy(&running->slot, &value, sizeof(T));
    warp_barrier();
    unsigned other = running->linear / WARP * WARP + lane;
    T given = value;
    if (lane < WARP && other < launch_now.block.count())
        std::memcpy(&given, &fibers[other]->slot, sizeof(T));
    warp_barrier();
    return given;
}

// The fold of all lanes of this warp, in a tree; missing lanes count nothing.
template <class T, class Fold>
HOST_GRID_UNSEEN static T over_warp(T value, Fold fold) {
    unsigned lane = running->linear % WARP, first = running->linear - lane;
    unsigned lanes = std::min<unsigned>(WARP, launch_now.block.count() - first);
    for (unsigned step = WARP / 2; step; step /= 2) {
        T other = from_lane(value, lane + step);
        if (lane + step < lanes) value = fold(value, other);
    }
    return from_lane(value, 0);
}

HOST_GRID_UNSEEN static void make_fibers(unsigned count) {
    while (fibers_made < count) {
        Thread* thread = fibers[fibers_made++] = new Thread;
        thread->stack.reset(new char[STACK]);
        getcontext(&thread->context);
        thread->context.uc_stack.ss_sp = thread->stack.get();
        thread->context.uc_stack.ss_size = STACK;
        thread->context.uc_link = nullptr;
        makecontext(&thread->context, body, 0);
#ifdef __SANITIZE_THREAD__
        thread->fiber = __tsan_create_fiber(0);
#endif
    }
}

HOST_GRID_UNSEEN static void drop_fibers() {
    for (; fibers_made; delete fibers[--fibers_made]) {
#ifdef __SANITIZE_THREAD__
        __tsan_destroy_fiber(fibers[fibers_made - 1]->fiber);
#endif
    }
}

static std::string told(Dim3 at) {
    return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

// Why nobody can go on.
HOST_GRID_UNSEEN static std::string stuck(unsigned threads) {
    const Thread *waiting = nullptr, *other = nullptr;
    for (unsigned i = 0; i < threads; i++)
        if (fibers[i]->state != State::done && !waiting) waiting = fibers[i];
    for (unsigned i = 0; i < threads; i++)
        if (fibers[i]->state != waiting->state) other = fibers[i];
    std::string kind = waiting->state == State::at_block_barrier ? "block's" : "warp's";
    std::string elsewhere = !other ? "" : "thread " + told(other->index) +
        (other->state == State::done ? " has ended" : " waits at another kind of barrier");
    return "a barrier is not reached by all threads: in block " + told(launch_now.block_index) +
        " thread " + told(waiting->index) + " waits at the " + kind + " barrier, " + elsewhere;
}

// Whether all threads from `first` on that have not ended wait there, and none has ended.
HOST_GRID_UNSEEN static bool all_wait(unsigned first, unsigned end, State barrier) {
    for (unsigned i = first; i < end; i++)
        if (fibers[i]->state != barrier) return false;
    return true;
}

HOST_GRID_UNSEEN static void release(unsigned first, unsigned end) {
    for (unsigned i = first; i < end; i++) fibers[i]->state = State::ready;
}

HOST_GRID_UNSEEN static std::string run_block() {
    const Dim3 size = launch_now.block;
    const unsigned threads = size.count();
    make_fibers(threads);
    for (unsigned i = 0; i < threads; i++) {
        Thread& thread = *fibers[i];
        thread.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        thread.linear = i;
        thread.state = State::ready;
    }
#ifndef HOST_GRID_SANITIZED
    if (__start_shared_memory)
        std::memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
#endif
    for (bool forward = true;; forward = !forward) {
        for (unsigned i = 0; i < threads; i++) {
            Thread& thread = *fibers[forward ? i : threads - 1 - i];
            if (thread.state == State::ready) enter(thread);
        }
        if (all_wait(0, threads, State::done)) return "";
        bool released = all_wait(0, threads, State::at_block_barrier);
        if (released) release(0, threads);
        for (unsigned first = 0; first < threads; first += WARP) {
            unsigned end = std::min(first + WARP, threads);
            if (!all_wait(first, end, State::at_warp_barrier)) continue;
            release(first, end);
            released = true;
        }
        if (!released) return stuck(threads);
    }
}

// Runs the whole grid. Returns why it could not, or nothing.
HOST_GRID_UNSEEN static std::string run(Call call, void** arguments, Dim3 grid, Dim3 block) {
    if (!grid.count() || !block.count() || block.count() > MOST_THREADS)
        return "a launch needs 1 to 1024 threads a block and at least one block, got " +
            told(block) + " threads and " + told(grid) + " blocks";
    std::string error;
    for (unsigned long long i = 0; i < grid.count() && error.empty(); i++) {
        Dim3 at = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y),
                   unsigned(i / (1ull * grid.x * grid.y))};
        launch_now = {grid, block, at, call, arguments};
#ifdef __SANITIZE_THREAD__
        std::thread([&] {
            scheduler_fiber = __tsan_get_current_fiber();
            error = run_block();
            drop_fibers();
        }).join();
#else
        error = run_block();
#endif
    }
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(&end_token);
#endif
    if (!error.empty()) drop_fibers();
    return error;
}

// Argument number I of a kernel, as its parameter has it; what the pointer points to is the value,
// as in cuLaunchKernel. Numbers are of 64 bits, or float.
template <class Parameter>
static auto& argument(void* value) {
    using Plain = std::remove_cv_t<std::remove_reference_t<Parameter>>;
    static_assert(std::is_pointer<Plain>::value || std::is_same<Plain, float>::value ||
                      (std::is_integral<Plain>::value && sizeof(Plain) == 8),
                  "a kernel takes pointers, 64-bit integers and floats");
    return *static_cast<Plain*>(value);
}

template <std::size_t I, class Function>
struct Nth;
template <std::size_t I, class... Parameters>
struct Nth<I, void(Parameters...)> {
    using type = std::tuple_element_t<I, std::tuple<Parameters...>>;
};
template <std::size_t I, class Function>
using Parameter = typename Nth<I, Function>::type;

struct Kernel {
    const char* name;
    Call call;
};

}  // namespace host_grid
