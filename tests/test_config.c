/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The server's table of flags, the checks that span them, and all that is printed from the table:
 * help, man page, effective values; and the sample configuration that must agree with it. */

#include <criterion/criterion.h>
#include <criterion/redirect.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/tidewire/address.h"
#include "tools/tidewire/commands.h"
#include "tools/tidewire/config.h"

struct reading {
    struct config c;
    struct options *o;
    int code;
    char err[2048];
};

static void read_with(struct reading *r, char **args)
{
    memset(r, 0, sizeof(*r));
    int argc = 0;
    while (args[argc] != NULL)
        argc++;
    char *env[] = {"TIDEWIRE_CONFIG=/dev/null", NULL};
    FILE *err = fmemopen(r->err, sizeof(r->err), "w");
    cr_assert_not_null(err);
    r->code = config_read(&r->c, argc, args, env, err, &r->o);
    fclose(err);
}

#define ARGS(...) ((char *[]){"serve", __VA_ARGS__ __VA_OPT__(, ) NULL})

static void assert_accepted(char **args)
{
    struct reading r;
    read_with(&r, args);
    cr_assert_eq(r.code, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    options_free(r.o);
}

/* One line that holds all the words; exit code 2. */
static void assert_refused(char **args, const char *const *words)
{
    struct reading r;
    read_with(&r, args);
    cr_assert_eq(r.code, OPTIONS_EXIT_USAGE, "%s %s", args[1], args[2]);
    cr_assert_null(r.o);
    cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "one line: %s", r.err);
    for (; *words != NULL; words++)
        cr_assert_not_null(strstr(r.err, *words), "\"%s\" not in: %s", *words, r.err);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct option *row_of(const char *name)
{
    for (uint32_t i = 0; i < config_table_len; i++) {
        if (strcmp(config_table[i].name, name) == 0)
            return &config_table[i];
    }
    return NULL;
}

/* A file of the source tree, found beside this one. */
static char *source_text(const char *path)
{
    char full[4096];
    const char *cut = strstr(__FILE__, "tests/test_config.c");
    cr_assert_not_null(cut);
    snprintf(full, sizeof(full), "%.*s%s", (int)(cut - __FILE__), __FILE__, path);
    FILE *f = fopen(full, "re");
    cr_assert_not_null(f, "%s", full);
    char *text = calloc(1, 1 << 20);
    cr_assert_gt(fread(text, 1, (1 << 20) - 1, f), 0);
    fclose(f);
    return text;
}

/* The table --------------------------------------------------------------------------------------
 */

Test(config, every_row_is_complete_and_groups_stand_together)
{
    for (uint32_t i = 0; i < config_table_len; i++) {
        const struct option *row = &config_table[i];
        size_t help_len = strlen(row->help);
        cr_assert(help_len > 20 && help_len < 300, "%s", row->name);
        cr_assert(isupper(row->help[0]) && row->help[help_len - 1] == '.', "%s", row->name);
        cr_assert(row->def != NULL || row->type == OPTION_LIST, "%s", row->name);
        for (uint32_t k = 0; k < i; k++) {
            cr_assert_neq(row->offset, config_table[k].offset, "%s", row->name);
            cr_assert_str_neq(row->name, config_table[k].name);
            bool is_same = strcmp(row->group, config_table[k].group) == 0;
            cr_assert(!is_same || strcmp(config_table[i - 1].group, row->group) == 0, "%s",
                      row->name);
        }
    }
}

Test(config, every_flag_of_the_settings_headers_is_in_the_table_with_its_default)
{
    static const char *const headers[] = {"core/core_config.h", "net/net_config.h",
                                          "pubsub/pubsub_config.h", "pubsub/redis_config.h",
                                          "tools/tidewire/config.h"};
    uint32_t flags = 0, defaults = 0;
    for (size_t h = 0; h < ARRAY_LEN(headers); h++) {
        char *text = source_text(headers[h]);
        for (char *at = strstr(text, "/* --"); at != NULL; at = strstr(at + 1, "/* --")) {
            char name[64] = "", value[64] = "";
            cr_assert_geq(sscanf(at, "/* --%63[a-z-] %63s", name, value), 1);
            const struct option *row = row_of(name);
            cr_assert_not_null(row, "--%s of %s", name, headers[h]);
            flags++;
            value[strcspn(value, ";,")] = 0;
            size_t len = strlen(value);
            if (len > 0 && value[len - 1] == ':')
                value[len - 1] = 0;
            if (!isdigit(value[0]) && strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
                continue;
            cr_assert_str_eq(row->def, value, "--%s", name);
            defaults++;
        }
        free(text);
    }
    cr_assert_eq(flags, config_table_len);
    cr_assert_gt(defaults, 25);
}

Test(config, defaults_are_what_the_settings_say)
{
    struct reading r;
    read_with(&r, ARGS());
    cr_assert_eq(r.code, 0);
    const struct config *c = &r.c;
    cr_assert(c->core.pin && c->core.io == CORE_IO_AUTO && c->core.shards == 0);
    cr_assert_eq(c->core.turn_budget_ns, 2 * NS_PER_MS);
    cr_assert_eq(c->net.max_message_bytes, 64 << 10);
    cr_assert_eq(c->net.ping_interval_ns, 25 * NS_PER_SEC);
    cr_assert_eq(c->net.queue_memory_bytes, 1ULL << 30);
    cr_assert(c->net.compress == 0 && c->net.allow_origin.count == 0);
    cr_assert(!c->pubsub.echo && !c->insecure && c->page == CONFIG_PAGE_AUTO);
    cr_assert(c->log_level == LOG_INFO && c->log_format == LOG_LOGFMT);
    cr_assert_str_eq(c->address.items[0], "127.0.0.1");
    cr_assert_str_eq(c->admin_address.items[0], "127.0.0.1:8001");
    cr_assert_null(config_exposed_address(c));
    options_free(r.o);
}

/* Whether "--NAME=n" is taken by the table alone; *back is the value that came of it. */
static bool is_taken(const struct option *row, uint64_t n, uint64_t *back)
{
    char flag[128], text[128], message[1024];
    bool is_size = row->type == OPTION_SIZE;
    snprintf(flag, sizeof(flag), "--%s=%llu%s", row->name, (unsigned long long)n,
             is_size ? "B" : "us");
    struct config c;
    struct options *o = NULL;
    char *args[] = {"serve", flag, NULL}, *env[] = {NULL};
    FILE *err = fmemopen(message, sizeof(message), "w");
    int code = options_read(config_table, config_table_len, &c, 2, args, env, NULL, err, &o);
    fclose(err);
    if (code != 0)
        return false;
    options_value_text(o, row->name, text, sizeof(text));
    cr_assert_eq(is_size ? options_parse_size(text, back) : options_parse_duration(text, back), 0);
    options_free(o);
    return true;
}

Test(config, the_ends_of_every_range_are_taken_and_read_back_and_what_is_beyond_is_not)
{
    for (uint32_t i = 0; i < config_table_len; i++) {
        const struct option *row = &config_table[i];
        if (row->type != OPTION_SIZE && row->type != OPTION_DURATION)
            continue;
        uint64_t unit = row->type == OPTION_SIZE ? 1 : NS_PER_US, back = 0;
        uint64_t low = row->min / unit, high = row->max / unit;
        cr_assert(is_taken(row, low, &back), "%s", row->name);
        cr_assert_eq(back, row->min, "%s", row->name);
        cr_assert(low == 0 || is_taken(row, 0, &back) == row->zero_off, "%s", row->name);
        cr_assert(low <= 1 || !is_taken(row, low - 1, &back), "%s", row->name);
        if (high == 0)
            continue;
        cr_assert(is_taken(row, high, &back), "%s", row->name);
        cr_assert_eq(back, row->max, "%s", row->name);
        cr_assert(!is_taken(row, high + 1, &back), "%s", row->name);
    }
}

/* Addresses --------------------------------------------------------------------------------------
 */

Test(config, addresses_are_parsed_and_classified)
{
    static const struct {
        const char *text;
        int family; /* 0: refused */
        bool is_loopback;
    } rows[] = {
        {"127.0.0.1", AF_INET, true},
        {"127.255.255.254", AF_INET, true},
        {"::1", AF_INET6, true},
        {"[::1]", AF_INET6, true},
        {"unix:/run/x", AF_UNIX, true},
        {"unix:x", AF_UNIX, true},
        {"0.0.0.0", AF_INET, false},
        {"128.0.0.1", AF_INET, false},
        {"126.255.255.255", AF_INET, false},
        {"192.0.2.7", AF_INET, false},
        {"::", AF_INET6, false},
        {"::2", AF_INET6, false},
        {"fe80::1", AF_INET6, false},
        {"1::1", AF_INET6, false},
        {"localhost", 0, false},
        {"unix:", 0, false},
        {"", 0, false},
        {"127.0.0.1:80", 0, false},
        {"127.0.0.256", 0, false},
        {"127.1", 0, false},
        {"[::1", 0, false},
        {"*", 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct address a;
        int err = address_parse(rows[i].text, 80, &a);
        cr_assert_eq(err == 0, rows[i].family != 0, "%s", rows[i].text);
        if (err != 0)
            continue;
        cr_assert_eq(a.addr.family, rows[i].family, "%s", rows[i].text);
        cr_assert_eq(address_is_loopback(&a), rows[i].is_loopback, "%s", rows[i].text);
        cr_assert_eq(a.path != NULL, rows[i].family == AF_UNIX);
    }
}

Test(config, an_ipv4_address_within_ipv6_counts_as_what_it_is)
{
    struct address a;
    cr_assert_eq(address_parse("::ffff:127.0.0.1", 80, &a), 0);
    cr_assert(address_is_loopback(&a));
    cr_assert_eq(address_parse("::ffff:10.0.0.1", 80, &a), 0);
    cr_assert(!address_is_loopback(&a));
}

Test(config, an_admin_address_has_its_port)
{
    static const struct {
        const char *text;
        int port; /* -1: refused */
    } rows[] = {
        {"127.0.0.1:8001", 8001},
        {"[::1]:0", 0},
        {"[::1]:65535", 65535},
        {"unix:/run/x:1", 0},
        {"127.0.0.1", -1},
        {"::1:8001", -1},
        {"::1", -1},
        {"127.0.0.1:", -1},
        {"127.0.0.1:65536", -1},
        {"127.0.0.1:x", -1},
        {"127.0.0.1:+1", -1},
        {":8001", -1},
        {"8001", -1},
        {"unix:", -1},
        {"127.0.0.1:000080", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct address a;
        int err = address_parse_with_port(rows[i].text, &a);
        cr_assert_eq(err == 0, rows[i].port >= 0, "%s", rows[i].text);
        if (err == 0)
            cr_assert_eq(a.addr.port, rows[i].port, "%s", rows[i].text);
    }
}

Test(config, a_unix_path_is_at_most_107_bytes)
{
    char text[5 + ADDRESS_PATH_MAX + 2] = "unix:";
    struct address a;
    memset(text + 5, 'x', ADDRESS_PATH_MAX + 1);
    cr_assert_neq(address_parse(text, 0, &a), 0);
    text[5 + ADDRESS_PATH_MAX] = 0;
    cr_assert_eq(address_parse(text, 0, &a), 0);
    cr_assert_eq(strlen(a.path), ADDRESS_PATH_MAX);
}

/* Checks -----------------------------------------------------------------------------------------
 */

Test(config, listening_beyond_loopback_needs_insecure)
{
    static char *const exposed[] = {"0.0.0.0", "::", "192.0.2.7", "2001:db8::1"};
    for (size_t i = 0; i < ARRAY_LEN(exposed); i++) {
        assert_refused(ARGS("--address", exposed[i]),
                       WORDS("--address: ", exposed[i], "--insecure"));
        assert_accepted(ARGS("--address", exposed[i], "--insecure"));
        assert_refused(ARGS("--address", "unix:/x", "--address", exposed[i], "--insecure=off"),
                       WORDS(exposed[i], "--insecure"));
    }
    assert_accepted(ARGS("--address", "127.9.9.9", "--address=::1", "--address", "unix:/run/x"));
    assert_refused(ARGS("--admin-address", "0.0.0.0:9"),
                   WORDS("--admin-address: 0.0.0.0:9 is reached"));
    assert_accepted(ARGS("--admin-address", "off"));
}

Test(config, packets_are_followed_only_to_shards_that_stay_on_their_cores)
{
    assert_accepted(ARGS("--incoming-cpu", "on"));
    assert_accepted(ARGS("--incoming-cpu", "off", "--pin", "off"));
    assert_refused(ARGS("--incoming-cpu", "on", "--pin", "off"),
                   WORDS("--incoming-cpu: ", "--pin on"));
}

Test(config, the_exposed_address_is_told)
{
    struct reading r;
    read_with(&r, ARGS("--address", "127.0.0.1", "--address", "2001:db8::1", "--insecure"));
    cr_assert_eq(r.code, 0);
    cr_assert_str_eq(config_exposed_address(&r.c), "2001:db8::1");
    options_free(r.o);
    read_with(&r, ARGS("--admin-address", "off"));
    cr_assert_eq(r.code, 0);
    cr_assert(config_admin_is_off(&r.c));
    cr_assert_null(config_exposed_address(&r.c));
    options_free(r.o);
}

Test(config, no_place_is_listened_on_twice)
{
    assert_refused(ARGS("--address=::1", "--address=[::1]"), WORDS("--address: [::1]", "twice"));
    assert_refused(ARGS("--port", "8001"), WORDS("admin-address: 127.0.0.1:8001", "twice"));
    assert_refused(ARGS("--address=unix:/x", "--admin-address=unix:/x"), WORDS("unix:/x", "twice"));
    assert_accepted(ARGS("--port", "0", "--admin-address=127.0.0.1:0"));
    assert_accepted(ARGS("--address=unix:/x", "--admin-address=unix:/y"));
    assert_accepted(ARGS("--address=127.0.0.1", "--address=127.0.0.2"));
}

Test(config, all_addresses_and_one_of_them_would_meet)
{
    static char *const meet[][2] = {{"0.0.0.0", "127.0.0.1"},
                                    {"127.0.0.1", "0.0.0.0"},
                                    {"::", "::1"},
                                    {"::", "127.0.0.1"},
                                    {"0.0.0.0", "::"}};
    for (size_t i = 0; i < ARRAY_LEN(meet); i++)
        assert_refused(ARGS("--insecure", "--address", meet[i][0], "--address", meet[i][1]),
                       WORDS("--address: ", meet[i][1], "twice"));
    assert_refused(ARGS("--insecure", "--address=0.0.0.0", "--port=8001"),
                   WORDS("admin-address: 127.0.0.1:8001", "twice"));
    assert_accepted(ARGS("--insecure", "--address=0.0.0.0", "--address=::1"));
    assert_accepted(ARGS("--insecure", "--address=::", "--port=8002"));
}

Test(config, off_is_no_address_among_others)
{
    assert_refused(ARGS("--admin-address=off", "--admin-address=127.0.0.1:1"),
                   WORDS("--admin-address", "off stands alone"));
}

Test(config, a_message_must_fit_where_it_goes)
{
    assert_refused(ARGS("--max-message", "2MiB"),
                   WORDS("--max-queue", "max-message 2MiB", "raise"));
    assert_accepted(ARGS("--max-message", "2MiB", "--max-queue", "2MiB"));
    assert_refused(ARGS("--assembly-memory", "64KiB", "--max-message=65KiB"),
                   WORDS("--assembly-memory", "max-message 65KiB"));
    assert_refused(ARGS("--byte-rate", "10KiB"), WORDS("--byte-rate", "64KiB", "RATE/64KiB"));
    assert_accepted(ARGS("--byte-rate", "10KiB/64KiB"));
    assert_accepted(ARGS("--byte-rate", "0"));
}

Test(config, single_values_have_their_bounds)
{
    static const struct {
        char *flag, *good, *bad;
        const char *word;
    } rows[] = {
        {"--max-message", "1", "0", "1B to 64MiB"},
        {"--max-headers", "128", "129", "1 to 128"},
        {"--recv-buffers", "256", "255", "power of two"},
        {"--recv-buffers", "0", "3", "power of two"},
        {"--mesh-slots", "16", "24", "power of two"},
        {"--mesh-slots", "65536", "8", "16 to 65536"},
        {"--port", "0", "65536", "0 to 65535"},
        {"--shards", "256", "257", "0 to 256"},
        {"--io", "uring", "iouring", "auto, uring, epoll"},
        {"--compress", "on", "yes", "off, on"},
        {"--log-level", "debug", "trace", "debug, info, warn, error"},
        {"--ping-interval", "0", "9ms", "10ms to 24h, 0 is off"},
        {"--pong-misses", "3", "0", "1 to 100"},
        {"--address", "::1", "localhost", "names are not looked up"},
        {"--admin-address", "[::1]:1", "::1:1", "with a port"},
        {"--proxy-from", "10.0.0.0/8", "10.0.0.0/33", "no network"},
        {"--proxy-from", "unix", "balancer", "no network"},
        {"--allow-origin", "https://example.com:8443", "https://example.com/", "no origin"},
        {"--allow-origin", "*.example.com", "example.com", "no origin"},
        {"--allow-origin", "*", "*.", "no origin"},
        {"--allow-origin", "http://[::1]:3000", "://x", "no origin"},
        {"--allow-origin", "app://x", "https://", "no origin"},
        {"--byte-rate", "64KiB/1MiB", "17GiB", "up to 16GiB"},
        {"--redis-prefix", "staging-1:", "staging", "end with a colon"},
        {"--redis-prefix", ":", "a:b:", "hold no other"},
        {"--redis-prefix", "tidewire:", "tide:wire", "hold no other"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_accepted(ARGS(rows[i].flag, rows[i].good));
        assert_refused(ARGS(rows[i].flag, rows[i].bad),
                       WORDS(rows[i].flag, rows[i].bad, rows[i].word));
    }
}

Test(config, a_prefix_does_not_put_a_cluster_into_one_slot)
{
    assert_accepted(ARGS("--redis", "redis://a", "--redis-prefix", "{x}:"));
    assert_accepted(ARGS("--redis", "redis+cluster://a", "--redis-prefix", "x:"));
    assert_refused(ARGS("--redis", "redis+cluster://a", "--redis-prefix", "{x}:"),
                   WORDS("--redis-prefix", "one slot", "leave it out"));
}

Test(config, what_belongs_to_tls_with_redis_comes_together)
{
    static char *const urls[] = {"rediss://a", "rediss+sentinel://a/m", "rediss+cluster://a"};

    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        assert_accepted(ARGS("--redis", urls[i]));
        assert_accepted(ARGS("--redis", "redis://b", "--redis", urls[i], "--redis-ca", "ca.pem",
                             "--redis-cert", "c.pem", "--redis-key", "k.pem"));
        assert_refused(ARGS("--redis", urls[i], "--redis-cert", "c.pem"),
                       WORDS("--redis-cert", "come together", "give redis-key"));
        assert_refused(ARGS("--redis", urls[i], "--redis-key", "k.pem"),
                       WORDS("--redis-key", "come together", "give redis-cert"));
    }
    assert_refused(ARGS("--redis", "redis://a", "--redis-ca", "ca.pem"),
                   WORDS("--redis-ca", "no effect", "rediss://"));
    assert_refused(ARGS("--redis", "redis://a", "--redis-cert", "c.pem", "--redis-key", "k.pem"),
                   WORDS("--redis-cert", "no effect", "rediss://"));
    assert_refused(ARGS("--redis-ca", "ca.pem"), WORDS("--redis-ca", "no effect", "rediss://"));
    assert_refused(ARGS("--redis", "redis://a", "--redis", "rediss://a"),
                   WORDS("--redis", "stands twice"));
}

/* What is printed --------------------------------------------------------------------------------
 */

static char *printed(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out);
    fclose(out);
    return text;
}

static void assert_round_trip(char **args)
{
    struct reading a, b;
    char name[] = "/tmp/tidewire-XXXXXX", flag[64];
    read_with(&a, args);
    cr_assert_eq(a.code, 0, "%s", a.err);
    int fd = mkstemp(name);
    FILE *out = fdopen(fd, "w");
    options_print_config(a.o, out);
    fclose(out);
    snprintf(flag, sizeof(flag), "--config=%s", name);
    read_with(&b, ARGS(flag));
    unlink(name);
    cr_assert_eq(b.code, 0, "%s", b.err);
    for (uint32_t i = 0; i < config_table_len; i++) {
        char x[1024], y[1024];
        options_value_text(a.o, config_table[i].name, x, sizeof(x));
        options_value_text(b.o, config_table[i].name, y, sizeof(y));
        cr_assert_str_eq(x, y, "%s", config_table[i].name);
    }
    options_free(a.o);
    options_free(b.o);
}

Test(config, printed_values_read_back_to_the_same)
{
    assert_round_trip(ARGS());
    assert_round_trip(ARGS("--address=::", "--address=unix:/run/tidewire/a.sock", "--insecure",
                           "--admin-address=off", "--allow-origin=*.example.com",
                           "--allow-origin=https://a.b", "--proxy-from=10.0.0.0/8", "--port=0",
                           "--connect-rate=5/7", "--byte-rate=100KiB/3MiB", "--drain-time=0",
                           "--ping-interval=1500ms", "--max-message=65537", "--log-level=error",
                           "--pin=off", "--shards=3", "--compress=on", "--io=epoll"));
}

Test(config, print_config_and_help_end_the_program, .init = cr_redirect_stdout)
{
    struct reading r;
    read_with(&r, ARGS("--port=7", "--print-config"));
    cr_assert_eq(r.code, CONFIG_DONE);
    cr_assert_null(r.o);
    read_with(&r, ARGS("--help"));
    cr_assert_eq(r.code, CONFIG_DONE);
    fflush(stdout);
    char text[65536] = "";
    FILE *out = cr_get_redirected_stdout();
    size_t len = fread(text, 1, 16384, out);
    cr_assert_gt(len, 0);
    cr_assert_not_null(strstr(text, "port = 7                             ; --port\n"));
    cr_assert_not_null(strstr(text, "Usage: tidewire serve"));
}

Test(config, no_password_is_shown, .init = cr_redirect_stdout)
{
    struct reading r;
    char text[65536] = "", longer[256] = "redis://u:hunter2hunter2";
    read_with(&r, ARGS("--redis=redis://u:hunter2@h", "--print-config",
                       "--redis=redis+sentinel://:hunter2@a,b/m?sentinel=s:hunter2"));
    cr_assert_eq(r.code, CONFIG_DONE, "%s", r.err);
    fflush(stdout);
    cr_assert_gt(fread(text, 1, 32768, cr_get_redirected_stdout()), 0);
    cr_assert_not_null(strstr(text, "redis = redis://u:***@h              ; --redis; the password "
                                    "is not shown\n"));
    cr_assert_not_null(strstr(text, "redis = redis+sentinel://:***@a,b/m?sentinel=s:*** ; "));
    cr_assert_null(strstr(text, "hunter2"));

    for (size_t i = strlen(longer); i < 200; i++)
        longer[i] = 'x';
    read_with(&r, ARGS("--redis", longer));
    cr_assert_eq(r.code, OPTIONS_EXIT_USAGE);
    cr_assert_null(strstr(r.err, "hunter2"), "%s", r.err);
    strcpy(longer + 190, "@host");
    read_with(&r, ARGS("--redis", longer));
    cr_assert_not_null(strstr(r.err, "\"redis://u:***@host\" is out of range"), "%s", r.err);
}

Test(config, print_config_does_not_hide_a_mistake)
{
    assert_refused(ARGS("--print-config", "--address", "::"), WORDS("--insecure"));
}

Test(config, help_and_man_page_name_every_flag_with_its_default)
{
    char *help = printed(help_print_serve);
    char *man = printed(help_print_man);
    for (uint32_t i = 0; i < config_table_len; i++) {
        const struct option *row = &config_table[i];
        char flag[128], escaped[256] = "\n\\fB\\-\\-";
        snprintf(flag, sizeof(flag), "\n  --%s ", row->name);
        cr_assert_not_null(strstr(help, flag), "%s", flag);
        char *end = escaped + strlen(escaped);
        for (const char *p = row->name; *p != 0; p++)
            end += sprintf(end, *p == '-' ? "\\-" : "%c", *p);
        strcpy(end, "\\fR");
        cr_assert_not_null(strstr(man, escaped), "%s", escaped);
    }
    for (char *line = strtok(help, "\n"); line != NULL; line = strtok(NULL, "\n"))
        cr_assert_leq(strlen(line), 80, "%s", line);
    free(help);
    free(man);
}

Test(config, the_man_page_has_its_sections_and_no_stray_requests)
{
    static const char *const sections[] = {
        "NAME",        "SYNOPSIS",    "DESCRIPTION", "COMMANDS",    "OPTIONS OF SERVE",
        "CONFIG FILE", "ENVIRONMENT", "SIGNALS",     "EXIT STATUS", "FILES"};
    static const char *const requests[] = {".TH ", ".SH ", ".SS ", ".TP",  ".B ",
                                           ".BR ", ".I ",  ".RI ", ".RB ", ".br"};
    char *man = printed(help_print_man);
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        char line[64];
        snprintf(line, sizeof(line), "\n.SH %s\n", sections[i]);
        cr_assert_not_null(strstr(man, line), "%s", line);
    }
    for (char *line = strtok(man, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        bool is_known = line[0] != '.' && line[0] != '\'';
        for (size_t i = 0; i < ARRAY_LEN(requests); i++)
            is_known |= strncmp(line, requests[i], strlen(requests[i])) == 0;
        cr_assert(is_known, "%s", line);
    }
    free(man);
}

/* Subcommands ------------------------------------------------------------------------------------
 */

Test(config, check_config_says_ok_or_what_is_wrong, .init = cr_redirect_stdout)
{
    char name[] = "/tmp/tidewire-XXXXXX";
    char *env[] = {"TIDEWIRE_PORT=nonsense", NULL};
    int fd = mkstemp(name);
    cr_assert_eq(write(fd, "port = 9000\n", 12), 12);
    cr_assert_eq(cmd_check_config(2, (char *[]){"check-config", name, NULL}, env), EXIT_OK);
    cr_assert_eq(write(fd, "prot = 9000\n", 12), 12);
    cr_redirect_stderr();
    cr_assert_eq(cmd_check_config(2, (char *[]){"check-config", name, NULL}, env), EXIT_USAGE);
    cr_assert_eq(cmd_check_config(1, (char *[]){"check-config", NULL}, env), EXIT_USAGE);
    close(fd);
    unlink(name);
    cr_assert_eq(cmd_check_config(2, (char *[]){"check-config", name, NULL}, env), EXIT_FILE);
    fflush(stdout);
    char text[512] = "", wanted[64];
    cr_assert_gt(fread(text, 1, sizeof(text) - 1, cr_get_redirected_stdout()), 0);
    snprintf(wanted, sizeof(wanted), "%s: ok\n", name);
    cr_assert_str_eq(text, wanted);
    fflush(stderr);
    memset(text, 0, sizeof(text));
    cr_assert_gt(fread(text, 1, sizeof(text) - 1, cr_get_redirected_stderr()), 0);
    cr_assert_not_null(strstr(text, ":2: unknown key \"prot\"; did you mean port?\n"));
}

Test(config, help_takes_serve_or_man_and_nothing_else, .init = cr_redirect_stdout)
{
    char *env[] = {NULL};
    cr_redirect_stderr();
    cr_assert_eq(cmd_help(1, (char *[]){"help", NULL}, env), EXIT_OK);
    cr_assert_eq(cmd_help(2, (char *[]){"help", "serve", NULL}, env), EXIT_OK);
    cr_assert_eq(cmd_help(2, (char *[]){"help", "sreve", NULL}, env), EXIT_USAGE);
    cr_assert_eq(cmd_help(3, (char *[]){"help", "serve", "x", NULL}, env), EXIT_USAGE);
}

/* The sample -------------------------------------------------------------------------------------
 */

/* A line "#key = value"; a comment has a blank behind its '#'. */
static bool sample_setting(const char *line, char *key, char *value)
{
    return sscanf(line, "#%63[a-z-] = %63[^\n]", key, value) == 2;
}

#define SAMPLE "tools/deploy/tidewire.conf"
#define OPEN_INTERNET "# RECOMMENDED FOR THE OPEN INTERNET"

Test(config, the_sample_has_every_key_of_the_table_once_with_its_default_and_no_other)
{
    char *text = source_text(SAMPLE);
    char *block = strstr(text, OPEN_INTERNET);
    cr_assert_not_null(block);
    *block = 0;
    uint32_t row = 0;
    char explanation[256] = "";
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char key[64], value[64];
        cr_assert_eq(line[0], '#', "not commented out: %s", line);
        if (!sample_setting(line, key, value)) {
            snprintf(explanation, sizeof(explanation), "%s", line);
            continue;
        }
        cr_assert_lt(row, config_table_len);
        cr_assert_str_eq(key, config_table[row].name, "in the order of the table");
        cr_assert(config_table[row].def == NULL || strcmp(value, config_table[row].def) == 0,
                  "%s = %s", key, value);
        cr_assert_eq(strncmp(explanation, "# ", 2), 0, "%s is not explained", key);
        cr_assert_eq(explanation[strlen(explanation) - 1], '.', "%s", explanation);
        explanation[0] = 0;
        row++;
    }
    cr_assert_eq(row, config_table_len);
    free(text);
}

/* Writes the text with the '#' of its settings removed and checks the file. */
static int check_uncommented(const char *text)
{
    char name[] = "/tmp/tidewire-XXXXXX", flag[64], key[64], value[64];
    FILE *f = fdopen(mkstemp(name), "w");
    for (const char *line = text; *line != 0; line += strcspn(line, "\n") + 1) {
        const char *shown = sample_setting(line, key, value) ? line + 1 : line;
        fprintf(f, "%.*s\n", (int)strcspn(shown, "\n"), shown);
    }
    fclose(f);
    snprintf(flag, sizeof(flag), "--config=%s", name);
    struct reading r;
    read_with(&r, ARGS(flag));
    unlink(name);
    if (r.code != 0)
        fprintf(stderr, "%s", r.err);
    options_free(r.o);
    return r.code;
}

Test(config, the_sample_is_right_as_it_is_with_all_its_lines_and_with_its_recommendations)
{
    char *text = source_text(SAMPLE);
    char *block = strstr(text, OPEN_INTERNET);
    cr_assert_eq(check_uncommented(block), 0);
    *block = 0;
    cr_assert_eq(check_uncommented(text), 0);
    free(text);

    char path[4096], *cut = strstr(__FILE__, "tests/test_config.c");
    snprintf(path, sizeof(path), "--config=%.*s" SAMPLE, (int)(cut - __FILE__), __FILE__);
    assert_accepted(ARGS(path));
}

Test(config, the_sample_recommends_the_limits_that_the_open_internet_needs)
{
    static const char *const wanted[] = {"max-connections-per-ip", "connect-rate",
                                         "connect-rate-per-ip", "message-rate", "byte-rate"};
    char *text = source_text(SAMPLE);
    const char *block = strstr(text, OPEN_INTERNET);
    uint32_t found = 0;
    for (const char *line = block; *line != 0; line += strcspn(line, "\n") + 1) {
        char key[64], value[64];
        if (!sample_setting(line, key, value))
            continue;
        cr_assert_lt(found, ARRAY_LEN(wanted));
        cr_assert_str_eq(key, wanted[found]);
        cr_assert_str_neq(value, "0");
        found++;
    }
    cr_assert_eq(found, ARRAY_LEN(wanted));
    free(text);
}
