// The screen of assign.py for Hopper (sm_90a): fp16 products, a running top two per row, the certificate.
//
// Warpgroup 0 copies; warpgroups 1 and 2 multiply 64 rows each by COLUMNS centroids. Rows and centroids lie in
// tiles of 64 features, already in the 128-byte swizzle (canonical.place), so one plain bulk copy moves a tile.
// A score s becomes the integer in the low bits of s + 768, which is s rounded to a grid of 2^-14; times 2^16
// plus a code of its column it is one key, and integer maxima keep score and column together. docs/gpu.md.
//
// hopper.py compiles this with COLUMNS and STAGES defined and with `product`, the wgmma for COLUMNS, in front.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int ROWS = 128;
constexpr u32 ROW_BYTES = ROWS * 128, COLUMN_BYTES = COLUMNS * 128, STAGE_BYTES = ROW_BYTES + COLUMN_BYTES;
constexpr int LOWEST = -2147483647 - 1;

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    u32 done;
    do {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    } while (!done);
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void copy(u32 target, const char* source, u32 bytes, u32 barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        ::"r"(target), "l"(source), "r"(bytes), "r"(barrier) : "memory");
}

// Matrix descriptor: 128-byte swizzle, 1024 bytes from one group of eight rows to the next.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64{1} << 62) | (u64{1024 >> 4} << 32) | (u64{1} << 16) | ((address & 0x3FFFF) >> 4);
}

// A row's two largest keys so far, and a bound on every other; a key is score * 2^16 + column tile * 64 + place in
// the thread's columns.
struct Top {
    int best, second, third;
};

// Joins a chunk of columns, of which only the two largest keys are known: the rest of it is at most `second`.
__device__ __forceinline__ void merge(Top& top, int best, int second) {
    int loser = min(top.best, best), runner = max(top.second, second);
    top.best = max(top.best, best);
    top.third = max(max(min(loser, runner), top.third), second);
    top.second = max(loser, runner);
}

// The top two of a row's sums in this thread, CHUNK columns at a time.
template <bool MASKED>
__device__ __forceinline__ void rank(const float (&sums)[COLUMNS / 2], int row, int tile, int n_columns, int shift,
                                     Top& top) {
    constexpr int CHUNK = 32;
    int column = tile * COLUMNS + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int start = 0; start < COLUMNS / 4; start += CHUNK) {
        int keys[CHUNK], best = LOWEST;
        u32 behind = 0;
#pragma unroll
        for (int i = 0; i < CHUNK; ++i) {
            int place = start + i;
            if (place >= COLUMNS / 4) break;
            // 2^9 <= s + 768 < 2^10: the addition rounds s to a multiple of 2^-14. `shift` is 2^16, unknown to the
            // compiler, so that this stays one multiply-add, off the unit that the maxima keep busy
            float sum = sums[4 * (place / 2) + 2 * row + place % 2];
            keys[i] = __float_as_int(sum + 768.0f) * shift + place;
            if (MASKED && column + 8 * (place / 2) + place % 2 >= n_columns) keys[i] = LOWEST + place;
            if (i % 2) best = max(max(best, keys[i - 1]), keys[i]);
        }
        // keys differ, so as unsigned numbers key - best is 0 for the best alone, and largest for the second
#pragma unroll
        for (int i = 0; i < CHUNK; ++i) {
            if (start + i >= COLUMNS / 4) break;
            behind = max(behind, static_cast<u32>(keys[i]) - static_cast<u32>(best));
        }
        int second = static_cast<int>(static_cast<u32>(best) + behind);
        merge(top, best + tile * 64, second + tile * 64);
    }
}

// What a row's four threads have found, joined: scores and columns of the best two, a bound on every other score.
struct Found {
    int score, column, second, second_column, third;
};

__device__ __forceinline__ int column_of(int key) {
    int code = key & 0xFFFF;
    return (code >> 6) * COLUMNS + 8 * ((code & 63) / 2) + code % 2 + 2 * int(threadIdx.x % 4);
}

__device__ __forceinline__ Found join(Top top) {
    Found found = {top.best >> 16, column_of(top.best), top.second >> 16, column_of(top.second), top.third >> 16};
#pragma unroll
    for (int mask = 1; mask <= 2; mask *= 2) {
        Found other = {__shfl_xor_sync(~0u, found.score, mask), __shfl_xor_sync(~0u, found.column, mask),
                       __shfl_xor_sync(~0u, found.second, mask), __shfl_xor_sync(~0u, found.second_column, mask),
                       __shfl_xor_sync(~0u, found.third, mask)};
        bool theirs = other.score > found.score || (other.score == found.score && other.column < found.column);
        Found first = theirs ? other : found, last = theirs ? found : other;
        found.score = first.score;
        found.column = first.column;
        // the runner-up is either the second of the winner or the best of the loser
        bool behind = first.second >= last.score;
        found.second = behind ? first.second : last.score;
        found.second_column = behind ? first.second_column : last.column;
        found.third = max(max(first.third, last.third), behind ? last.score : max(first.second, last.second));
    }
    return found;
}

struct Output {
    const float* residuals;
    const int* original;
    const float* bounds;
    int* labels;
    int* list;
    float* list_scores;
    int* pair_rows;
    int* pair_columns;
    int* counts;
    long long start, end;
    float accumulation;
};

// A place of its own for every asking lane of the warp, from a counter in memory.
__device__ __forceinline__ int take_place(bool asks, int* counter) {
    u32 asking = __ballot_sync(~0u, asks);
    if (asking == 0) return 0;
    int lane = threadIdx.x % 32, leader = __ffs(asking) - 1, base = 0;
    if (lane == leader) base = atomicAdd(counter, __popc(asking));
    return __shfl_sync(~0u, base, leader) + __popc(asking & ((1u << lane) - 1));
}

