/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Every kernel that this CPU runs against plain loops written here, in memory that ends at guard
 * pages, and UTF-8 in pieces. One thread. */

#include "core/simd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#define LEN_MAX 300
#define ARENA_BYTES 4096

/* One page between two that may not be touched. */
struct arena {
    uint8_t *begin;
    uint8_t *end;
};

static struct arena arena_new(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (ARENA_BYTES + page - 1) / page * page;
    uint8_t *all = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(all, MAP_FAILED);
    cr_assert_eq(mprotect(all + page, inner, PROT_READ | PROT_WRITE), 0);
    return (struct arena){.begin = all + page, .end = all + page + inner};
}

/* The same numbers in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void fill_random(uint8_t *p, size_t len, uint32_t *seed)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(next_random(seed) >> 11);
}

static const struct simd_kernels *kernels[8];
static uint32_t kernel_count;

static void find_kernels(void)
{
    kernel_count = simd_available(kernels);
}

TestSuite(simd, .init = find_kernels);
TestSuite(unmask, .init = find_kernels);
TestSuite(utf8, .init = find_kernels);
TestSuite(search, .init = find_kernels);

#define EACH_KERNEL(k) (uint32_t k = 0; k < kernel_count; k++)

/* Choice --------------------------------------------------------------------------------------- */

Test(simd, scalar_kernels_come_first)
{
    cr_assert_geq(kernel_count, 1);
    cr_assert_str_eq(kernels[0]->name, "scalar");
}

Test(simd, is_scalar_before_the_choice)
{
    cr_assert_eq(simd, kernels[0]);
}

Test(simd, takes_the_last_by_default)
{
    cr_assert_eq(simd_init(NULL), 0);
    cr_assert_eq(simd, kernels[kernel_count - 1]);
}

Test(simd, takes_each_available_kernel_by_its_name)
{
    for
        EACH_KERNEL(k)
        {
            cr_assert_eq(simd_init(kernels[k]->name), 0);
            cr_assert_eq(simd, kernels[k]);
        }
}

Test(simd, refuses_an_unknown_name_and_keeps_its_choice)
{
    cr_assert_eq(simd_init(NULL), 0);
    cr_assert_eq(simd_init("mmx"), -ENOTSUP);
    cr_assert_eq(simd_init(""), -ENOTSUP);
    cr_assert_eq(simd, kernels[kernel_count - 1]);
}

/* Unmasking ------------------------------------------------------------------------------------ */

static const uint32_t keys[] = {0x00000000, 0x01020408, 0xfedcba98};

static uint8_t masked(uint8_t byte, size_t i, uint32_t key)
{
    const uint8_t *key_bytes = (const uint8_t *)&key;
    return byte ^ key_bytes[i % 4];
}

/* Fills a span, unmasks it, and looks at it and at 64 bytes on each side. */
static void check_unmask(const struct simd_kernels *kernel, uint8_t *dst, const uint8_t *src,
                         size_t len, uint32_t key)
{
    uint8_t before[64 + LEN_MAX + 64], original[LEN_MAX];

    memcpy(before, dst - 64, 64 + len + 64);
    memcpy(original, src, len);
    kernel->unmask(dst, src, len, key);
    for (size_t i = 0; i < len; i++) {
        if (dst[i] != masked(original[i], i, key))
            cr_assert_fail("%s: byte %zu of %zu", kernel->name, i, len);
    }
    cr_assert_arr_eq(dst - 64, before, 64, "%s: wrote before %zu bytes", kernel->name, len);
    cr_assert_arr_eq(dst + len, before + 64 + len, 64, "%s: wrote behind %zu bytes", kernel->name,
                     len);
    if (dst != src)
        cr_assert_arr_eq(src, original, len, "%s: changed its source", kernel->name);
}

Test(unmask, copies_every_length_and_alignment_under_every_key)
{
    static uint8_t src[1024], dst[1024];
    uint32_t seed = 1;

    fill_random(src, sizeof(src), &seed);
    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                for (size_t at = 0; at < 64; at++)
                    check_unmask(kernels[k], dst + 64 + at, src + (at * 7) % 64, len,
                                 keys[at % ARRAY_LEN(keys)]);
            }
        }
}

