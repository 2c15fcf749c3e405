/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* The mechanism of options on a small table of its own: one row of each type. */

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/options.h"

struct values {
    bool loud;
    uint32_t port;
    uint32_t slots;
    uint64_t max_size;
    uint64_t users;
    uint64_t pause_ns;
    struct option_rate rate;
    struct option_rate byte_rate;
    int color;
    char *title;
    struct option_list place;
};

static const char *const colors[] = {"red", "green", "blue", NULL};

static const char *check_even(const void *value)
{
    return *(const uint32_t *)value % 2 == 0 ? NULL : "is odd; give an even one";
}

static const char *check_place(const void *value)
{
    return strcmp(value, "nowhere") != 0 ? NULL : "is no place; give another";
}

#define AT(member) offsetof(struct values, member)

static const struct option table[] = {
    {.name = "loud",
     .group = "One",
     .help = "Says more.",
     .def = "off",
     .offset = AT(loud),
     .type = OPTION_BOOL},
    {.name = "port",
     .group = "One",
     .help = "A port.",
     .def = "8000",
     .max = 65535,
     .offset = AT(port),
     .type = OPTION_U32},
    {.name = "slots",
     .group = "One",
     .help = "Slots.",
     .def = "4",
     .min = 2,
     .check = check_even,
     .offset = AT(slots),
     .type = OPTION_U32},
    {.name = "max-size",
     .group = "Two",
     .help = "A size.",
     .def = "64KiB",
     .min = 1,
     .max = 1 << 20,
     .offset = AT(max_size),
     .type = OPTION_SIZE},
    {.name = "users",
     .group = "Two",
     .help = "A count.",
     .def = "10k",
     .min = 1,
     .max = 50000000,
     .offset = AT(users),
     .type = OPTION_COUNT},
    {.name = "pause",
     .group = "Two",
     .help = "A pause.",
     .def = "25s",
     .min = NS_PER_MS,
     .max = 3600 * NS_PER_SEC,
     .zero_off = true,
     .offset = AT(pause_ns),
     .type = OPTION_DURATION,
     .reload = OPTION_RELOAD},
    {.name = "rate",
     .group = "Two",
     .help = "A rate.",
     .def = "0",
     .offset = AT(rate),
     .type = OPTION_RATE},
    {.name = "byte-rate",
     .group = "Two",
     .help = "A rate of bytes.",
     .def = "0",
     .max = 1 << 30,
     .zero_off = true,
     .sized = true,
     .offset = AT(byte_rate),
     .type = OPTION_RATE},
    {.name = "color",
     .group = "Three",
     .help = "A color.",
     .def = "green",
     .choices = colors,
     .offset = AT(color),
     .type = OPTION_ENUM},
    {.name = "title",
     .group = "Three",
     .help = "A title.",
     .offset = AT(title),
     .type = OPTION_TEXT,
     .reload = OPTION_RELOAD},
    {.name = "place",
     .group = "Three",
     .help = "A place.",
     .def = "here",
     .check = check_place,
     .offset = AT(place),
     .type = OPTION_LIST,
     .reload = OPTION_RELOAD},
};

/* One reading: what went in, and what came out. */
struct reading {
    struct values v;
    struct options *o;
    int code;
    char err[4096];
};

static void read_with(struct reading *r, char **args, char **env, const char *fallback)
{
    memset(r, 0, sizeof(*r));
    int argc = 0;
    while (args[argc] != NULL)
        argc++;
    FILE *err = fmemopen(r->err, sizeof(r->err), "w");
    cr_assert_not_null(err);
    r->code = options_read(table, ARRAY_LEN(table), &r->v, argc, args, env, fallback, err, &r->o);
    fclose(err);
}

#define ARGS(...) ((char *[]){"serve", __VA_ARGS__ __VA_OPT__(, ) NULL})
#define ENV(...) ((char *[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* A file with that text; the name is "/tmp/tidewire-XXXXXX", and stays until the test ends. */
static char *file_of_bytes(char *name, const char *text, size_t len)
{
    strcpy(name, "/tmp/tidewire-XXXXXX");
    int fd = mkstemp(name);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
    return name;
}

static void read_file(struct reading *r, const char *text)
{
    char name[32];
    file_of_bytes(name, text, strlen(text));
    read_with(r, ARGS("--config", name), ENV(), NULL);
    unlink(name);
}

