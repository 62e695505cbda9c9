// The screen of screen.py for Hopper (sm_90a): products, a running top two per row, the certificate.
// docs/design-gpu.md.
//
// Warpgroup 0 copies; GROUPS others multiply 64 rows each by COLUMNS centroids. Rows are stored in tiles of 64,
// centroids in tiles of COLUMNS, 128 bytes each, already in the 128-byte swizzle (exact.tile_offset): one plain bulk
// copy moves a tile.
//
// A score becomes one integer key that grows with the score and ends in the position of its column among the columns of
// a thread, so that integer maxima keep score and column together. Of a float score the key is its own bits, of which
// the position takes the last six: that takes less than 2^-17 of the score away. Scores below zero are in no order, but
// after all others: they count as "at most 0", and a row without a better one is screened again. 8-bit products
// (INTEGERS) are exact; their key is 64 times the sum plus the position. HOLD of a thread's two rows are put aside when
// their products are ready and ranked while the next products run: otherwise the tensor cores would wait. What matters
// most is few instructions per score: each takes time from the tensor cores, whatever unit it runs on.
//
// screen_hopper.py compiles this. It defines GROUPS, COLUMNS, STAGES, HOLD and INTEGERS, POSITIONS, SAMPLED, and the
// parts of the certificate UNIT_EXCESS, UNDERFLOW and BOUND_ROUNDING; then `product`, the wgmma for COLUMNS, and `Sum`,
// what it adds up.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int ROWS = 64 * GROUPS;
constexpr u32 TILE_BYTES = 64 * 128, ROW_BYTES = GROUPS * TILE_BYTES;
constexpr u32 COLUMN_BYTES = COLUMNS * 128, STAGE_BYTES = ROW_BYTES + COLUMN_BYTES;
constexpr int LOWEST = -2147483647 - 1;
constexpr float LEAST = -4.0f;  // below any score
constexpr int THREAD_COLUMNS = COLUMNS / 4;  // columns of a row in one thread; its positions are counted from 0
constexpr int POSITION_MASK = POSITIONS - 1, POSITION_BITS = 6;
static_assert(POSITIONS == 1 << POSITION_BITS && THREAD_COLUMNS <= POSITIONS, "a key ends in the position");
constexpr int CHUNKS = THREAD_COLUMNS > 32 ? 2 : 1;  // ranked at once: more keys than 32 would not fit in registers
constexpr int CHUNK_COLUMNS = ((THREAD_COLUMNS / 2 + CHUNKS - 1) / CHUNKS) * 2;
constexpr int HELD_CHUNKS = HOLD * CHUNKS;  // one is ranked after each step of the next products

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

__device__ __forceinline__ void expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
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

// A row's two largest keys so far with their column tiles, and a bound on every other key.
struct Top {
    int best = LOWEST, second = LOWEST, third = LOWEST, best_tile = 0, second_tile = 0;
};

// The two largest keys of a row in one column tile.
struct Pair {
    int best, second;
};

// A sum of products as a key. Sums of columns that do not exist are set to `ABSENT` before: their keys are below all
// others.
#if INTEGERS
constexpr int ABSENT = -(1 << 25);
// `positions` is POSITIONS, but the compiler does not know that: so this stays one multiply-add, which runs on another
// unit than the maxima
__device__ __forceinline__ int held_of(int sum, int position, int positions) { return sum * positions + position; }
__device__ __forceinline__ int key_of(int held) { return held; }
#else
constexpr float ABSENT = -0.0f;  // its bits are the lowest number
__device__ __forceinline__ float held_of(float sum, int position, int) {
#ifdef __CUDA_ARCH__
    // volatile: otherwise the compiler would read sums while products are added to them, and serialise the products
    float key;
    asm volatile("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=f"(key) : "f"(sum), "n"(~POSITION_MASK), "r"(position));
    return key;
#else
    return __int_as_float((__float_as_int(sum) & ~POSITION_MASK) | position);
#endif
}
__device__ __forceinline__ int key_of(float held) { return __float_as_int(held); }
#endif