Test(unmask, works_in_place_at_every_length_and_alignment_under_every_key)
{
    static uint8_t buf[1024];
    uint32_t seed = 2;

    fill_random(buf, sizeof(buf), &seed);
    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                for (size_t at = 0; at < 64; at++)
                    check_unmask(kernels[k], buf + 64 + at, buf + 64 + at, len,
                                 keys[at % ARRAY_LEN(keys)]);
            }
        }
}

Test(unmask, stays_between_guard_pages)
{
    struct arena from = arena_new(), to = arena_new();

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                kernels[k]->unmask(to.begin, from.begin, len, keys[1]);
                kernels[k]->unmask(to.end - len, from.end - len, len, keys[1]);
                kernels[k]->unmask(from.begin, from.begin, len, keys[1]);
                kernels[k]->unmask(from.end - len, from.end - len, len, keys[1]);
            }
        }
}

Test(unmask, handles_long_spans_around_every_step_of_the_loops)
{
    static uint8_t src[70000], dst[70000];
    uint32_t seed = 3;

    fill_random(src, sizeof(src), &seed);
    for
        EACH_KERNEL(k)
        {
            for (size_t len = 65536 - 130; len <= 65536 + 130; len += 13) {
                kernels[k]->unmask(dst, src, len, keys[2]);
                for (size_t i = 0; i < len; i++) {
                    if (dst[i] != masked(src[i], i, keys[2]))
                        cr_assert_fail("%s: byte %zu of %zu", kernels[k]->name, i, len);
                }
            }
        }
}

Test(unmask, in_two_pieces_with_the_key_rotated_equals_one)
{
    uint8_t whole[140], pieces[140];

    for
        EACH_KERNEL(k)
        {
            for (size_t cut = 0; cut <= sizeof(whole); cut++) {
                memset(whole, 'x', sizeof(whole));
                memset(pieces, 'x', sizeof(pieces));
                kernels[k]->unmask(whole, whole, sizeof(whole), keys[2]);
                kernels[k]->unmask(pieces, pieces, cut, keys[2]);
                kernels[k]->unmask(pieces + cut, pieces + cut, sizeof(pieces) - cut,
                                   simd_rotate_key(keys[2], cut));
                cr_assert_arr_eq(whole, pieces, sizeof(whole), "%s: %zu", kernels[k]->name, cut);
            }
        }
}

/* Searching ------------------------------------------------------------------------------------ */

/* The expected answer is where the loop put the byte, so the kernels share nothing with the test.
 */
Test(search, ascii_prefix_ends_at_the_first_high_byte_wherever_it_is)
{
    struct arena arena = arena_new();

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                uint8_t *p = arena.end - len;
                memset(p, 0x7f, len);
                cr_assert_eq(kernels[k]->ascii_prefix(p, len), len);
                for (size_t at = len; at-- > 0;) {
                    p[at] = at % 2 == 0 ? 0x80 : 0xff; /* those behind it stay */
                    cr_assert_eq(kernels[k]->ascii_prefix(p, len), at, "%s: %zu of %zu",
                                 kernels[k]->name, at, len);
                }
            }
        }
}

Test(search, ascii_prefix_knows_every_byte)
{
    for
        EACH_KERNEL(k)
        {
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint8_t text[70];
                memset(text, (int)byte, sizeof(text));
                for (size_t len = 0; len <= sizeof(text); len++)
                    cr_assert_eq(kernels[k]->ascii_prefix(text, len), byte < 0x80 ? len : 0);
            }
        }
}

Test(search, string_scan_stops_at_the_first_special_byte_wherever_it_is)
{
    static const uint8_t special[] = {'"', '\\', 0x00, 0x1f, '\n'};
    struct arena arena = arena_new();

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                uint8_t *p = arena.end - len;
                memset(p, 'a', len);
                cr_assert_eq(kernels[k]->json_string_scan(p, len), len);
                for (size_t at = len; at-- > 0;) {
                    p[at] = special[at % ARRAY_LEN(special)];
                    cr_assert_eq(kernels[k]->json_string_scan(p, len), at, "%s: %zu of %zu",
                                 kernels[k]->name, at, len);
                }
            }
        }
}

