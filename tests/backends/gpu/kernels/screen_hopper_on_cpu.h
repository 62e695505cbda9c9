// Shims that let a C++ compiler read the part of screen_hopper.cu that ranks scores and concludes rows: four threads of a CPU
// stand for the four that share a row, or 32 for a warp.
#include <algorithm>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>
#define __device__
#define __forceinline__ inline
#define __restrict__
using std::max;
using std::min;
struct Index {
    unsigned x;
};
inline thread_local Index threadIdx;
inline Index blockIdx, gridDim;
inline int __float_as_int(float value) { int bits; std::memcpy(&bits, &value, 4); return bits; }
inline float __int_as_float(int bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline std::barrier<> meeting(4);
inline int passed[4];
inline int __shfl_xor_sync(unsigned, int value, int mask) {
    passed[threadIdx.x] = value;
    meeting.arrive_and_wait();
    int theirs = passed[threadIdx.x ^ mask];
    meeting.arrive_and_wait();
    return theirs;
}
inline unsigned __cvta_generic_to_shared(const void*) { return 0; }
inline std::barrier<> warp(32);
inline unsigned asked[32];
inline int told;
inline void __syncwarp() { warp.arrive_and_wait(); }
inline unsigned __ballot_sync(unsigned, bool asks) {
    asked[threadIdx.x] = asks;
    __syncwarp();
    unsigned bits = 0;
    for (int lane = 0; lane < 32; ++lane) bits |= asked[lane] << lane;
    __syncwarp();
    return bits;
}
inline int __shfl_sync(unsigned, int value, int lane) {
    if (static_cast<int>(threadIdx.x) == lane) told = value;
    __syncwarp();
    int theirs = told;
    __syncwarp();
    return theirs;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int atomicAdd(int* counter, int more) { return (*counter += more) - more; }