// Ranks the positions from START to END of a row of a thread.
template <int START, int END>
__device__ __forceinline__ void rank(const Sum (&held)[COLUMNS / 2], int row, Pair& pair) {
    int keys[END - START], best = LOWEST;
    u32 behind = 0;
#pragma unroll
    for (int i = 0; i < END - START; ++i) {
        int position = START + i;
        keys[i] = key_of(held[4 * (position / 2) + 2 * row + position % 2]);
        if (i % 2) best = max(max(best, keys[i - 1]), keys[i]);
    }
    // keys differ, so as an unsigned number key - best is 0 for the best alone, and largest for the second
#pragma unroll
    for (int i = 0; i < END - START; ++i) behind = max(behind, static_cast<u32>(keys[i]) - static_cast<u32>(best));
    int second = static_cast<int>(static_cast<u32>(best) + behind);
    pair.second = max(max(pair.second, second), min(pair.best, best));
    pair.best = max(pair.best, best);
}

// Joins a column tile, of which only the two largest keys are known: the rest of it is at most `second`.
__device__ __forceinline__ void merge(Top& top, const Pair& pair, int tile) {
    bool won = pair.best > top.best, ahead = pair.second > top.second;
    int loser = min(top.best, pair.best), loser_tile = won ? top.best_tile : tile;
    int runner = max(top.second, pair.second), runner_tile = ahead ? tile : top.second_tile;
    top.best = max(top.best, pair.best);
    top.best_tile = won ? tile : top.best_tile;
    top.third = max(max(min(loser, runner), top.third), pair.second);
    top.second = max(loser, runner);
    top.second_tile = loser > runner ? loser_tile : runner_tile;
}

// One chunk of one row; with the last chunk of a row its column tile joins the row's top two.
template <int ROW, int CHUNK>
__device__ __forceinline__ void rank_chunk(const Sum (&held)[COLUMNS / 2], int tile, Pair& pair, Top& top) {
    if (CHUNK == 0) pair.best = pair.second = LOWEST;
    rank<CHUNK * CHUNK_COLUMNS, (CHUNK + 1 == CHUNKS ? THREAD_COLUMNS : (CHUNK + 1) * CHUNK_COLUMNS)>(held, ROW, pair);
    if (CHUNK + 1 == CHUNKS) merge(top, pair, tile);
}

template <int ROW>
__device__ __forceinline__ void rank_row(const Sum (&held)[COLUMNS / 2], int tile, Pair& pair, Top& top) {
    rank_chunk<ROW, 0>(held, tile, pair, top);
    if (CHUNKS > 1) rank_chunk<ROW, CHUNKS - 1>(held, tile, pair, top);
}

// The same by number, for the rows that are held: the second, or both.
template <int CHUNK>
__device__ __forceinline__ void rank_held_chunk(const Sum (&held)[COLUMNS / 2], int tile, Pair& pair, Top (&top)[2]) {
    if (CHUNK < HELD_CHUNKS) {
        constexpr int ROW = (2 - HOLD + CHUNK / CHUNKS) % 2;
        rank_chunk<ROW, CHUNK % CHUNKS>(held, tile, pair, top[ROW]);
    }
}

__device__ __forceinline__ void rank_held(const Sum (&held)[COLUMNS / 2], int tile, Pair& pair, Top (&top)[2]) {
    rank_held_chunk<0>(held, tile, pair, top);
    rank_held_chunk<1>(held, tile, pair, top);
    rank_held_chunk<2>(held, tile, pair, top);
    rank_held_chunk<3>(held, tile, pair, top);
}

// What the four threads of a row have found, joined: codes (keys without positions) and columns of the best two, and a
// bound on every other code.
struct Found {
    int score, column, second, second_column, third;
};

__device__ __forceinline__ int column_of(int key, int tile) {
    int position = key & POSITION_MASK;
    return tile * COLUMNS + 8 * (position / 2) + position % 2 + 2 * int(threadIdx.x % 4);
}

__device__ __forceinline__ Found join(const Top& top) {
    Found found = {top.best >> POSITION_BITS, column_of(top.best, top.best_tile), top.second >> POSITION_BITS,
                   column_of(top.second, top.second_tile), top.third >> POSITION_BITS};
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
    const float* units;
    const int* original;
    const float* bounds;
    int* labels;
    int* list;
    float* list_scores;
    int* pair_rows;
    int* pair_clusters;
    int* counts;
    const int* listed;
    const int* n_listed;
    long long start, end;
    float accumulation, rounding, close;
    int n_clusters;
};

