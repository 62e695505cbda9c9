// Shims that let a C++ compiler read the part of hopper.cu that ranks scores: four threads of a CPU stand for the four
// that share a row.
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
inline unsigned __ballot_sync(unsigned, bool) { return 0; }
inline int __shfl_sync(unsigned, int value, int) { return value; }
inline int __popc(unsigned) { return 0; }
inline int __ffs(unsigned) { return 0; }
inline int atomicAdd(int*, int) { return 0; }