/* Refused with that code and one line that holds every one of the words. */
static void assert_refused(const struct reading *r, int code, const char *const *words)
{
    cr_assert_eq(r->code, code, "code %d: %s", r->code, r->err);
    cr_assert_null(r->o);
    cr_assert_eq(strncmp(r->err, "tidewire: ", 10), 0, "%s", r->err);
    cr_assert_eq(strchr(r->err, '\n'), r->err + strlen(r->err) - 1, "one line: %s", r->err);
    for (; *words != NULL; words++)
        cr_assert_not_null(strstr(r->err, *words), "\"%s\" not in: %s", *words, r->err);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_read(const struct reading *r)
{
    cr_assert_eq(r->code, 0, "%s", r->err);
    cr_assert_str_empty(r->err);
    cr_assert_not_null(r->o);
}

/* Sources ----------------------------------------------------------------------------------------
 */

Test(options, without_any_source_the_defaults_hold)
{
    struct reading r;
    read_with(&r, ARGS(), ENV("HOME=/root"), NULL);
    assert_read(&r);
    cr_assert(!r.v.loud && r.v.port == 8000 && r.v.slots == 4 && r.v.max_size == 65536);
    cr_assert(r.v.pause_ns == 25 * NS_PER_SEC && r.v.rate.per_second == 0 && r.v.color == 1);
    cr_assert_null(r.v.title);
    cr_assert_eq(r.v.place.count, 1);
    cr_assert_str_eq(r.v.place.items[0], "here");
    cr_assert_eq(options_request(r.o), OPTIONS_RUN);
    options_free(r.o);
}

Test(options, a_later_source_wins_and_is_named)
{
    struct reading r;
    char name[32], where_file[64];
    const char *text = "port = 1\nmax-size = 1B\n\ncolor = red\n";
    file_of_bytes(name, text, strlen(text));
    read_with(&r, ARGS("--config", name, "--color", "blue"),
              ENV("TIDEWIRE_MAX_SIZE=2B", "TIDEWIRE_COLOR=red"), NULL);
    unlink(name);
    assert_read(&r);
    cr_assert(r.v.port == 1 && r.v.max_size == 2 && r.v.color == 2);

    const char *where;
    snprintf(where_file, sizeof(where_file), "%s:1", name);
    cr_assert_eq(options_source(r.o, "port", &where), OPTION_FILE);
    cr_assert_str_eq(where, where_file);
    cr_assert_eq(options_source(r.o, "max-size", &where), OPTION_ENV);
    cr_assert_str_eq(where, "TIDEWIRE_MAX_SIZE");
    cr_assert_eq(options_source(r.o, "color", &where), OPTION_COMMAND);
    cr_assert_str_eq(where, "--color");
    cr_assert_eq(options_source(r.o, "pause", &where), OPTION_DEFAULT);
    cr_assert_str_eq(where, "default");
    options_free(r.o);
}

Test(options, a_list_of_a_stronger_source_replaces_a_weaker_one)
{
    struct reading r;
    char name[32];
    const char *text = "place = f1\nport = 1\nplace = f2\n";
    file_of_bytes(name, text, strlen(text));

    read_with(&r, ARGS("--config", name), ENV(), NULL);
    assert_read(&r);
    cr_assert_eq(r.v.place.count, 2);
    cr_assert_str_eq(r.v.place.items[1], "f2");
    options_free(r.o);

    read_with(&r, ARGS("--config", name), ENV("TIDEWIRE_PLACE=e1, e2 ,e3"), NULL);
    assert_read(&r);
    cr_assert_eq(r.v.place.count, 3);
    cr_assert_str_eq(r.v.place.items[1], "e2");
    options_free(r.o);

    read_with(&r, ARGS("--config", name, "--place", "c1", "--place=c2"), ENV("TIDEWIRE_PLACE=e1"),
              NULL);
    assert_read(&r);
    cr_assert_eq(r.v.place.count, 2);
    cr_assert_str_eq(r.v.place.items[0], "c1");
    cr_assert_str_eq(r.v.place.items[1], "c2");
    options_free(r.o);
    unlink(name);
}

Test(options, on_the_command_line_the_last_of_two_values_holds)
{
    struct reading r;
    read_with(&r, ARGS("--port", "1", "--port=2"), ENV(), NULL);
    assert_read(&r);
    cr_assert_eq(r.v.port, 2);
    options_free(r.o);
}

Test(options, a_boolean_stands_alone_or_takes_on_or_off)
{
    static const struct {
        char *args[4];
        bool loud;
    } rows[] = {
        {{"serve", "--loud", NULL}, true},         {{"serve", "--loud", "on", NULL}, true},
        {{"serve", "--loud", "off", NULL}, false}, {{"serve", "--loud=on", NULL}, true},
        {{"serve", "--loud=off", NULL}, false},    {{"serve", "--loud", "--port=1", NULL}, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reading r;
        read_with(&r, (char **)rows[i].args, ENV(), NULL);
        assert_read(&r);
        cr_assert_eq(r.v.loud, rows[i].loud, "row %zu", i);
        options_free(r.o);
    }
}

Test(options, the_file_is_named_by_flag_or_variable_or_is_the_default_if_it_exists)
{
    struct reading r;
    char one[32], two[32], three[32], variable[64];
    file_of_bytes(one, "port = 1\n", 9);
    file_of_bytes(two, "port = 2\n", 9);
    file_of_bytes(three, "port = 3\n", 9);
    snprintf(variable, sizeof(variable), "TIDEWIRE_CONFIG=%s", two);

    read_with(&r, ARGS("--config", one), ENV(variable), three);
    assert_read(&r);
    cr_assert_eq(r.v.port, 1);
    options_free(r.o);
    read_with(&r, ARGS(), ENV(variable), three);
    assert_read(&r);
    cr_assert_eq(r.v.port, 2);
    options_free(r.o);
    read_with(&r, ARGS(), ENV(), three);
    assert_read(&r);
    cr_assert_eq(r.v.port, 3);
    options_free(r.o);
    unlink(one);
    unlink(two);
    unlink(three);
    read_with(&r, ARGS(), ENV(), three);
    assert_read(&r);
    cr_assert_eq(r.v.port, 8000);
    options_free(r.o);
}

Test(options, help_is_answered_whatever_else_is_wrong)
{
    struct reading r;
    read_with(&r, ARGS("--config", "/does/not/exist", "--help"), ENV("TIDEWIRE_NONSENSE=1"), NULL);
    assert_read(&r);
    cr_assert_eq(options_request(r.o), OPTIONS_HELP);
    options_free(r.o);
    read_with(&r, ARGS("-h"), ENV(), NULL);
    assert_read(&r);
    cr_assert_eq(options_request(r.o), OPTIONS_HELP);
    options_free(r.o);
}

/* Refusals ---------------------------------------------------------------------------------------
 */

Test(options, a_bad_value_is_refused_with_what_would_be_good)
{
    static const struct {
        char *flag, *value;
        const char *words[4];
    } rows[] = {
        {"--port", "http", {"--port", "\"http\" is not understood", "0 to 65535"}},
        {"--port", "65536", {"out of range", "0 to 65535"}},
        {"--slots", "1", {"out of range", "at least 2"}},
        {"--slots", "4294967296", {"out of range"}},
        {"--slots", "5", {"\"5\" is odd; give an even one"}},
        {"--max-size", "64k", {"not understood", "64KiB", "1B to 1MiB"}},
        {"--max-size", "0", {"out of range", "1B to 1MiB"}},
        {"--users", "10KiB", {"not understood", "500, 250k or 10M", "1 to 50M"}},
        {"--users", "51M", {"out of range", "1 to 50M"}},
        {"--users", "99999999999999G", {"out of range"}},
        {"--users", "0", {"out of range"}},
        {"--pause", "25", {"not understood", "with its unit", "1ms to 1h, 0 is off"}},
        {"--pause", "1us", {"out of range"}},
        {"--pause", "2h", {"out of range"}},
        {"--rate", "x", {"not understood", "RATE/BURST"}},
        {"--byte-rate", "x", {"not understood", "64KiB/1MiB"}},
        {"--byte-rate", "1KiB/2GiB", {"out of range", "up to 1GiB, 0 is off"}},
        {"--color", "pink", {"not understood", "one of red, green, blue"}},
        {"--loud=maybe", NULL, {"--loud", "on or off"}},
        {"--title", "", {"--title", "1 to 160 bytes"}},
        {"--title", "a ;b", {"not understood"}},
        {"--title", ";b", {"not understood"}},
        {"--title", "a ", {"not understood"}},
        {"--title", " a", {"not understood"}},
        {"--title", "a\nb", {"a?b", "not understood"}},
        {"--title", "a\x7f", {"not understood"}},
        {"--place", "nowhere", {"\"nowhere\" is no place; give another"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reading r;
        read_with(&r, ARGS(rows[i].flag, rows[i].value), ENV(), NULL);
        assert_refused(&r, OPTIONS_EXIT_USAGE, rows[i].words);
    }
}

Test(options, a_text_is_at_most_as_long_as_a_line_of_the_file_carries)
{
    char longest[OPTIONS_TEXT_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    longest[OPTIONS_TEXT_MAX + 1] = 0;
    struct reading r;
    read_with(&r, ARGS("--title", longest), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("out of range", "1 to 160 bytes"));
    longest[OPTIONS_TEXT_MAX] = 0;
    read_with(&r, ARGS("--title", longest), ENV(), NULL);
    assert_read(&r);
    cr_assert_str_eq(r.v.title, longest);
    options_free(r.o);
}

Test(options, an_unknown_flag_is_refused_with_the_nearest_one)
{
    struct reading r;
    read_with(&r, ARGS("--prot", "1"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("--prot", "did you mean --port?"));
    read_with(&r, ARGS("--prot=1"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("did you mean --port?"));
    read_with(&r, ARGS("--print-confg"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("did you mean --print-config?"));
    read_with(&r, ARGS("-port", "1"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("-port", "did you mean --port?"));
    read_with(&r, ARGS("--zzzzzz"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("unknown flag; see --help"));
    read_with(&r, ARGS("stray"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("stray: unexpected argument"));
    read_with(&r, ARGS("--"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("unknown flag"));
}

Test(options, a_flag_without_its_value_is_refused)
{
    struct reading r;
    read_with(&r, ARGS("--port"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("--port", "value is missing", "0 to 65535"));
    read_with(&r, ARGS("--port", "--loud"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("--port", "value is missing"));
    read_with(&r, ARGS("--help=yes"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("--help: takes no value"));
}

Test(options, an_unknown_variable_of_ours_is_refused_with_the_nearest_one)
{
    struct reading r;
    read_with(&r, ARGS(), ENV("TIDEWIRE_PAUS=1s"), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("TIDEWIRE_PAUS", "did you mean TIDEWIRE_PAUSE?"));
    read_with(&r, ARGS(), ENV("TIDEWIRE_port=1"), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("did you mean TIDEWIRE_PORT?"));
    read_with(&r, ARGS(), ENV("TIDEWIRE_=1"), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("unknown variable"));
    read_with(&r, ARGS(), ENV("TIDEWIRE_PORT=x"), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("TIDEWIRE_PORT: \"x\" is not understood"));
    read_with(&r, ARGS(), ENV("TIDEWIRE_PLACE=a,,b"), NULL);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS("TIDEWIRE_PLACE: \"\""));
    read_with(&r, ARGS(), ENV("TIDEWIRE_PORT", "TIDEWIREPORT=x", "XTIDEWIRE_PORT=x"), NULL);
    assert_read(&r);
    options_free(r.o);
}

Test(options, whatever_an_argument_holds_the_message_stays_one_line)
{
    for (int c = 1; c < 256; c++) {
        char flag[] = {'-', '-', 'q', (char)c, 'q', 'q', 0};
        struct reading r;
        read_with(&r, ARGS(flag), ENV(), NULL);
        cr_assert_eq(r.code, OPTIONS_EXIT_USAGE);
        for (char *p = r.err; p[1] != 0; p++)
            cr_assert((unsigned char)*p >= 0x20 && *p != 0x7f, "byte %d of %s", c, r.err);
    }
    char huge[8192];
    memset(huge, 'x', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = 0;
    struct reading r;
    read_with(&r, ARGS(huge), ENV(), NULL);
    cr_assert_eq(r.code, OPTIONS_EXIT_USAGE);
    cr_assert_lt(strlen(r.err), 2048);
    memcpy(huge, "--", 2);
    read_with(&r, ARGS(huge), ENV(), NULL);
    cr_assert_eq(r.code, OPTIONS_EXIT_USAGE);
}

/* The file ---------------------------------------------------------------------------------------
 */

Test(options, the_file_takes_comments_blanks_and_both_line_ends)
{
    struct reading r;
    read_file(&r, "\xef\xbb\xbf# a comment\n"
                  "; another\n"
                  "\n"
                  "   \t\n"
                  "port=1\r\n"
                  "  max-size \t=  2B  \n"
                  "\tcolor: blue ; behind a blank\n"
                  "title = a;b # c = d\n"
                  "place = one\n"
                  "    place = two\n"
                  "loud = on");
    assert_read(&r);
    cr_assert(r.v.port == 1 && r.v.max_size == 2 && r.v.color == 2 && r.v.loud);
    cr_assert_str_eq(r.v.title, "a;b # c = d");
    cr_assert_eq(r.v.place.count, 2);
    cr_assert_str_eq(r.v.place.items[1], "two");
    options_free(r.o);
}

Test(options, a_mistake_in_the_file_is_named_with_its_line)
{
    static const struct {
        const char *text;
        const char *words[4];
    } rows[] = {
        {"port = 1\n\nprot = 2\n", {":3: unknown key \"prot\"; did you mean port?"}},
        {"max_size = 2B\n", {":1: unknown key", "did you mean max-size?"}},
        {"zzzzzzzz = 2B\n", {":1: unknown key \"zzzzzzzz\""}},
        {"config = x\n", {":1: unknown key \"config\""}},
        {"# x\nport = x\n", {":2: port: \"x\" is not understood", "0 to 65535"}},
        {"port =\n", {":1: port: \"\" is not understood"}},
        {"port\n", {":1: \"port\" is not understood; give key = value"}},
        {"port ; = 1\n", {":1: \"port\" is not understood"}},
        {"= 1\n", {":1: unknown key \"\""}},
        {"\n[limits]\nport = 1\n", {":2: there are no sections"}},
        {"[limits\n", {":1: there are no sections"}},
        {"port = 1\nslots = 2\nport = 1\n", {":3: port is set already at ", ":1; remove one"}},
        {"place = nowhere\n", {":1: place: \"nowhere\" is no place"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct reading r;
        read_file(&r, rows[i].text);
        assert_refused(&r, OPTIONS_EXIT_USAGE, rows[i].words);
    }
}

Test(options, a_file_that_is_no_text_is_refused)
{
    struct reading r;
    char name[32];
    file_of_bytes(name, "port = 1\nslots\0 = 2\n", 20);
    read_with(&r, ARGS("--config", name), ENV(), NULL);
    unlink(name);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS(":2: the line holds a zero byte"));
}

Test(options, a_long_line_is_refused_unless_it_is_a_comment)
{
    struct reading r;
    char text[8192];
    for (size_t len = 150; len < 260; len++) {
        memset(text, 0, sizeof(text));
        strcpy(text, "title = ");
        memset(text + 8, 'x', len - 8);
        read_file(&r, text);
        if (len - 8 <= OPTIONS_TEXT_MAX) {
            assert_read(&r);
            cr_assert_eq(strlen(r.v.title), len - 8);
            options_free(r.o);
        } else {
            assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS(":1: "));
        }
    }
    memset(text, '#', 1000);
    strcpy(text + 1000, "\nport = 1\n");
    read_file(&r, text);
    assert_read(&r);
    cr_assert_eq(r.v.port, 1);
    options_free(r.o);
    memset(text, '#', 5000);
    read_file(&r, text);
    assert_refused(&r, OPTIONS_EXIT_USAGE, WORDS(":1: the line is too long"));
}

Test(options, a_file_that_can_not_be_read_has_its_own_exit_code)
{
    struct reading r;
    read_with(&r, ARGS("--config", "/does/not/exist"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_FILE, WORDS("/does/not/exist", "No such file", "--config"));
    read_with(&r, ARGS("--config", "/tmp"), ENV(), NULL);
    assert_refused(&r, OPTIONS_EXIT_FILE, WORDS("/tmp", "Is a directory"));
    read_with(&r, ARGS(), ENV("TIDEWIRE_CONFIG="), NULL);
    assert_refused(&r, OPTIONS_EXIT_FILE, WORDS("\"\": the config file can't be read"));
}

/* Printing ---------------------------------------------------------------------------------------
 */

static char *printed_config(const struct options *o)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_print_config(o, out);
    fclose(out);
    return text;
}

/* Prints the values, reads the text as a file and compares all rows. */
static void assert_round_trip(char **args)
{
    struct reading a, b;
    read_with(&a, args, ENV(), NULL);
    assert_read(&a);
    char *text = printed_config(a.o);
    read_file(&b, text);
    assert_read(&b);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char x[1024], y[1024];
        options_value_text(a.o, table[i].name, x, sizeof(x));
        options_value_text(b.o, table[i].name, y, sizeof(y));
        cr_assert_str_eq(x, y, "%s in\n%s", table[i].name, text);
    }
    cr_assert(a.v.loud == b.v.loud && a.v.port == b.v.port && a.v.slots == b.v.slots);
    cr_assert(a.v.max_size == b.v.max_size && a.v.pause_ns == b.v.pause_ns &&
              a.v.color == b.v.color);
    cr_assert_eq(memcmp(&a.v.rate, &b.v.rate, sizeof(a.v.rate)), 0);
    cr_assert_eq(memcmp(&a.v.byte_rate, &b.v.byte_rate, sizeof(a.v.byte_rate)), 0);
    free(text);
    options_free(a.o);
    options_free(b.o);
}

Test(options, printed_values_read_back_to_the_same)
{
    static char *const values[][2] = {
        {"--loud", "on"},
        {"--port", "0"},
        {"--port", "65535"},
        {"--slots", "4294967294"},
        {"--max-size", "1"},
        {"--max-size", "1023"},
        {"--max-size", "1048575"},
        {"--max-size", "1MiB"},
        {"--users", "1"},
        {"--users", "999"},
        {"--users", "1001k"},
        {"--users", "50M"},
        {"--pause", "0"},
        {"--pause", "1001us"},
        {"--pause", "90s"},
        {"--pause", "60m"},
        {"--pause", "3599999ms"},
        {"--rate", "5"},
        {"--rate", "5/1"},
        {"--rate", "18446744073709551615/1"},
        {"--byte-rate", "1/1GiB"},
        {"--color", "blue"},
        {"--title", "a = b: [c] #d;e"},
        {"--title", "\xc3\xa4"},
        {"--place", "a, b"},
        {"--title", "[x]"},
        {"--title", "# x"},
        {"--title", "\"quoted\""},
    };
    assert_round_trip(ARGS());
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        assert_round_trip(ARGS(values[i][0], values[i][1]));
    assert_round_trip(ARGS("--place", "a", "--place", "b", "--place", "c"));
}

Test(options, print_config_says_where_each_value_came_from)
{
    struct reading r;
    char name[32], line[128];
    file_of_bytes(name, "\nslots = 6\n", 11);
    read_with(&r, ARGS("--config", name, "--print-config", "--place=a", "--place=b"),
              ENV("TIDEWIRE_PORT=9"), NULL);
    unlink(name);
    assert_read(&r);
    cr_assert_eq(options_request(r.o), OPTIONS_PRINT_CONFIG);
    char *text = printed_config(r.o);
    snprintf(line, sizeof(line), "slots = 6                            ; %s:2\n", name);
    cr_assert_not_null(strstr(text, line), "%s", text);
    cr_assert_not_null(strstr(text, "port = 9                             ; TIDEWIRE_PORT\n"));
    cr_assert_not_null(strstr(text, "place = a                            ; --place\n"));
    cr_assert_not_null(strstr(text, "place = b                            ; --place\n"));
    cr_assert_not_null(strstr(text, "color = green                        ; default\n"));
    cr_assert_not_null(strstr(text, "# title is empty ; default\n"));
    cr_assert_not_null(strstr(text, "\n# Three\n"));
    free(text);
    options_free(r.o);
}

Test(options, a_value_text_is_cut_like_snprintf)
{
    struct reading r;
    read_with(&r, ARGS("--place=one", "--place=two"), ENV(), NULL);
    assert_read(&r);
    for (size_t cap = 1; cap < 12; cap++) {
        char text[16];
        memset(text, '!', sizeof(text));
        cr_assert_eq(options_value_text(r.o, "place", text, cap), 7);
        cr_assert_eq(strlen(text), cap - 1 < 7 ? cap - 1 : 7);
        cr_assert_eq(strncmp(text, "one,two", strlen(text)), 0);
        cr_assert_eq(text[cap < 8 ? cap : 8], '!');
    }
    cr_assert_eq(options_value_text(r.o, "place", NULL, 0), 7);
    cr_assert_eq(options_value_text(r.o, "port", NULL, 0), 4);
    options_free(r.o);
}

Test(options, help_has_every_flag_once_under_its_group_and_fits_the_screen)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_print_help(table, ARRAY_LEN(table), out);
    fclose(out);
    const char *at = text;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "\n  --%s ", table[i].name);
        const char *found = strstr(at, flag);
        cr_assert_not_null(found, "%s", flag);
        cr_assert_null(strstr(found + 1, flag), "%s twice", flag);
        at = found;
    }
    cr_assert_not_null(strstr(text, "\nGeneral:\n  --config FILE\n"));
    cr_assert_not_null(
        strstr(text, "\nTwo:\n  --max-size SIZE\n      A size. Default: 64KiB; 1B to 1MiB.\n"));
    cr_assert_not_null(strstr(text, "  --color red|green|blue\n"));
    cr_assert_not_null(strstr(text, "  --loud [on|off]\n"));
    cr_assert_not_null(strstr(text, "May be repeated."));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        cr_assert_leq(strlen(line), 80, "%s", line);
    free(text);
}

Test(options, the_man_page_escapes_what_troff_would_take)
{
    static const struct option odd[] = {{.name = "a-b",
                                         .group = "G",
                                         .arg = "X\\Y",
                                         .help = "Back\\slash and 1-2.",
                                         .type = OPTION_TEXT}};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_print_man(odd, 1, out);
    fclose(out);
    cr_assert_not_null(
        strstr(text, ".SS G\n.TP\n\\fB\\-\\-a\\-b\\fR \\fIX\\eY\\fR\nBack\\eslash and 1\\-2.\n"),
        "%s", text);
    free(text);
}

Test(options, a_complaint_names_the_place_of_the_value)
{
    struct reading r;
    char name[32], line[256], wanted[256];
    file_of_bytes(name, "slots = 6\n", 10);
    read_with(&r, ARGS("--config", name, "--port=1"), ENV("TIDEWIRE_PAUSE=1s"), NULL);
    unlink(name);
    assert_read(&r);
    static const struct {
        const char *option, *format;
    } rows[] = {{"slots", "tidewire: %s:1: slots: no 7\n"},
                {"port", "tidewire: --port: no 7\n"},
                {"pause", "tidewire: TIDEWIRE_PAUSE: no 7\n"},
                {"color", "tidewire: --color: no 7\n"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        memset(line, 0, sizeof(line));
        FILE *err = fmemopen(line, sizeof(line), "w");
        options_complain(r.o, rows[i].option, err, "no %d", 7);
        fclose(err);
        if (i == 0)
            snprintf(wanted, sizeof(wanted), "tidewire: %s:1: slots: no 7\n", name);
        else
            snprintf(wanted, sizeof(wanted), "%s", rows[i].format);
        cr_assert_str_eq(line, wanted);
    }
    options_free(r.o);
}

/* Reload -----------------------------------------------------------------------------------------
 */

/* The rows on which two readings do not agree, in the table's order. */
static const char *differing(const struct reading *a, const struct reading *b)
{
    static char names[256];
    names[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!options_agree(a->o, b->o, &table[i]))
            strcat(strcat(names, table[i].name), " ");
    }
    return names;
}

Test(options, two_readings_agree_row_by_row)
{
    struct reading a, b;
    read_with(&a, ARGS("--place", "x", "--place", "y", "--title", "t", "--rate", "5/7"), ENV(),
              NULL);
    read_with(&b, ARGS("--place", "x", "--place", "y", "--title", "t", "--rate", "5/7"), ENV(),
              NULL);
    cr_assert_str_eq(differing(&a, &b), "");
    options_free(b.o);
    read_with(&b, ARGS("--place", "x", "--place", "z", "--loud", "--users", "11", "--rate", "5/8"),
              ENV("TIDEWIRE_COLOR=red", "TIDEWIRE_PAUSE=1s"), NULL);
    cr_assert_str_eq(differing(&a, &b), "loud users pause rate color title place ");
    options_free(b.o);
    read_with(&b, ARGS("--place", "x", "--title", "u", "--rate", "5/7", "--port", "1"), ENV(),
              NULL);
    cr_assert_str_eq(differing(&a, &b), "port title place ");
    options_free(a.o);
    options_free(b.o);
}

Test(options, what_a_reload_may_change_is_copied_and_nothing_else)
{
    struct reading a, b;
    struct values to;
    read_with(&a, ARGS("--slots", "6"), ENV(), NULL);
    read_with(&b, ARGS("--slots", "8", "--loud", "--pause", "1s", "--title", "t", "--place", "x"),
              ENV(), NULL);
    to = a.v;
    options_copy_reloadable(table, ARRAY_LEN(table), &to, &b.v);
    cr_assert(to.slots == 6 && !to.loud && to.max_size == a.v.max_size);
    cr_assert(to.pause_ns == NS_PER_SEC && to.title == b.v.title);
    cr_assert(to.place.count == 1 && to.place.items == b.v.place.items);
    options_free(a.o);
    options_free(b.o);
}

/* Texts that are not shown, and items that hold commas
 * ---------------------------------------------
 */

static void mask_behind_colon(const char *text, char *out, size_t cap)
{
    const char *colon = strchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) + 1 : strlen(text);

    snprintf(out, cap, "%.*s%s", (int)len, text, colon != NULL ? "*" : "");
}

static bool begins_with_a(const char *text)
{
    return text[0] == 'a';
}

struct secrets {
    struct option_list list;
    char *one;
};

static const struct option secret_table[] = {
    {.name = "list",
     .group = "One",
     .help = "Items.",
     .mask = mask_behind_colon,
     .is_item = begins_with_a,
     .offset = offsetof(struct secrets, list),
     .type = OPTION_LIST},
    {.name = "one",
     .group = "One",
     .help = "A text.",
     .mask = mask_behind_colon,
     .offset = offsetof(struct secrets, one),
     .type = OPTION_TEXT},
};

static int read_secrets(struct secrets *v, char **args, char **env, char *said, struct options **o)
{
    int argc = 0;
    while (args[argc] != NULL)
        argc++;
    FILE *err = fmemopen(said, 1024, "w");
    int code = options_read(secret_table, 2, v, argc, args, env, NULL, err, o);
    fclose(err);
    return code;
}

Test(options, a_comma_ends_an_item_where_the_next_one_begins)
{
    struct secrets v;
    struct options *o;
    char said[1024] = "";
    cr_assert_eq(read_secrets(&v, ARGS(), ENV("TIDEWIRE_LIST=a1,b, a2 ,a3, ,c"), said, &o), 0);
    cr_assert_eq(v.list.count, 3);
    cr_assert_str_eq(v.list.items[0], "a1,b");
    cr_assert_str_eq(v.list.items[1], "a2");
    cr_assert_str_eq(v.list.items[2], "a3, ,c");
    options_free(o);
}

Test(options, what_is_masked_is_nowhere_shown)
{
    struct secrets v;
    struct options *o;
    char said[1024] = "", text[64], *printed = NULL;
    size_t len = 0;
    cr_assert_eq(read_secrets(&v, ARGS("--list=a:pw", "--list=b", "--one=c:pw"), ENV(), said, &o),
                 0);
    cr_assert_str_eq(v.list.items[0], "a:pw");
    cr_assert_str_eq(v.one, "c:pw");
    cr_assert_eq(options_value_text(o, "list", text, sizeof(text)), 5);
    cr_assert_str_eq(text, "a:*,b");
    options_value_text(o, "one", text, sizeof(text));
    cr_assert_str_eq(text, "c:*");
    FILE *out = open_memstream(&printed, &len);
    options_print_config(o, out);
    fclose(out);
    cr_assert_null(strstr(printed, "pw"), "%s", printed);
    cr_assert_not_null(strstr(printed,
                              "list = a:*                           ; --list; the password "
                              "is not shown\n"));
    cr_assert_not_null(strstr(printed, "list = b                             ; --list\n"));
    free(printed);
    options_free(o);

    cr_assert_neq(read_secrets(&v, ARGS("--one=c:pw "), ENV(), said, &o), 0);
    cr_assert_not_null(strstr(said, "\"c:*\" is not understood"), "%s", said);
    cr_assert_null(strstr(said, "pw"));
}