// What is known of a row before its products, read while they run. The first of the four threads of a row has it.
struct Row {
    bool exists;
    float residual, unit;
};

__device__ __forceinline__ Row read_row(const Output& out, long long row, long long end) {
    Row found = {threadIdx.x % 4 == 0 && row >= out.start && row < end};
    if (found.exists) {
        found.residual = out.residuals[row];
        found.unit = out.units[row];
#if INTEGERS
        found.unit *= out.bounds[3];
#endif
    }
    return found;
}

// Rows that a warp lists in shared memory. They are written to memory when there are many, since an atomic addition to
// the counter there, which gives their indices, takes long.
struct Listing {
    int* entries;  // one after another
    int n = 0;     // of them, the same in all lanes
};
constexpr int ENTRIES = 40, FULL = ENTRIES - 16;  // up to 16 rows are added at once
constexpr int MANY_WORDS = 2, PAIR_WORDS = 3;  // of an entry: row and best score; row and two columns

template <int WORDS>
__device__ __forceinline__ void append(Listing& to, bool asks, const int (&entry)[WORDS]) {
    u32 asking = __ballot_sync(~0u, asks);
    if (asks) {
        int item = to.n + __popc(asking & ((1u << threadIdx.x % 32) - 1));
#pragma unroll
        for (int word = 0; word < WORDS; ++word) to.entries[WORDS * item + word] = entry[word];
    }
    to.n += __popc(asking);
}

// The index in memory of the first of these entries, in all lanes.
__device__ __forceinline__ int reserve(const Listing& from, int* counter) {
    __syncwarp();
    int first = 0;
    if (threadIdx.x % 32 == 0) first = atomicAdd(counter, from.n);
    return __shfl_sync(~0u, first, 0);
}

__device__ __forceinline__ void write_many(Listing& from, const Output& out) {
    int first = reserve(from, out.counts);
    for (int i = threadIdx.x % 32; i < from.n; i += 32) {
        const int* entry = from.entries + MANY_WORDS * i;
        out.list[first + i] = entry[0];
        out.list_scores[first + i] = __int_as_float(entry[1]);
    }
    __syncwarp();
    from.n = 0;
}

__device__ __forceinline__ void write_pairs(Listing& from, const Output& out) {
    int first = reserve(from, out.counts + 1);
    for (int i = threadIdx.x % 32; i < from.n; i += 32) {
        const int* entry = from.entries + PAIR_WORDS * i;
        out.pair_rows[first + i] = entry[0];
        out.pair_clusters[2 * (first + i)] = out.original[entry[1]];
        out.pair_clusters[2 * (first + i) + 1] = out.original[entry[2]];
    }
    __syncwarp();
    from.n = 0;
}

__device__ __forceinline__ void write_if_longer(int length, Listing& many, Listing& pairs, const Output& out) {
    if (many.n > length) write_many(many, out);
    if (pairs.n > length) write_pairs(pairs, out);
}

__device__ __forceinline__ void count(bool is, int* counter) {
    u32 those = __ballot_sync(~0u, is);
    if (those != 0 && threadIdx.x % 32 == 0) atomicAdd(counter, __popc(those));
}

#if INTEGERS
__device__ __forceinline__ bool is_known(int) { return true; }
__device__ __forceinline__ float value_of(int code) { return static_cast<float>(code); }
#else
__device__ __forceinline__ bool is_known(int code) { return code >= 0; }
__device__ __forceinline__ float value_of(int code) {
    return is_known(code) ? __int_as_float(code << POSITION_BITS) : 0.0f;
}
#endif

