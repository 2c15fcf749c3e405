/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Lines go into a pipe in packet mode: one read returns what one write(2) wrote. */

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"

/* 2026-01-02T03:04:05.678Z */
#define START_NS (1767323045ULL * NS_PER_SEC + 678 * NS_PER_MS)
#define STAMP "2026-01-02T03:04:05.678Z"

static int pipe_fds[2];
static _Atomic uint64_t clock_now_ns = START_NS;

static uint64_t test_clock(void)
{
    return clock_now_ns;
}

static void setup(void)
{
    cr_assert_eq(pipe2(pipe_fds, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
    fcntl(pipe_fds[1], F_SETPIPE_SZ, 1 << 20);
    log_set_fd(pipe_fds[1]);
    log_set_clock(test_clock);
    log_setup(LOG_DEBUG, LOG_LOGFMT);
}

TestSuite(log, .init = setup);

/* The next line written, or NULL. The text lives until the next call. */
static const char *next_line(void)
{
    static char line[2 * LOG_LINE_MAX];
    ssize_t n = read(pipe_fds[0], line, sizeof(line) - 1);
    if (n < 0)
        return NULL;
    line[n] = 0;
    return line;
}

#define assert_line(wanted) cr_assert_str_eq(next_line(), wanted)

Test(log, a_line_is_logfmt_in_one_write)
{
    log_info("listening", "address", "127.0.0.1:8000", "backend", "uring", NULL);
    assert_line("time=" STAMP " level=info msg=listening address=127.0.0.1:8000 backend=uring\n");
    cr_assert_null(next_line());
}

Test(log, a_line_is_json_when_asked_for)
{
    log_setup(LOG_DEBUG, LOG_JSON);
    log_warn("too many", "count", "7", NULL);
    assert_line("{\"time\":\"" STAMP
                "\",\"level\":\"warn\",\"msg\":\"too many\",\"count\":\"7\"}\n");
    cr_assert_null(next_line());
}

Test(log, a_message_may_have_no_pairs_and_a_value_may_be_missing)
{
    const char *nothing = NULL;
    log_error("x", NULL);
    assert_line("time=" STAMP " level=error msg=x\n");
    log_debug("y", "peer", nothing, "code", "1", NULL);
    assert_line("time=" STAMP " level=debug msg=y peer=(none) code=1\n");
}

Test(log, lines_below_the_level_are_not_written)
{
    log_setup(LOG_WARN, LOG_LOGFMT);
    log_debug("a", NULL);
    log_info("b", NULL);
    cr_assert_null(next_line());
    log_warn("c", NULL);
    log_error("d", NULL);
    cr_assert_not_null(strstr(next_line(), "msg=c"));
    cr_assert_not_null(strstr(next_line(), "msg=d"));
}

Test(log, logfmt_quotes_what_could_be_taken_for_something_else)
{
    static const struct {
        const char *value, *text;
    } rows[] = {
        {"", "\"\""},
        {"a b", "\"a b\""},
        {"a=b", "\"a=b\""},
        {"say \"x\"", "\"say \\\"x\\\"\""},
        {"c:\\d", "\"c:\\\\d\""},
        {"1\n2\r3\t4", "\"1\\n2\\r3\\t4\""},
        {"\x01\x7f", "\"\\x01\\x7f\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x8a", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x8a"},
        {"\xc2\x9b", "\"\\xc2\\x9b\""},
        {"\xc3(", "\"\\xc3(\""},
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},
        {"\xc0\xaf", "\"\\xc0\\xaf\""},
        {"\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},
        {"\xe2\x82", "\"\\xe2\\x82\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char wanted[256];
        snprintf(wanted, sizeof(wanted), "time=" STAMP " level=info msg=m v=%s\n", rows[i].text);
        log_write(NULL, LOG_INFO, "m", "v", rows[i].value, NULL);
        assert_line(wanted);
    }
}

Test(log, json_escapes_as_its_grammar_says)
{
    static const struct {
        const char *value, *text;
    } rows[] = {
        {"", ""},
        {"a b=c", "a b=c"},
        {"say \"x\"", "say \\\"x\\\""},
        {"c:\\d", "c:\\\\d"},
        {"1\n2\r3\t4", "1\\n2\\r3\\t4"},
        {"\x01\x1f\x7f", "\\u0001\\u001f\\u007f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x8a", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8c\x8a"},
        {"\xc2\x9b", "\\u009b"},
        {"\xc3(", "\\ufffd("},
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},
    };
    log_setup(LOG_DEBUG, LOG_JSON);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char wanted[256];
        snprintf(wanted, sizeof(wanted),
                 "{\"time\":\"" STAMP "\",\"level\":\"info\",\"msg\":\"m\",\"v\":\"%s\"}\n",
                 rows[i].text);
        log_write(NULL, LOG_INFO, "m", "v", rows[i].value, NULL);
        assert_line(wanted);
    }
}

Test(log, no_two_bytes_break_a_line)
{
    for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        log_setup(LOG_DEBUG, format);
        for (unsigned pair = 0x101; pair <= 0xffff; pair++) {
            char value[] = {(char)(pair >> 8), (char)pair, 0};
            if (value[0] == 0 || value[1] == 0)
                continue;
            log_write(NULL, LOG_INFO, value, "v", value, NULL);
            const char *line = next_line();
            size_t len = strlen(line);
            cr_assert_eq(line[len - 1], '\n');
            for (size_t i = 0; i + 1 < len; i++)
                cr_assert((unsigned char)line[i] >= 0x20 && line[i] != 0x7f, "%#x", pair);
        }
    }
}

/* Cuts a line into its fixed beginning, the value and its end, and says whether the value is a
 * beginning of `value` in escaped form. */
static void assert_truncated(const char *line, const char *head, const char *unit, const char *tail)
{
    size_t len = strlen(line), head_len = strlen(head), tail_len = strlen(tail);
    cr_assert_leq(len, LOG_LINE_MAX);
    cr_assert_eq(strncmp(line, head, head_len), 0, "%s", line);
    cr_assert_str_eq(line + len - tail_len, tail);
    size_t units = (len - head_len - tail_len) / strlen(unit);
    cr_assert_eq((len - head_len - tail_len) % strlen(unit), 0, "cut within an escape: %s", line);
    cr_assert_gt(len, LOG_LINE_MAX - 128, "much room was left: %zu", len);
    for (size_t i = 0; i < units; i++)
        cr_assert_eq(strncmp(line + head_len + i * strlen(unit), unit, strlen(unit)), 0);
}

Test(log, a_line_that_is_too_long_is_cut_between_characters_and_says_so)
{
    static const struct {
        const char *unit, *logfmt, *json;
    } rows[] = {
        {"x", "x", "x"},
        {"\n", "\\n", "\\n"},
        {"\"", "\\\"", "\\\""},
        {"\x01", "\\x01", "\\u0001"},
        {"\xe2\x82\xac", "\xe2\x82\xac", "\xe2\x82\xac"},
    };
    static char value[4 * LOG_LINE_MAX];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* Every phase of the cut: a prefix of 0 to 7 bytes before it. */
        for (size_t phase = 0; phase < 8; phase++) {
            char head[128], pad[9] = "aaaaaaaa";
            pad[phase] = 0;
            value[0] = 0;
            char *end = value;
            while (end < value + LOG_LINE_MAX)
                end = stpcpy(end, rows[i].unit);
            log_setup(LOG_DEBUG, LOG_LOGFMT);
            log_write(NULL, LOG_INFO, "m", "p", pad[0] != 0 ? pad : "b", "v", value, "w", "1",
                      NULL);
            snprintf(head, sizeof(head), "time=" STAMP " level=info msg=m p=%s v=\"",
                     pad[0] != 0 ? pad : "b");
            assert_truncated(next_line(), head, rows[i].logfmt, "\" truncated=true\n");
            log_setup(LOG_DEBUG, LOG_JSON);
            log_write(NULL, LOG_INFO, "m", "p", pad, "v", value, "w", "1", NULL);
            snprintf(head, sizeof(head),
                     "{\"time\":\"" STAMP
                     "\",\"level\":\"info\",\"msg\":\"m\",\"p\":\"%s\",\"v\":\"",
                     pad);
            assert_truncated(next_line(), head, rows[i].json, "\",\"truncated\":true}\n");
        }
    }
}

Test(log, whatever_its_length_a_line_keeps_its_form_and_its_bound)
{
    static char value[LOG_LINE_MAX + 64];
    for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        log_setup(LOG_DEBUG, format);
        for (size_t len = LOG_LINE_MAX - 256; len < LOG_LINE_MAX + 32; len++) {
            memset(value, 'x', len);
            value[len] = 0;
            log_write(NULL, LOG_INFO, "m", "v", value, "last", "1", NULL);
            const char *line = next_line();
            size_t line_len = strlen(line);
            cr_assert_leq(line_len, LOG_LINE_MAX);
            const char *whole = format == LOG_JSON ? "\",\"last\":\"1\"}\n" : "x last=1\n";
            const char *cut = format == LOG_JSON ? ",\"truncated\":true}\n" : " truncated=true\n";
            bool is_whole = strcmp(line + line_len - strlen(whole), whole) == 0;
            bool is_cut = strcmp(line + line_len - strlen(cut), cut) == 0;
            cr_assert(is_whole != is_cut, "%zu: %s", len, line);
            size_t quotes = 0;
            for (const char *p = line; *p != 0; p++)
                quotes += *p == '"';
            cr_assert_eq(quotes % 2, 0, "%zu: %s", len, line);
        }
    }
}

