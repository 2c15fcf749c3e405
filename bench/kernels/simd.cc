/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The kernels of core/simd.h, each set that this CPU runs, beside memcpy; and the JSON scanner on
 * the best of them. Names read kernel, work, bytes. One thread. */

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

extern "C" {
#define _Noreturn [[noreturn]] /* C11's keyword in the headers */
#include "core/json.h"
#include "core/simd.h"
#undef _Noreturn
}

namespace
{

/* Off a vector border by what a frame header of a client leaves: 6 bytes, or 8 from 126 on. */
constexpr size_t frame_header_bytes = 6;

struct buffer {
    std::vector<uint8_t> bytes;

    explicit buffer(size_t len) : bytes(len + 128, 'x')
    {
    }
    uint8_t *payload()
    {
        auto at = reinterpret_cast<uintptr_t>(bytes.data());
        return bytes.data() + (64 - at % 64) % 64 + frame_header_bytes;
    }
};

/* Repeats `unit` and fills up with 'x', so that no sequence is cut. */
void fill(uint8_t *p, size_t len, const std::string &unit)
{
    std::memset(p, 'x', len);
    for (size_t i = 0; i + unit.size() <= len; i += unit.size())
        std::memcpy(p + i, unit.data(), unit.size());
}

void count_bytes(benchmark::State &state, size_t len)
{
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * len));
}

void unmask_in_place(benchmark::State &state, const simd_kernels *k)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer b(len);
    for (auto _ : state) {
        k->unmask(b.payload(), b.payload(), len, 0x12345678);
        benchmark::ClobberMemory();
    }
    count_bytes(state, len);
}

void unmask_copy(benchmark::State &state, const simd_kernels *k)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer from(len), to(len);
    for (auto _ : state) {
        k->unmask(to.payload(), from.payload(), len, 0x12345678);
        benchmark::ClobberMemory();
    }
    count_bytes(state, len);
}

void plain_memcpy(benchmark::State &state)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer from(len), to(len);
    for (auto _ : state) {
        benchmark::DoNotOptimize(len);
        std::memcpy(to.payload(), from.payload(), len);
        benchmark::ClobberMemory();
    }
    count_bytes(state, len);
}

/* The work of one text frame: what unmasking stores is read again at once. */
void unmask_and_validate(benchmark::State &state, const simd_kernels *k)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer b(len);
    for (auto _ : state) {
        k->unmask(b.payload(), b.payload(), len, 0);
        benchmark::DoNotOptimize(k->utf8_valid(b.payload(), len));
    }
    count_bytes(state, len);
}

/* A receive buffer full of short frames of many lengths, which no branch predictor learns. The
 * argument is the largest length; the time is for 512 frames. */
void unmask_mixed(benchmark::State &state, const simd_kernels *k)
{
    std::minstd_rand random(1);
    std::vector<size_t> lens(512);
    size_t sum = 0;
    for (size_t &len : lens)
        sum += len = 1 + random() % static_cast<size_t>(state.range(0));
    buffer b(sum + lens.size() * frame_header_bytes);
    for (auto _ : state) {
        uint8_t *p = b.payload();
        for (size_t len : lens) {
            k->unmask(p, p, len, 0);
            benchmark::DoNotOptimize(k->utf8_valid(p, len));
            p += len + frame_header_bytes;
        }
    }
    count_bytes(state, sum);
}

void utf8_valid(benchmark::State &state, const simd_kernels *k, const std::string &unit)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer b(len);
    fill(b.payload(), len, unit);
    for (auto _ : state)
        benchmark::DoNotOptimize(k->utf8_valid(b.payload(), len));
    count_bytes(state, len);
}

void string_scan(benchmark::State &state, const simd_kernels *k)
{
    size_t len = static_cast<size_t>(state.range(0));
    buffer b(len);
    for (auto _ : state)
        benchmark::DoNotOptimize(k->json_string_scan(b.payload(), len));
    count_bytes(state, len);
}

void json_text(benchmark::State &state, const simd_kernels *k, const std::string &text)
{
    if (simd_init(k->name) != 0) {
        state.SkipWithError("not on this CPU");
        return;
    }
    for (auto _ : state) {
        auto p = reinterpret_cast<const uint8_t *>(text.data());
        benchmark::DoNotOptimize(json_read(&p, p + text.size()));
    }
    count_bytes(state, text.size());
}

std::string publish_command(size_t data_bytes)
{
    return R"({"id":7,"publish":{"channel":"room:1234","data":{"text":")" +
           std::string(data_bytes, 'x') + R"(","at":1700000000,"tags":["a","b",null]}}})";
}

void register_kernel(const simd_kernels *k)
{
    auto name = [k](const char *work) { return std::string(k->name) + "/" + work; };
    auto sizes = [](benchmark::internal::Benchmark *b) {
        for (int64_t len : {16, 64, 125, 512, 4096, 65536, 1048576})
            b->Arg(len);
    };
    benchmark::RegisterBenchmark(name("unmask").c_str(), unmask_in_place, k)->Apply(sizes);
    benchmark::RegisterBenchmark(name("unmask_copy").c_str(), unmask_copy, k)->Apply(sizes);
    benchmark::RegisterBenchmark(name("unmask_utf8").c_str(), unmask_and_validate, k)->Apply(sizes);
    benchmark::RegisterBenchmark(name("unmask_utf8_mixed").c_str(), unmask_mixed, k)
        ->Arg(16)
        ->Arg(64)
        ->Arg(125);
    benchmark::RegisterBenchmark(name("utf8_ascii").c_str(), utf8_valid, k, "x")->Apply(sizes);
    benchmark::RegisterBenchmark(name("utf8_german").c_str(), utf8_valid, k,
                                 "Gr\u00fc\u00dfe aus K\u00f6ln, ")
        ->Apply(sizes);
    benchmark::RegisterBenchmark(name("utf8_chinese").c_str(), utf8_valid, k, "\u6f6e\u7ebf")
        ->Apply(sizes);
    benchmark::RegisterBenchmark(name("string_scan").c_str(), string_scan, k)->Apply(sizes);
    for (size_t data_bytes : {16, 200, 4000})
        benchmark::RegisterBenchmark((name("json_read/") + std::to_string(data_bytes)).c_str(),
                                     json_text, k, publish_command(data_bytes));
}

} // namespace

int main(int argc, char **argv)
{
    const simd_kernels *list[8];
    uint32_t count = simd_available(list);

    benchmark::RegisterBenchmark("memcpy", plain_memcpy)
        ->Arg(16)
        ->Arg(64)
        ->Arg(125)
        ->Arg(512)
        ->Arg(4096)
        ->Arg(65536)
        ->Arg(1048576);
    for (uint32_t i = 0; i < count; i++)
        register_kernel(list[i]);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