// Labels the row. Unless the gap proves its label (screen.certified_gap) it is listed: with its two candidates if all
// other scores are too low, otherwise to be screened again. `close`: of a sample, rows whose second or third score is
// that near are counted. Where there are as many columns as clusters, column and cluster are the same number.
__device__ __forceinline__ void conclude(const Found& found, const Row& row, long long number, int n_columns,
                                         const Output& out, Listing& many, Listing& pairs) {
    bool several = false, pair = false, close_second = false, close_third = false;
    int target = 0;
    float best = 0.0f;
    if (row.exists) {
        target = out.listed ? out.listed[number] : static_cast<int>(number - out.start);
        float residual = row.residual;
        float row_quantised = 1.0f + UNIT_EXCESS + residual;
        float error = residual * out.bounds[1] + row_quantised * (out.bounds[0] + out.accumulation * out.bounds[2]);
        error += out.rounding + UNDERFLOW;
        float limit = 2.0f * error * (1.0f + BOUND_ROUNDING);
        best = value_of(found.score) * row.unit;
        float ahead = best - value_of(found.second) * row.unit, of_third = best - value_of(found.third) * row.unit;
        bool certain = ahead > limit || n_columns == 1, only_two = of_third > limit, kept = residual >= 0.0f;
        close_second = kept && ahead <= out.close;
        close_third = kept && of_third <= out.close;
        int label = n_columns == out.n_clusters ? found.column : out.original[found.column];
        out.labels[target] = kept ? label : -1;
        pair = kept && !certain && only_two;
        several = kept && !certain && !only_two;
        if (!is_known(found.score)) best = LEAST;
    }
    append<MANY_WORDS>(many, several, {target, __float_as_int(best)});
    append<PAIR_WORDS>(pairs, pair,
                       {target, min(found.column, found.second_column), max(found.column, found.second_column)});
    if (out.close > 0.0f && number / ROWS % SAMPLED == 0) {  // of a tile, so of a whole warp
        count(close_second, out.counts + 2);
        count(close_third, out.counts + 3);
    }
}

// What the copying thread does: the steps of all row tiles of this program, one stage after the other.
__device__ __forceinline__ void feed(const char* rows, const char* centroids, u32 stages, u32 full, int first_tile,
                                     int end_tile, int n_column_tiles, int steps) {
    u32 empty = full + 8 * STAGES, stage = 0, parity = 0;
    for (int tile = first_tile + blockIdx.x; tile < end_tile; tile += gridDim.x) {
        const char* source = rows + static_cast<u64>(tile) * steps * ROW_BYTES;
        for (int i = 0; i < n_column_tiles * steps; ++i) {
            u32 target = stages + stage * STAGE_BYTES, barrier = full + 8 * stage;
            // Every second column tile is read backwards, so that what was read last is read first: it is still in the
            // cache, even if the row tiles of all multiprocessors together do not fit there.
            int column_tile = i / steps, step = i % steps;
            if (column_tile % 2) step = steps - 1 - step;
            u64 column_step = static_cast<u64>(column_tile) * steps + step;
            wait(empty + 8 * stage, parity ^ 1);
            expect(barrier, STAGE_BYTES);
            const char* tiles = source + static_cast<u64>(step) * TILE_BYTES;
#pragma unroll
            for (int group = 0; group < GROUPS; ++group)
                copy(target + group * TILE_BYTES, tiles + static_cast<u64>(group * steps) * TILE_BYTES,
                     TILE_BYTES, barrier);
            copy(target + ROW_BYTES, centroids + column_step * COLUMN_BYTES, COLUMN_BYTES, barrier);
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }
}

// Sums of columns that do not exist.
__device__ __forceinline__ void blank(Sum (&sums)[COLUMNS / 2], int column_tile, int n_columns) {
    if ((column_tile + 1) * COLUMNS <= n_columns) return;
    int column = column_tile * COLUMNS + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; ++i)
        if (column + 8 * (i / 4) + i % 2 >= n_columns) sums[i] = ABSENT;
}

__device__ __forceinline__ void hold(const Sum (&sums)[COLUMNS / 2], Sum (&held)[COLUMNS / 2], int positions) {
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; ++i) held[i] = held_of(sums[i], i / 4 * 2 + i % 2, positions);
}