/* One call site, as a loop or a flood reaches it. */
static void flood_once(void)
{
    log_info("again", NULL);
}

Test(log, repeats_of_one_call_site_are_limited_to_a_burst_and_then_one_a_second)
{
    for (int i = 0; i < 1000; i++)
        flood_once();
    for (int i = 0; i < LOG_BURST; i++)
        assert_line("time=" STAMP " level=info msg=again\n");
    cr_assert_null(next_line());

    clock_now_ns += NS_PER_SEC;
    for (int i = 0; i < 100; i++)
        flood_once();
    cr_assert_not_null(strstr(next_line(), " msg=again suppressed=990\n"));
    cr_assert_null(next_line());

    clock_now_ns += NS_PER_SEC - 1;
    flood_once();
    cr_assert_null(next_line());
    clock_now_ns += 1;
    log_setup(LOG_DEBUG, LOG_JSON);
    flood_once();
    cr_assert_not_null(strstr(next_line(), "\"msg\":\"again\",\"suppressed\":100}\n"));
}

Test(log, a_quiet_call_site_regains_its_burst)
{
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2 * LOG_BURST; i++)
            flood_once();
        for (int i = 0; i < LOG_BURST; i++)
            cr_assert_not_null(next_line());
        cr_assert_null(next_line());
        clock_now_ns += LOG_BURST * NS_PER_SEC;
    }
}