Test(search, string_scan_knows_every_byte)
{
    for
        EACH_KERNEL(k)
        {
            for (uint32_t byte = 0; byte < 256; byte++) {
                bool stops = byte < 0x20 || byte == '"' || byte == '\\';
                uint8_t text[70];
                memset(text, (int)byte, sizeof(text));
                for (size_t len = 0; len <= sizeof(text); len++)
                    cr_assert_eq(kernels[k]->json_string_scan(text, len), stops ? 0 : len,
                                 "%s: %02x", kernels[k]->name, byte);
            }
        }
}

Test(search, stays_between_guard_pages_at_the_front)
{
    struct arena arena = arena_new();

    memset(arena.begin, 'a', LEN_MAX + 64);
    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= LEN_MAX; len++) {
                cr_assert_eq(kernels[k]->ascii_prefix(arena.begin, len), len);
                cr_assert_eq(kernels[k]->json_string_scan(arena.begin, len), len);
            }
        }
}

Test(search, ignores_what_stands_around_the_span)
{
    uint8_t text[256];

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 0; len <= 120; len++) {
                memset(text, 0x80, sizeof(text));
                memset(text + 64, 'a', len);
                cr_assert_eq(kernels[k]->ascii_prefix(text + 64, len), len);
                memset(text, '"', 64);
                memset(text + 64 + len, '"', 64);
                cr_assert_eq(kernels[k]->json_string_scan(text + 64, len), len);
            }
        }
}

/* UTF-8, whole spans --------------------------------------------------------------------------- */

/* RFC 3629 by arithmetic: decode, then ask whether the number needs that many bytes. Length of the
 * sequence, 0 when it is none. */
static size_t sequence_len(const uint8_t *p, size_t len)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t want = p[0] < 0x80       ? 1
                  : p[0] >> 5 == 6  ? 2
                  : p[0] >> 4 == 14 ? 3
                  : p[0] >> 3 == 30 ? 4
                                    : 0;

    if (want <= 1)
        return want;
    if (want > len)
        return 0;
    uint32_t point = p[0] & (0x7fU >> want);
    for (size_t i = 1; i < want; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        point = point << 6 | (p[i] & 0x3f);
    }
    if (point < smallest[want] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return want;
}