__device__ __forceinline__ void make_barriers(u32 full, u32 empty) {
    for (int i = 0; i < STAGES; ++i) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(full + 8 * i), "r"(1));
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(empty + 8 * i), "r"(GROUPS));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(128 + 128 * GROUPS, 1)
screen(const char* __restrict__ rows, const char* __restrict__ centroids, const int* __restrict__ n_columns_at,
       Output out, int steps, int positions) {
    extern __shared__ char unaligned[];
    __shared__ int lists[4 * GROUPS][(MANY_WORDS + PAIR_WORDS) * ENTRIES];
    __shared__ u64 barriers[2 * STAGES];
    u32 stages = (shared_address(unaligned) + 1023) & ~1023u;
    u32 full = shared_address(barriers), empty = full + 8 * STAGES;
    int n_columns = *n_columns_at, n_column_tiles = (n_columns + COLUMNS - 1) / COLUMNS;
    long long end = out.end;
    if (out.n_listed) end = min(end, static_cast<long long>(*out.n_listed));
    int first_tile = static_cast<int>(out.start / ROWS), end_tile = static_cast<int>((end + ROWS - 1) / ROWS);
    if (threadIdx.x == 0) make_barriers(full, empty);
    __syncthreads();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(GROUPS == 3 ? 32 : 24));
        if (threadIdx.x == 0) feed(rows, centroids, stages, full, first_tile, end_tile, n_column_tiles, steps);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(GROUPS == 3 ? 160 : 240));
    int group = threadIdx.x / 128 - 1, row_of_tile = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    bool leads = threadIdx.x % 128 == 0;  // its warpgroup
    Sum sums[COLUMNS / 2], held[COLUMNS / 2];
    Top top[2];
    Pair pair;
    int held_tile = -1;  // the column tile of what is held
    long long row = 0;   // the first of the two rows that `top` is about; the other is 8 later
    Row facts[2];
    Listing many = {lists[threadIdx.x / 32 - 4]}, pairs = {many.entries + MANY_WORDS * ENTRIES};
    u32 stage = 0, parity = 0, previous = 0;
    auto begin = [&](int tile) {
        row = static_cast<long long>(tile) * ROWS + row_of_tile;
        facts[0] = read_row(out, row, end);
        facts[1] = read_row(out, row + 8, end);
    };
    auto multiply = [&](int step) {
        u32 base = stages + stage * STAGE_BYTES;
        wait(full + 8 * stage, parity);
        u64 a = descriptor(base + group * TILE_BYTES), b = descriptor(base + ROW_BYTES);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int k = 0; k < 4; ++k) product(sums, a + 2 * k, b + 2 * k, step + k > 0);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (step > 0) {
            asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
            if (leads) arrive(empty + 8 * previous);
        }
        previous = stage;
        if (++stage == STAGES) stage = 0, parity ^= 1;
    };
    auto finish = [&]() {
        conclude(join(top[0]), facts[0], row, n_columns, out, many, pairs);
        conclude(join(top[1]), facts[1], row + 8, n_columns, out, many, pairs);
        write_if_longer(FULL, many, pairs, out);
        top[0] = top[1] = Top();
    };
    for (int tile = first_tile + blockIdx.x; tile < end_tile; tile += gridDim.x) {
        if (!HOLD) begin(tile);
        for (int column_tile = 0; column_tile < n_column_tiles; ++column_tile) {
            bool holds = HOLD && held_tile >= 0;
            multiply(0);
            if (holds) rank_held_chunk<0>(held, held_tile, pair, top);
            if (steps > 1) multiply(1);
            if (holds) rank_held_chunk<1>(held, held_tile, pair, top);
            if (steps > 2) multiply(2);
            if (holds) rank_held_chunk<2>(held, held_tile, pair, top);
            if (steps > 3) multiply(3);
            if (holds) rank_held_chunk<3>(held, held_tile, pair, top);
            if (steps > 4) multiply(4);
            if (holds && column_tile == 0) finish();
            for (int step = 5; step < steps; ++step) multiply(step);
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
            if (leads) arrive(empty + 8 * previous);
            if (HOLD && column_tile == 0) begin(tile);
            blank(sums, column_tile, n_columns);
            hold(sums, held, positions);
            if (HOLD < 2) rank_row<0>(held, column_tile, pair, top[0]);
            if (HOLD < 1) rank_row<1>(held, column_tile, pair, top[1]);
            if (!HOLD && column_tile + 1 == n_column_tiles) finish();
            held_tile = column_tile;
        }
    }
    if (HOLD && held_tile >= 0) {
        rank_held(held, held_tile, pair, top);
        finish();
    }
    write_if_longer(0, many, pairs, out);
}
