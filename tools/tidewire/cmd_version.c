/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* `tidewire version`: what this binary is, what it is linked with, and what this host offers it. */

#include <stdio.h>
#include <string.h>

#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <xxhash.h>
#include <zlib.h>

#include "core/base.h"
#include "core/io.h"
#include "core/simd.h"
#include "net/tls_ktls.h"
#include "tools/tidewire/commands.h"

/* Neither library tells its version at run time; the build passes what it found. */
#ifndef TW_URING_VERSION
#define TW_URING_VERSION "of unknown version"
#endif
#ifndef TW_INIH_VERSION
#define TW_INIH_VERSION "of unknown version"
#endif

#ifndef TW_NETTLE_VERSION
#define TW_NETTLE_VERSION "of unknown version"
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* Enough to start an implementation and see; nothing is served. */
#define PROBE_CONNS 16

static void print_libraries(void)
{
    unsigned xxhash = XXH_versionNumber();
    printf("libraries:  liburing %s, wolfSSL %s, nettle %s, xxhash %u.%u.%u, zlib %s, inih %s, "
           "hiredis %s\n",
           TW_URING_VERSION, wolfSSL_lib_version(), TW_NETTLE_VERSION, xxhash / 10000,
           xxhash / 100 % 100, xxhash % 100, zlibVersion(), TW_INIH_VERSION, TW_HIREDIS_VERSION);
}

static void print_kernels(void)
{
    const struct simd_kernels *list[8];
    uint32_t count = simd_available(list);
    printf("kernels:    ");
    for (uint32_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? ", " : "", list[i]->name);
    putchar('\n');
}

/* Returns whether there is it, with a way to the kernel's TLS. */
static bool print_backend(const char *name, int (*make)(const struct io_config *cfg, struct io **io,
                                                        const char **why))
{
    const struct io_config cfg = {.conns_max = PROBE_CONNS};
    struct io *io = NULL;
    const char *why = NULL;
    int err = make(&cfg, &io, &why);
    if (err != 0) {
        printf("io:         %s not on this host: %s (%s)\n", name,
               why != NULL ? why : "it does not start", strerror(-err));
        return false;
    }
    bool has_tls = io->has_tls;
    io_free(io);
    printf("io:         %s ok\n", name);
    return has_tls;
}

static void print_ktls(bool by_uring)
{
    struct tls_ktls_probe p;
    char text[TLS_KTLS_TEXT_MAX];

    tls_ktls_probe(&p);
    if (p.err != 0)
        printf("kernel TLS: not on this host: %s\n", tls_ktls_why(p.err));
    else
        printf("kernel TLS: %s; %s%s\n", tls_ktls_text(p.suites, text),
               p.rekeys ? "changes keys" : "can't change keys, so 1.3 is not used",
               by_uring ? "" : "; by epoll only (by io_uring from Linux 6.8 on)");
}

int cmd_version(int argc, char **argv, char **envp)
{
    (void)envp;
    if (argc > 1) {
        fprintf(stderr, "tidewire: version takes no arguments, \"%.60s\" is one\n", argv[1]);
        return EXIT_USAGE;
    }
    printf("tidewire %s\n", TW_VERSION);
    printf("build:      %s, %s, sanitizers: %s\n", TW_BUILD_TYPE, COMPILER,
           TW_SANITIZE[0] != 0 ? TW_SANITIZE : "none");
    print_libraries();
    printf("engines:    memory, redis (one or several servers, Sentinel, Cluster)\n");
    print_kernels();
    bool by_uring = print_backend("uring", io_uring_new);
    print_backend("epoll", io_epoll_new);
    print_ktls(by_uring);
    return EXIT_OK;
}