Test(log, call_sites_are_limited_apart)
{
    for (int i = 0; i < 100; i++)
        flood_once();
    while (next_line() != NULL)
        continue;
    log_info("other", NULL);
    assert_line("time=" STAMP " level=info msg=other\n");
}

Test(log, a_clock_that_is_set_back_does_not_silence_a_call_site)
{
    for (int i = 0; i < 100; i++)
        flood_once();
    while (next_line() != NULL)
        continue;
    clock_now_ns -= 3600 * NS_PER_SEC;
    flood_once();
    cr_assert_not_null(strstr(next_line(), "suppressed=90"));
}

static void *flood_thread(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10000; i++)
        flood_once();
    return NULL;
}

Test(log, threads_share_the_limit_of_a_call_site_and_lose_no_count)
{
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, flood_thread, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    uint64_t lines = 0, suppressed = 0;
    clock_now_ns += NS_PER_SEC;
    flood_once();
    for (const char *line = next_line(); line != NULL; line = next_line()) {
        const char *count = strstr(line, "suppressed=");
        suppressed += count != NULL ? strtoull(count + 11, NULL, 10) : 0;
        lines++;
    }
    cr_assert_eq(lines, LOG_BURST + 1);
    cr_assert_eq(lines + suppressed, 4 * 10000 + 1);
}

Test(log, errno_stays_as_it_was)
{
    log_set_fd(-1);
    errno = EAGAIN;
    log_info("nobody hears this", NULL);
    cr_assert_eq(errno, EAGAIN);
}

Test(log, numbers_print_in_full)
{
    struct log_num a, b;
    cr_assert_str_eq(log_u64(&a, UINT64_MAX), "18446744073709551615");
    cr_assert_str_eq(log_i64(&b, INT64_MIN), "-9223372036854775808");
    cr_assert_str_eq(log_u64(&a, 0), "0");
}
