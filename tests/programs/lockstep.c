/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* A WebSocket client in lock step, so that a server's counts (instructions, system calls,
 * allocations) agree between runs: it writes a whole window in one send and waits for every answer
 * before the next.
 *
 *   lockstep echo PORT CONNECTIONS WINDOW ROUNDS [BYTES]     each connection talks to /echo
 *   lockstep fanout PORT MEMBERS WINDOW ROUNDS [BYTES]       one member publishes, all receive
 *   lockstep idle PORT MEMBERS SECONDS                       joins a room and says nothing
 *
 * With TW_TLS=1 in the environment it talks TLS 1.3 (OpenSSL), and takes any certificate. With
 * TW_TURNS=1 it says "connected", and plays ROUNDS rounds for each line of its standard input.
 * Prints how many messages came back. One thread, blocking sockets, loopback. Exits with 1 when an
 * answer is missing or wrong. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define CONNECTIONS_MAX 19000
#define WINDOW_MAX 64
#define PAYLOAD_MAX 60000
#define HEAD_MAX 8 /* client head of up to 65535 bytes: 2 + 2 + 4 */

/* By descriptor; NULL: plain. */
static SSL *sessions[CONNECTIONS_MAX + 100];

struct client {
    int port;
    int count;
    int window;
    int payload;
    int fds[CONNECTIONS_MAX];
    uint8_t out[WINDOW_MAX * (PAYLOAD_MAX + HEAD_MAX)];
    size_t out_len;
    uint8_t expected[WINDOW_MAX * (PAYLOAD_MAX + HEAD_MAX)];
    size_t expected_len;
    uint8_t in[WINDOW_MAX * (PAYLOAD_MAX + HEAD_MAX)];
};

static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("lockstep: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* Many source addresses, so that ports never run out. */
static int dial(const struct client *c, int index)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f010000u + 1 + (uint32_t)index / 4000)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)c->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 60};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        die("connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void begin_tls(int fd)
{
    static SSL_CTX *context;

    if (getenv("TW_TLS") == NULL)
        return;
    if (context == NULL)
        context = SSL_CTX_new(TLS_client_method());
    if (fd >= (int)(sizeof(sessions) / sizeof(sessions[0])))
        die("too many descriptors");
    sessions[fd] = SSL_new(context);
    SSL_set_fd(sessions[fd], fd);
    if (SSL_set_min_proto_version(sessions[fd], TLS1_3_VERSION) != 1 ||
        SSL_connect(sessions[fd]) != 1)
        die("TLS handshake failed");
}

/* What follows on the descriptor is never looked at: the session's memory is not needed. */
static void forget_tls(int fd)
{
    SSL_free(sessions[fd]);
    sessions[fd] = NULL;
}

static void send_all(int fd, const void *bytes, size_t len)
{
    if (sessions[fd] != NULL) {
        if (SSL_write(sessions[fd], bytes, (int)len) != (int)len)
            die("SSL_write failed");
        return;
    }
    if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
        die("send: %s", strerror(errno));
}

static void recv_all(int fd, uint8_t *bytes, size_t len)
{
    for (size_t have = 0; have < len;) {
        ssize_t n = sessions[fd] != NULL ? SSL_read(sessions[fd], bytes + have, (int)(len - have))
                                         : recv(fd, bytes + have, len - have, 0);

        if (n <= 0)
            die("recv: %s after %zu of %zu bytes", n == 0 ? "end of file" : strerror(errno), have,
                len);
        have += (size_t)n;
    }
}

static void open_websocket(int fd, const char *path)
{
    char text[512];
    size_t have = 0;
    int len = snprintf(text, sizeof(text),
                       "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                       path);

    send_all(fd, text, (size_t)len);
    do {
        recv_all(fd, (uint8_t *)text + have, 1);
        have++;
    } while (have < 4 || memcmp(text + have - 4, "\r\n\r\n", 4) != 0);
    if (memcmp(text, "HTTP/1.1 101 ", 13) != 0)
        die("refused: %.60s", text);
}

static void connect_all(struct client *c, const char *path)
{
    for (int i = 0; i < c->count; i++) {
        c->fds[i] = dial(c, i);
        begin_tls(c->fds[i]);
        open_websocket(c->fds[i], path);
    }
}

static size_t put_head(uint8_t *out, size_t payload, bool masked)
{
    size_t n = 2;

    out[0] = 0x82;
    out[1] = (uint8_t)((masked ? 0x80 : 0) | (payload < 126 ? payload : 126));
    if (payload >= 126) {
        out[n++] = (uint8_t)(payload >> 8);
        out[n++] = (uint8_t)payload;
    }
    return n;
}

/* A window of frames with distinct contents, masked, and what must come back. */
static void prepare_window(struct client *c)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};

    for (int m = 0; m < c->window; m++) {
        c->out_len += put_head(c->out + c->out_len, (size_t)c->payload, true);
        memcpy(c->out + c->out_len, key, 4);
        c->out_len += 4;
        c->expected_len += put_head(c->expected + c->expected_len, (size_t)c->payload, false);
        for (int i = 0; i < c->payload; i++) {
            uint8_t byte = (uint8_t)(m * 31 + i);

            c->out[c->out_len++] = byte ^ key[i & 3];
            c->expected[c->expected_len++] = byte;
        }
    }
}