static bool is_utf8(const uint8_t *p, size_t len)
{
    while (len > 0) {
        size_t n = sequence_len(p, len);
        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

/* Sequences of n bytes from `bytes` in a text of ASCII, at `at`, against every kernel. */
static void check_sequence(const uint8_t *bytes, size_t n, uint8_t *text, size_t at, size_t len)
{
    bool want = is_utf8(bytes, n);

    memcpy(text + at, bytes, n);
    for
        EACH_KERNEL(k)
        {
            if (kernels[k]->utf8_valid(text, len) != want)
                cr_assert_fail("%s: %02x %02x %02x %02x at %zu of %zu", kernels[k]->name, text[at],
                               text[at + 1], text[at + 2], text[at + 3], at, len);
        }
    memset(text + at, 'a', n);
}

/* One byte on each side of every border that RFC 3629 draws. */
static const uint8_t border[] = {0x00, 0x41, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0,
                                 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
                                 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff};
#define BORDER_COUNT ARRAY_LEN(border)

Test(utf8, all_sequences_of_one_and_two_bytes_at_many_offsets)
{
    static const size_t lens[] = {2, 5, 8, 16, 17, 31, 32, 34, 35, 64, 80, 128};
    uint8_t text[160];

    memset(text, 'a', sizeof(text));
    for (uint32_t pair = 0; pair < 0x10000; pair++) {
        uint8_t bytes[2] = {(uint8_t)(pair >> 8), (uint8_t)pair};
        for (size_t i = 0; i < ARRAY_LEN(lens); i++)
            check_sequence(bytes, 2, text, (pair * 31 + i) % (lens[i] - 1), lens[i]);
    }
}

/* Slow builds take the third byte from the borders alone. */
#if defined(__OPTIMIZE__) && !defined(TW_SANITIZED)
#define THIRD_COUNT 256
#define THIRD(i) ((uint8_t)(i))
#else
#define THIRD_COUNT BORDER_COUNT
#define THIRD(i) (border[i])
#endif

/* Leads below 0x80 are left out: behind them stands one of the pairs above. At 62 the sequence lies
 * across the ends of vectors of 16, 32 and 64 bytes. */
Test(utf8, all_sequences_of_three_bytes_across_a_vector_border)
{
    uint8_t text[80];

    memset(text, 'a', sizeof(text));
    for (uint32_t pair = 0x8000; pair < 0x10000; pair++) {
        for (uint32_t i = 0; i < THIRD_COUNT; i++) {
            uint8_t bytes[3] = {(uint8_t)(pair >> 8), (uint8_t)pair, THIRD(i)};
            check_sequence(bytes, 3, text, 62, sizeof(text));
        }
    }
}

Test(utf8, all_borders_of_four_bytes_across_a_vector_border)
{
    uint8_t text[80];

    memset(text, 'a', sizeof(text));
    for (uint32_t n = 0; n < BORDER_COUNT * BORDER_COUNT * BORDER_COUNT * BORDER_COUNT; n++) {
        uint8_t bytes[4] = {border[n / (BORDER_COUNT * BORDER_COUNT * BORDER_COUNT)],
                            border[n / (BORDER_COUNT * BORDER_COUNT) % BORDER_COUNT],
                            border[n / BORDER_COUNT % BORDER_COUNT], border[n % BORDER_COUNT]};
        check_sequence(bytes, 4, text, 61 + n % 3, sizeof(text));
    }
}

/* Four-byte leads with every second byte and border bytes behind: every offset, and spans that end
 * with the sequence or go on. */
Test(utf8, four_byte_sequences_at_every_offset_of_every_length)
{
    static const uint8_t rest[] = {0x7f, 0x80, 0xbf, 0xc0};
    uint8_t text[160];

    memset(text, 'a', sizeof(text));
    for (uint32_t n = 0; n < 16 * 256 * 16; n++) {
        uint8_t bytes[4] = {(uint8_t)(0xf0 + n / 4096), (uint8_t)(n / 16), rest[n / 4 % 4],
                            rest[n % 4]};
        size_t len = 4 + n * 13 % 130;
        check_sequence(bytes, 4, text, n * 29 % (len - 3), len);
        check_sequence(bytes, 4, text, len - 4, len);
    }
}

static const char *const sequences[] = {"\xc2\x80",         "\xdf\xbf",         "\xe0\xa0\x80",
                                        "\xed\x9f\xbf",     "\xee\x80\x80",     "\xef\xbf\xbf",
                                        "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xf1\x80\xbf\x80"};

Test(utf8, a_sequence_cut_by_the_end_is_invalid_at_every_length)
{
    struct arena arena = arena_new();

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 4; len <= LEN_MAX; len++) {
                uint8_t *p = arena.end - len;
                for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
                    size_t n = strlen(sequences[i]);
                    memset(p, 'a', len);
                    memcpy(p + len - n, sequences[i], n);
                    cr_assert(kernels[k]->utf8_valid(p, len), "%s: %zu", kernels[k]->name, len);
                    for (size_t cut = 1; cut < n; cut++) {
                        memset(p, 'a', len);
                        memcpy(p + len - cut, sequences[i], cut);
                        cr_assert_not(kernels[k]->utf8_valid(p, len), "%s: %zu", kernels[k]->name,
                                      len);
                    }
                }
            }
        }
}

/* Bytes outside the span would complete or break the sequence at its edge if a kernel saw them. */
Test(utf8, ignores_what_stands_around_the_span)
{
    uint8_t text[256];

    for
        EACH_KERNEL(k)
        {
            for (size_t len = 3; len <= 120; len++) {
                memset(text, 0xf0, sizeof(text));
                memset(text + 64, 'a', len);
                cr_assert(kernels[k]->utf8_valid(text + 64, len));
                memset(text, 0x80, sizeof(text));
                memset(text + 64, 'a', len);
                text[64 + len - 1] = 0xc3;
                cr_assert_not(kernels[k]->utf8_valid(text + 64, len));
                memset(text, 0xc3, 64);
                memset(text + 64, 'a', len);
                text[64] = 0x80;
                cr_assert_not(kernels[k]->utf8_valid(text + 64, len));
            }
        }
}

