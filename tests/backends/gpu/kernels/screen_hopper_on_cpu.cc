// Comes after the ranking part of screen_hopper.cu: what a consumer group does with the sums of its rows, for `n_rows` rows of
// `n_columns` scores each; out gets score, column, second, second column and third bound of every row, as integers.
template <int ROW>
static void row_of(const Sum (&held)[COLUMNS / 2], int tile, Top& top) {
    Pair pair;
    rank_chunk<ROW, 0>(held, tile, pair, top);
    if (CHUNKS > 1) rank_chunk<ROW, CHUNKS - 1>(held, tile, pair, top);
}

extern "C" void rank_rows(const Sum* scores, int n_rows, int n_columns, int* out) {
    auto thread = [&](unsigned lane) {
        threadIdx.x = lane;
        for (int first = 0; first < n_rows; first += 2) {
            Top top[2];
            for (int tile = 0; tile * COLUMNS < n_columns; ++tile) {
                Sum held[COLUMNS / 2];
                for (int i = 0; i < COLUMNS / 2; ++i) {
                    int row = min(first + i / 2 % 2, n_rows - 1);
                    int column = tile * COLUMNS + 8 * (i / 4) + i % 2 + 2 * static_cast<int>(lane);
                    Sum sum = column < n_columns ? scores[row * static_cast<long>(n_columns) + column] : ABSENT;
                    held[i] = held_of(sum, i / 4 * 2 + i % 2, POSITIONS);
                }
                row_of<0>(held, tile, top[0]);
                row_of<1>(held, tile, top[1]);
            }
            for (int row = 0; row < 2; ++row) {
                Found found = join(top[row]);
                int values[5] = {found.score, found.column, found.second, found.second_column, found.third};
                if (lane == 0 && first + row < n_rows) std::memcpy(out + 5 * (first + row), values, sizeof values);
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned lane = 0; lane < 4; ++lane) threads.emplace_back(thread, lane);
    for (auto& one : threads) one.join();
}

extern "C" float value(int code) { return value_of(code); }

// What a warp makes of rows of which that was found, eight at a time: labels, and the two lists with their counts.
extern "C" void conclude_rows(const int* found, int n_columns, const Output* out) {
    int entries[(MANY_WORDS + PAIR_WORDS) * ENTRIES];
    auto thread = [&](unsigned lane) {
        threadIdx.x = lane;
        Listing many = {entries}, pairs = {entries + MANY_WORDS * ENTRIES};
        for (long long first = out->start; first < out->end; first += 8) {
            long long row = first + lane / 4;
            const int* f = found + 5 * min(row, out->end - 1);
            conclude({f[0], f[1], f[2], f[3], f[4]}, read_row(*out, row, out->end), row, n_columns, *out, many, pairs);
            if (many.n > FULL) write_many(many, *out);
            if (pairs.n > FULL) write_pairs(pairs, *out);
        }
        write_many(many, *out);
        write_pairs(pairs, *out);
    };
    std::vector<std::thread> threads;
    for (unsigned lane = 0; lane < 32; ++lane) threads.emplace_back(thread, lane);
    for (auto& one : threads) one.join();
}