// Label the row. Unless the gap proves its label (assign.certified_gap, with the grid's 2^-15) it is listed: with
// its two candidates if all other scores lie too low, else to be screened again.
__device__ __forceinline__ void conclude(const Found& found, long long row, const Output& out) {
    bool crowded = false, pair = false;
    if (threadIdx.x % 4 == 0 && row >= out.start && row < out.end) {
        float residual = out.residuals[row];
        float half = 1.0f + 1.9073486328125e-6f + residual;
        float error = residual * out.bounds[1] + half * (out.bounds[0] + out.accumulation * out.bounds[2]);
        error += 3.0517578125e-5f + 2.842170943040401e-14f;
        float limit = 2.0f * error * 1.000003814697265625f;
        bool certain = static_cast<float>(found.score - found.second) * 6.103515625e-5f > limit;
        bool only_two = static_cast<float>(found.score - found.third) * 6.103515625e-5f > limit;
        bool kept = residual >= 0.0f;
        out.labels[row - out.start] = kept ? out.original[found.column] : -1;
        pair = kept && !certain && only_two;
        crowded = kept && !certain && !only_two;
    }
    int at = take_place(crowded, out.counts);
    if (crowded) {
        out.list[at] = static_cast<int>(row - out.start);
        out.list_scores[at] = static_cast<float>(found.score) * 6.103515625e-5f;
    }
    at = take_place(pair, out.counts + 1);
    if (pair) {
        out.pair_rows[at] = static_cast<int>(row - out.start);
        out.pair_columns[2 * at] = min(found.column, found.second_column);
        out.pair_columns[2 * at + 1] = max(found.column, found.second_column);
    }
}

extern "C" __global__ void __launch_bounds__(384, 1)
screen(const char* __restrict__ rows, const char* __restrict__ centroids, const int* __restrict__ n_columns_at,
       Output out, int steps, int shift) {
    extern __shared__ char unaligned[];
    __shared__ u64 barriers[2 * STAGES];
    u32 stages = (shared_address(unaligned) + 1023) & ~1023u;
    u32 full = shared_address(barriers), empty = full + 8 * STAGES;
    int n_columns = *n_columns_at;
    int n_column_tiles = (n_columns + COLUMNS - 1) / COLUMNS;
    int first_tile = static_cast<int>(out.start / ROWS), end_tile = static_cast<int>((out.end + ROWS - 1) / ROWS);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(full + 8 * i), "r"(1));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(empty + 8 * i), "r"(2));
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    u32 stage = 0, parity = 0;
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (int tile = first_tile + blockIdx.x; tile < end_tile; tile += gridDim.x) {
                const char* source = rows + static_cast<u64>(tile) * steps * ROW_BYTES;
                for (int i = 0; i < n_column_tiles * steps; ++i) {
                    u32 target = stages + stage * STAGE_BYTES, barrier = full + 8 * stage;
                    // forth and back: what was read last is read first, and still in the cache where a tile of long
                    // rows for every multiprocessor is more than that holds
                    int column_tile = i / steps, step = i % steps;
                    if (column_tile % 2) step = steps - 1 - step;
                    u64 column_place = static_cast<u64>(column_tile) * steps + step;
                    wait(empty + 8 * stage, parity ^ 1);
                    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                                 "r"(STAGE_BYTES) : "memory");
                    copy(target, source + static_cast<u64>(step) * ROW_BYTES, ROW_BYTES, barrier);
                    copy(target + ROW_BYTES, centroids + column_place * COLUMN_BYTES, COLUMN_BYTES, barrier);
                    if (++stage == STAGES) stage = 0, parity ^= 1;
                }
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        int group = threadIdx.x / 128 - 1, warp = threadIdx.x % 128 / 32;
        bool speaks = threadIdx.x % 128 == 0;
        float sums[COLUMNS / 2];
        for (int tile = first_tile + blockIdx.x; tile < end_tile; tile += gridDim.x) {
            Top upper = {LOWEST, LOWEST, LOWEST}, lower = upper;
            for (int column_tile = 0; column_tile < n_column_tiles; ++column_tile) {
                u32 previous = 0;
                for (int step = 0; step < steps; ++step) {
                    u32 base = stages + stage * STAGE_BYTES;
                    wait(full + 8 * stage, parity);
                    u64 a = descriptor(base + group * 8192), b = descriptor(base + ROW_BYTES);
                    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                    for (int k = 0; k < 4; ++k) product(sums, a + 2 * k, b + 2 * k, step + k > 0);
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                    if (step > 0) {
                        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                        if (speaks) arrive(empty + 8 * previous);
                    }
                    previous = stage;
                    if (++stage == STAGES) stage = 0, parity ^= 1;
                }
                asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
                if (speaks) arrive(empty + 8 * previous);
                if ((column_tile + 1) * COLUMNS <= n_columns) {
                    rank<false>(sums, 0, column_tile, n_columns, shift, upper);
                    rank<false>(sums, 1, column_tile, n_columns, shift, lower);
                } else {
                    rank<true>(sums, 0, column_tile, n_columns, shift, upper);
                    rank<true>(sums, 1, column_tile, n_columns, shift, lower);
                }
            }
            long long row = static_cast<long long>(tile) * ROWS + group * 64 + warp * 16 + threadIdx.x % 32 / 4;
            conclude(join(upper), row, out);
            conclude(join(lower), row + 8, out);
        }
    }
}
