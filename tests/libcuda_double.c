/* A double of NVIDIA's driver: tells on stdout what it is asked to launch, and in which context. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static __thread void* current;

static int nothing(void) { return 0; }
static int count(int* n) { *n = 2; return 0; }
static int device(int* device, int ordinal) { *device = ordinal; return 0; }
static int get_current(void** context) { *context = current; return 0; }
static int set_current(void* context) { current = context; return 0; }
static int primary(void** context, int device) { *context = (void*)(uintptr_t)(0x100 + device); return 0; }
static int load(void** library) { *library = (void*)1; return 0; }
static int get_kernel(void** kernel, void* library, const char* name)
{
    *kernel = (void*)2;
    return 0;
}
static int name(int error, const char** told) { *told = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; return 0; }
static int text(int error, const char** told) { *told = "too many resources requested"; return 0; }

struct Config {
    unsigned grid[3], block[3], shared;
    void* stream;
};

/* A kernel of (pointer, long long, float). */
static int launch(const struct Config* config, void* kernel, void** given, void** extra)
{
    const unsigned *grid = config->grid, *block = config->block;
    printf("context %lx stream %lx grid %u %u %u block %u %u %u arguments %lx %ld %g\n",
           (uintptr_t)current, (uintptr_t)config->stream, grid[0], grid[1], grid[2], block[0], block[1],
           block[2], *(uintptr_t*)given[0], *(int64_t*)given[1], *(float*)given[2]);
    fflush(stdout);
    return block[0] > 512 ? 701 : 0;
}

int cuGetProcAddress_v2(const char* asked, void** found, int version, uint64_t flags, int* status)
{
    static const struct { const char* name; void* function; } known[] = {
        {"cuDeviceGetCount", count}, {"cuDeviceGet", device}, {"cuCtxGetCurrent", get_current},
        {"cuCtxSetCurrent", set_current}, {"cuDevicePrimaryCtxRetain", primary},
        {"cuLibraryLoadData", load}, {"cuLibraryGetKernel", get_kernel}, {"cuGetErrorName", name},
        {"cuGetErrorString", text}, {"cuLaunchKernelEx", launch},
        {"cuGetProcAddress", cuGetProcAddress_v2},
    };
    *found = nothing;
    if (status) *status = 0;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(asked, known[i].name)) *found = known[i].function;
    return 0;
}

int cuGetProcAddress(const char* asked, void** found, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(asked, found, version, flags, 0);
}