/* A text of whole sequences; returns its length, at most `len`. */
static size_t make_text(uint8_t *p, size_t len, uint32_t *seed)
{
    size_t n = 0;
    uint32_t ascii_share = next_random(seed) % 5;

    while (n < len) {
        uint32_t r = next_random(seed);
        const char *s = r % 4 < ascii_share ? "a" : sequences[r / 16 % ARRAY_LEN(sequences)];
        size_t s_len = strlen(s);
        if (n + s_len > len)
            break;
        memcpy(p + n, s, s_len);
        n += s_len;
    }
    return n;
}

Test(utf8, texts_and_their_mutations_get_the_right_answer_between_guard_pages)
{
    struct arena arena = arena_new();
    uint32_t seed = 4;

    for (uint32_t round = 0; round < 60000; round++) {
        uint8_t text[LEN_MAX];
        size_t len = make_text(text, next_random(&seed) % (LEN_MAX + 1), &seed);
        if (len > 0 && round % 4 != 0)
            text[next_random(&seed) % len] = border[next_random(&seed) % BORDER_COUNT];
        bool want = is_utf8(text, len);
        uint8_t *places[] = {arena.begin, arena.end - len};
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
            memcpy(places[i], text, len);
            for
                EACH_KERNEL(k)
            cr_assert_eq(kernels[k]->utf8_valid(places[i], len), want, "%s: round %u",
                         kernels[k]->name, round);
        }
    }
}

Test(utf8, one_bad_byte_anywhere_in_a_long_text_is_found)
{
    static uint8_t text[4096];
    uint32_t seed = 5;
    size_t len = make_text(text, sizeof(text), &seed);

    for
        EACH_KERNEL(k)
        {
            cr_assert(kernels[k]->utf8_valid(text, len));
            for (size_t at = 0; at < len; at++) {
                uint8_t saved = text[at];
                text[at] = 0xff;
                cr_assert_not(kernels[k]->utf8_valid(text, len), "%s: %zu", kernels[k]->name, at);
                text[at] = saved;
            }
        }
}

/* UTF-8 in pieces ------------------------------------------------------------------------------ */

/* Whether bytes behind the text could make it well-formed. */
static bool can_be_completed(const uint8_t *p, size_t len)
{
    static const uint8_t tries[] = {0x80, 0x90, 0xa0};
    uint8_t text[16];

    memcpy(text, p, len);
    memset(text + len, 0x80, 3);
    if (is_utf8(text, len))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        text[len] = tries[i];
        for (size_t n = 1; n <= 3; n++) {
            if (is_utf8(text, len + n))
                return true;
        }
    }
    return false;
}

Test(utf8, feeding_fails_at_the_first_byte_that_nothing_can_mend)
{
    for (uint32_t n = 0; n < BORDER_COUNT * BORDER_COUNT * BORDER_COUNT * BORDER_COUNT; n++) {
        uint8_t bytes[4] = {border[n / (BORDER_COUNT * BORDER_COUNT * BORDER_COUNT)],
                            border[n / (BORDER_COUNT * BORDER_COUNT) % BORDER_COUNT],
                            border[n / BORDER_COUNT % BORDER_COUNT], border[n % BORDER_COUNT]};
        struct utf8_state u;
        utf8_reset(&u);
        for (size_t i = 0; i < 4; i++) {
            bool ok = utf8_feed(&u, bytes + i, 1);
            cr_assert_eq(ok, can_be_completed(bytes, i + 1), "%08x, %zu", n, i);
            if (!ok)
                break;
            cr_assert_eq(utf8_is_complete(&u), is_utf8(bytes, i + 1));
        }
    }
}

