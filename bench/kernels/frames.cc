/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Frames of a client out of a full receive buffer: the decoder, and the inline case of short
 * messages. Names read how/payload bytes; an item is a frame. One thread. */

#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

extern "C" {
#define _Noreturn [[noreturn]] /* C11's keyword in the headers */
#include "core/simd.h"
#include "net/ws_decoder.h"
#include "net/ws_encoder.h"
#undef _Noreturn
}

namespace
{

constexpr size_t buffer_bytes = 64 << 10;

ws_limits make_limits()
{
    ws_limits l = {};
    l.max_message_bytes = 1 << 20;
    l.max_fragments = 1024;
    return l;
}
const ws_limits limits = make_limits();

/* As many whole masked frames as fit. Decoding unmasks in place, so that every second round sees
 * the payload as it was; the heads stay. */
struct stream {
    std::vector<uint8_t> bytes;
    size_t len = 0;
    int64_t frames = 0;

    explicit stream(size_t payload) : bytes(buffer_bytes + 2 * payload + 128, 'x')
    {
        do {
            len += ws_encode_client_head(bytes.data() + len, WS_OP_BINARY, true, false, payload,
                                         0x12345678);
            len += payload;
            frames++;
        } while (len + payload < buffer_bytes);
    }
};

void decode(benchmark::State &state)
{
    stream s(static_cast<size_t>(state.range(0)));
    ws_decoder d = {};
    ws_piece piece;

    for (auto _ : state) {
        bytes in = {s.bytes.data(), s.len};
        while (ws_decode(&d, &limits, &in, &piece) == WS_STATUS_PIECE)
            benchmark::DoNotOptimize(piece);
    }
    state.SetItemsProcessed(state.iterations() * s.frames);
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * s.len));
}
BENCHMARK(decode)->Arg(16)->Arg(125)->Arg(1024)->Arg(16384);

void decode_small(benchmark::State &state)
{
    stream s(static_cast<size_t>(state.range(0)));
    uint32_t small_max = ws_small_max(&limits);
    bytes payload;
    uint8_t opcode;
    uint32_t key;

    for (auto _ : state) {
        bytes in = {s.bytes.data(), s.len};
        while (ws_decode_small(small_max, &in, &payload, &opcode, &key)) {
            simd->unmask(payload.ptr, payload.ptr, payload.len, key);
            benchmark::ClobberMemory();
        }
    }
    state.SetItemsProcessed(state.iterations() * s.frames);
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * s.len));
}
BENCHMARK(decode_small)->Arg(16)->Arg(125);

} // namespace

int main(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (simd_init(nullptr) != 0 || benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