static void expect(struct client *c, int fd)
{
    recv_all(fd, c->in, c->expected_len);
    if (memcmp(c->in, c->expected, c->expected_len) != 0)
        die("an answer is wrong");
}

static void echo_round(struct client *c)
{
    for (int i = 0; i < c->count; i++)
        send_all(c->fds[i], c->out, c->out_len);
    for (int i = 0; i < c->count; i++)
        expect(c, c->fds[i]);
}

static void fanout_round(struct client *c)
{
    send_all(c->fds[0], c->out, c->out_len);
    for (int i = 0; i < c->count; i++)
        expect(c, c->fds[i]);
}

static void say(const char *text)
{
    printf("%s\n", text);
    fflush(stdout);
}

static void play(struct client *c, void (*one_round)(struct client *), int rounds)
{
    for (int r = 0; r < rounds; r++)
        one_round(c);
    printf("messages %ld\n", (long)rounds * c->count * c->window);
    fflush(stdout);
}

static void play_turns(struct client *c, void (*one_round)(struct client *), int rounds)
{
    char line[16];

    say("connected");
    while (fgets(line, sizeof(line), stdin) != NULL)
        play(c, one_round, rounds);
}

static void idle(struct client *c, int seconds)
{
    struct timespec t = {.tv_sec = seconds};

    connect_all(c, "/rooms/lockstep");
    for (int i = 0; i < c->count; i++)
        forget_tls(c->fds[i]);
    say("connected");
    nanosleep(&t, NULL);
}

static int number(const char *text, int min, int max, const char *what)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end != '\0' || n < min || n > max)
        die("%s must be %d to %d, not %s", what, min, max, text);
    return (int)n;
}

int main(int argc, char **argv)
{
    static struct client c;
    bool is_idle = argc == 5 && strcmp(argv[1], "idle") == 0;
    bool is_echo = argc > 1 && strcmp(argv[1], "echo") == 0;
    int rounds;

    if (!is_idle && argc != 6 && argc != 7)
        die("usage: lockstep echo|fanout PORT COUNT WINDOW ROUNDS [BYTES] | idle PORT COUNT "
            "SECONDS");
    c.port = number(argv[2], 1, 65535, "PORT");
    c.count = number(argv[3], 1, CONNECTIONS_MAX, "COUNT");
    if (is_idle) {
        idle(&c, number(argv[4], 0, 3600, "SECONDS"));
        return 0;
    }
    c.window = number(argv[4], 1, WINDOW_MAX, "WINDOW");
    rounds = number(argv[5], 0, 10000000, "ROUNDS");
    c.payload = argc == 7 ? number(argv[6], 0, PAYLOAD_MAX, "BYTES") : 125;
    prepare_window(&c);
    connect_all(&c, is_echo ? "/echo" : "/rooms/lockstep");
    if (getenv("TW_TURNS") != NULL)
        play_turns(&c, is_echo ? echo_round : fanout_round, rounds);
    else
        play(&c, is_echo ? echo_round : fanout_round, rounds);
    return 0;
}