/* Where feeding byte by byte fails, or len: the oracle for pieces, itself checked above. */
static size_t first_bad_byte(const uint8_t *p, size_t len)
{
    struct utf8_state u;

    utf8_reset(&u);
    for (size_t i = 0; i < len; i++) {
        if (!utf8_feed(&u, p + i, 1))
            return i;
    }
    return len;
}

/* Feeds the piece [from, to) that follows good ones; false when the text is over. */
static bool check_piece(struct utf8_state *u, const uint8_t *text, size_t from, size_t to,
                        size_t bad)
{
    bool ok = utf8_feed(u, text + from, to - from);

    cr_assert_eq(ok, bad >= to, "piece %zu to %zu, bad at %zu (%s)", from, to, bad, simd->name);
    if (ok)
        cr_assert_eq(utf8_is_complete(u), is_utf8(text, to));
    return ok;
}

static void check_cuts(const uint8_t *text, size_t len, size_t cut1, size_t cut2)
{
    size_t bad = first_bad_byte(text, len);
    struct utf8_state u;

    utf8_reset(&u);
    if (check_piece(&u, text, 0, cut1, bad) && check_piece(&u, text, cut1, cut2, bad))
        check_piece(&u, text, cut2, len, bad);
}

Test(utf8, every_way_to_cut_a_short_text_gives_the_same_answer)
{
    uint32_t seed = 6;

    cr_assert_eq(simd_init(NULL), 0);
    for (uint32_t round = 0; round < 400; round++) {
        uint8_t text[10];
        size_t len = make_text(text, sizeof(text), &seed);
        if (round % 2 == 1)
            text[next_random(&seed) % len] = border[next_random(&seed) % BORDER_COUNT];
        size_t bad = first_bad_byte(text, len);
        for (uint32_t cuts = 0; cuts < 1U << (len - 1); cuts++) {
            struct utf8_state u;
            bool ok = true;
            utf8_reset(&u);
            for (size_t from = 0, to = 1; ok && to <= len; to++) {
                if (to == len || (cuts >> (to - 1) & 1) != 0) {
                    ok = check_piece(&u, text, from, to, bad);
                    from = to;
                }
            }
        }
    }
}

Test(utf8, every_two_cuts_of_a_longer_text_give_the_same_answer_on_every_kernel)
{
    uint32_t seed = 7;

    for (uint32_t round = 0; round < 12; round++) {
        uint8_t text[90];
        size_t len = make_text(text, sizeof(text), &seed);
        if (round % 2 == 1)
            text[next_random(&seed) % len] = border[next_random(&seed) % BORDER_COUNT];
        for
            EACH_KERNEL(k)
            {
                cr_assert_eq(simd_init(kernels[k]->name), 0);
                for (size_t cut2 = 0; cut2 <= len; cut2++) {
                    for (size_t cut1 = 0; cut1 <= cut2; cut1++)
                        check_cuts(text, len, cut1, cut2);
                }
            }
    }
}

Test(utf8, a_failed_state_stays_failed_until_it_is_reset)
{
    struct utf8_state u;

    utf8_reset(&u);
    cr_assert_not(utf8_feed(&u, (const uint8_t *)"\xff", 1));
    cr_assert_not(utf8_is_complete(&u));
    cr_assert_not(utf8_feed(&u, (const uint8_t *)"", 0));
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint8_t b = (uint8_t)byte;
        cr_assert_not(utf8_feed(&u, &b, 1));
    }
    utf8_reset(&u);
    cr_assert(utf8_feed(&u, (const uint8_t *)"a", 1));
    cr_assert(utf8_is_complete(&u));
}

Test(utf8, an_empty_piece_changes_nothing)
{
    struct utf8_state u;

    utf8_reset(&u);
    cr_assert(utf8_feed(&u, NULL, 0));
    cr_assert(utf8_is_complete(&u));
    cr_assert(utf8_feed(&u, (const uint8_t *)"\xe2\x82", 2));
    cr_assert(utf8_feed(&u, NULL, 0));
    cr_assert_not(utf8_is_complete(&u));
    cr_assert(utf8_feed(&u, (const uint8_t *)"\xac", 1));
    cr_assert(utf8_is_complete(&u));
}
