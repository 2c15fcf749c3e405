/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Handshakes by wolfSSL, and the export of what they agree on. On the shard's thread; the self-test
 * on main. */

#include "net/tls_handshake.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/kdf.h>

#include "net/tls_heap.h"
#include "net/tls_hkdf.h"
#include "net/tls_staple.h"

/* Our flights: certificate chains are the long part. */
#define OUT_BYTES_MAX (256u << 10)
#define OUT_BYTES_FIRST 4096
/* How often in a row a session may be resumed before a full handshake: newer libraries count the
 * tickets of such a chain in one byte. */
#define TICKET_CHAIN_MAX 200
/* Where the ticket's iv field has room behind the nonce. */
#define TICKET_CHAIN_AT TLS_AEAD_NONCE_BYTES

enum { HAVE_CLIENT_SECRET = 1, HAVE_SERVER_SECRET = 2, HAVE_SECRETS = 3 };

struct tls_handshake {
    WOLFSSL *ssl;
    struct tls_workshop *workshop; /* NULL: a client's */
    struct tls_context *context;   /* NULL: a client's */
    const struct tls_staple *due;  /* the context's OCSP response, for a client that asks; NULL */
    WOLFSSL_CTX *other; /* whose authorities verify clients, once we have answered; NULL: ours */
    struct bytes in;    /* of the step under way */
    uint8_t *out;       /* out[0..out_len) is to be sent */
    size_t out_len;
    size_t out_cap;
    int error;               /* the library's, of the step that failed */
    uint64_t explicit_nonce; /* 1.2: of our Finished record */
    uint8_t client_secret[48];
    uint8_t server_secret[48];
    uint8_t secrets;     /* HAVE_... */
    bool has_server_key; /* 1.3: that of the handshake, behind our ServerHello */
    bool awaits_verify;  /* the client's certificate, by the other's authorities */
    uint8_t ticket_chain;
    uint8_t failure;   /* enum tls_failure */
    bool finished_key; /* 1.2: our ChangeCipherSpec has passed, the next record is Finished */
    bool has_nonce;
    bool has_sent; /* anything at all */
    bool taken;    /* the caller has seen out[0..out_len) */
    bool is_client;
    bool has_stapled;  /* 1.2: it stands in the flight */
    bool await_ticket; /* a client's, of 1.3: until one has come */
};

/* The library's callback for key derivation is given no connection. */
static _Thread_local struct tls_handshake *under_way;

static const char *const failure_labels[TLS_FAILURE_COUNT] = {
#define X(id, label) [TLS_FAILURE_##id] = (label),
    TLS_FAILURES(X)
#undef X
};

const char *tls_failure_label(enum tls_failure f)
{
    return failure_labels[f];
}

/* Callbacks
 * ---------------------------------------------------------------------------------------- */

/* Who staples has the issuer of our own certificate among the authorities, who must not vouch for
 * clients. So as soon as our answer, with the staple in it, is given, those of the certificate's
 * other context take their place. What comes before that is refused (on_verify()): in TLS 1.2 a
 * client may send its certificate behind its ClientHello, and the library verifies it at once. */
static void change_authorities(struct tls_handshake *hs)
{
    bool has_answered =
        wolfSSL_GetVersion(hs->ssl) == WOLFSSL_TLSV1_3 ? hs->has_server_key : hs->has_sent;

    if (!has_answered || wolfSSL_set0_verify_cert_store(
                             hs->ssl, wolfSSL_CTX_get_cert_store(hs->other)) != WOLFSSL_SUCCESS)
        return;
    hs->other = NULL;
}

/* Called for each certificate of a client's chain, the leaf last. */
static int on_verify(int good, WOLFSSL_X509_STORE_CTX *store)
{
    struct tls_handshake *hs = under_way;

    (void)store;
    if (hs == NULL || hs->other != NULL || good == 0)
        return 0;
    hs->awaits_verify = false;
    return 1;
}

/* The library asks for a record's head and then for exactly its body, so what it has not asked for
 * is none of the handshake's. */
static int on_recv(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    struct tls_handshake *hs = ctx;
    size_t n = min_size((size_t)size, hs->in.len);

    (void)ssl;
    if (unlikely(hs->other != NULL))
        change_authorities(hs);
    if (n == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(buf, hs->in.ptr, n);
    hs->in.ptr += n;
    hs->in.len -= n;
    return (int)n;
}

static bool make_room(struct tls_handshake *hs, size_t more)
{
    size_t cap = hs->out_cap == 0 ? OUT_BYTES_FIRST : hs->out_cap;
    uint8_t *bigger;

    while (cap < hs->out_len + more)
        cap *= 2;
    if (cap > OUT_BYTES_MAX)
        return false;
    if (cap == hs->out_cap)
        return true;
    bigger = realloc(hs->out, cap);
    if (bigger == NULL)
        return false;
    hs->out = bigger;
    hs->out_cap = cap;
    return true;
}

/* RFC 5288 3: the explicit nonce stands in the clear before the ciphertext. Of TLS 1.2 only the
 * Finished record follows the ChangeCipherSpec; 1.3's records look different and are not used. */
static void watch_nonce(struct tls_handshake *hs, const uint8_t *p, size_t len)
{
    while (len >= TLS_RECORD_HEAD_BYTES) {
        size_t body = (size_t)p[3] << 8 | p[4];

        if (body > len - TLS_RECORD_HEAD_BYTES)
            return;
        if (p[0] == 20) {
            hs->finished_key = true;
        } else if (p[0] == 22 && hs->finished_key && body >= sizeof(hs->explicit_nonce)) {
            memcpy(&hs->explicit_nonce, p + TLS_RECORD_HEAD_BYTES, sizeof(hs->explicit_nonce));
            hs->explicit_nonce = be64toh(hs->explicit_nonce);
            hs->has_nonce = true;
        }
        p += TLS_RECORD_HEAD_BYTES + body;
        len -= TLS_RECORD_HEAD_BYTES + body;
    }
}

/* In TLS 1.2 the library answers from a copy that it keeps, without calling back, and leaves out
 * what it does not believe; but what it sends is in the clear, by one call. */
static void watch_staple(struct tls_handshake *hs, const uint8_t *p, size_t len)
{
    if (hs->due != NULL && !hs->has_stapled)
        hs->has_stapled = tls_staple_is_in(hs->due, (struct bytes){(uint8_t *)p, len});
}

/* Takes everything: the library does not get over "try again" here. */
static int on_send(WOLFSSL *ssl, char *buf, int size, void *ctx)
{
    struct tls_handshake *hs = ctx;

    (void)ssl;
    if (!make_room(hs, (size_t)size))
        return WOLFSSL_CBIO_ERR_GENERAL;
    memcpy(hs->out + hs->out_len, buf, (size_t)size);
    hs->out_len += (size_t)size;
    hs->has_sent = true;
    watch_nonce(hs, (const uint8_t *)buf, (size_t)size);
    watch_staple(hs, (const uint8_t *)buf, (size_t)size);
    return size;
}

/* The hash that the library names. False: none of ours, which then is the library's to do. */
static bool hash_of(int digest, enum tls_hash *hash)
{
    *hash = digest == WC_SHA384 ? TLS_HASH_SHA384 : TLS_HASH_SHA256;
    return digest == WC_SHA256 || digest == WC_SHA384;
}

/* Keeps the two secrets of application data, and notes that of our encrypted flight (RFC 8446 7.1).
 */
static void watch_secret(const uint8_t *label, const uint8_t *secret, size_t len)
{
    struct tls_handshake *hs = under_way;

    if (hs == NULL || len > sizeof(hs->client_secret))
        return;
    if (memcmp(label, "c ap traffic", 12) == 0) {
        memcpy(hs->client_secret, secret, len);
        hs->secrets |= HAVE_CLIENT_SECRET;
    } else if (memcmp(label, "s ap traffic", 12) == 0) {
        memcpy(hs->server_secret, secret, len);
        hs->secrets |= HAVE_SERVER_SECRET;
    } else if (memcmp(label, "s hs traffic", 12) == 0) {
        hs->has_server_key = true;
    }
}

/* Computes what the library would, in a tenth of the time. */
static int on_expand_label(byte *okm, word32 okm_len, const byte *prk, word32 prk_len,
                           const byte *protocol, word32 protocol_len, const byte *label,
                           word32 label_len, const byte *info, word32 info_len, int digest,
                           int side)
{
    enum tls_hash hash;

    (void)side;
    if (!hash_of(digest, &hash) || okm_len > tls_hash_bytes(hash) ||
        prk_len != tls_hash_bytes(hash) || label_len > TLS_HKDF_LABEL_MAX ||
        info_len > TLS_HKDF_CONTEXT_MAX || protocol_len != 6 || memcmp(protocol, "tls13 ", 6) != 0)
        return NOT_COMPILED_IN; /* has the library do it */
    tls_hkdf_expand_label(hash, prk, (struct bytes){(uint8_t *)label, label_len},
                          (struct bytes){(uint8_t *)info, info_len}, okm, okm_len);
    if (label_len == 12)
        watch_secret(label, okm, okm_len);
    return 0;
}

/* RFC 8446 7.1; without input it is a hash's length of zeros. */
static int on_extract(byte *prk, const byte *salt, word32 salt_len, byte *ikm, word32 ikm_len,
                      int digest, void *ctx)
{
    static const uint8_t zeros[TLS_HASH_BYTES_MAX];
    struct bytes input = {ikm, ikm_len};
    enum tls_hash hash;

    (void)ctx;
    if (!hash_of(digest, &hash))
        return wc_Tls13_HKDF_Extract(prk, salt, (int)salt_len, ikm, (int)ikm_len, digest);
    if (ikm_len == 0)
        input = (struct bytes){(uint8_t *)zeros, tls_hash_bytes(hash)};
    tls_hkdf_extract(hash, (struct bytes){(uint8_t *)salt, salt_len}, input, prk);
    return 0;
}

/* What a ticket's tag covers besides its content: name of the key, nonce, length of the chain. */
static void ticket_aad(uint8_t aad[WOLFSSL_TICKET_NAME_SZ + WOLFSSL_TICKET_IV_SZ],
                       const uint8_t *name, const uint8_t *iv)
{
    memcpy(aad, name, WOLFSSL_TICKET_NAME_SZ);
    memcpy(aad + WOLFSSL_TICKET_NAME_SZ, iv, WOLFSSL_TICKET_IV_SZ);
}

static int seal_ticket(struct tls_handshake *hs, uint8_t *name, uint8_t *iv, uint8_t *mac,
                       uint8_t *ticket, size_t len)
{
    uint8_t aad[WOLFSSL_TICKET_NAME_SZ + WOLFSSL_TICKET_IV_SZ];
    struct tls_ticket_keys *keys = &hs->workshop->tickets;

    memset(iv, 0, WOLFSSL_TICKET_IV_SZ);
    memset(mac, 0, WOLFSSL_TICKET_MAC_SZ);
    if (wc_RNG_GenerateBlock(wolfSSL_GetRNG(hs->ssl), iv, TLS_AEAD_NONCE_BYTES) != 0)
        return WOLFSSL_TICKET_RET_FATAL;
    iv[TICKET_CHAIN_AT] = hs->ticket_chain;
    memcpy(name, keys->current.name, TLS_TICKET_NAME_BYTES);
    ticket_aad(aad, name, iv);
    tls_ticket_seal(keys, name, iv, aad, sizeof(aad), ticket, len, mac);
    return WOLFSSL_TICKET_RET_OK;
}

static int open_ticket(struct tls_handshake *hs, const uint8_t *name, const uint8_t *iv,
                       const uint8_t *mac, uint8_t *ticket, size_t len)
{
    uint8_t aad[WOLFSSL_TICKET_NAME_SZ + WOLFSSL_TICKET_IV_SZ];

    if (iv[TICKET_CHAIN_AT] >= TICKET_CHAIN_MAX)
        return WOLFSSL_TICKET_RET_REJECT;
    ticket_aad(aad, name, iv);
    if (!tls_ticket_open(&hs->workshop->tickets, name, iv, aad, sizeof(aad), ticket, len, mac))
        return WOLFSSL_TICKET_RET_REJECT;
    hs->ticket_chain = (uint8_t)(iv[TICKET_CHAIN_AT] + 1);
    return WOLFSSL_TICKET_RET_OK;
}

static int on_ticket(WOLFSSL *ssl, unsigned char name[WOLFSSL_TICKET_NAME_SZ],
                     unsigned char iv[WOLFSSL_TICKET_IV_SZ],
                     unsigned char mac[WOLFSSL_TICKET_MAC_SZ], int enc, unsigned char *ticket,
                     int len, int *out_len, void *ctx)
{
    struct tls_handshake *hs = under_way;
    int err;

    (void)ssl;
    (void)ctx;
    if (hs == NULL || !hs->workshop->has_tickets || !tls_context_has_tickets(hs->context))
        return enc ? WOLFSSL_TICKET_RET_FATAL : WOLFSSL_TICKET_RET_REJECT;
    err = tls_ticket_advance(&hs->workshop->tickets, hs->workshop->now_ns);
    if (err != 0)
        return enc ? WOLFSSL_TICKET_RET_FATAL : WOLFSSL_TICKET_RET_REJECT;
    *out_len = len;
    return enc ? seal_ticket(hs, name, iv, mac, ticket, (size_t)len)
               : open_ticket(hs, name, iv, mac, ticket, (size_t)len);
}

void tls_handshake_set_up(void *library)
{
    wolfSSL_CTX_SetIORecv(library, on_recv);
    wolfSSL_CTX_SetIOSend(library, on_send);
    wolfSSL_CTX_SetHKDFExpandLabelCb(library, on_expand_label);
    wolfSSL_CTX_SetHKDFExtractCb(library, on_extract);
    wolfSSL_CTX_set_TicketEncCb(library, on_ticket);
}

/* A client has asked. Some versions of the library ask about an object that another thread works
 * with (net/tls_staple.h). */
static int on_status(WOLFSSL *ssl, void *staple)
{
    bool given = under_way != NULL && under_way->ssl == ssl && tls_staple_give(staple, ssl);

    return given ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

bool tls_handshake_set_up_staple(void *library, struct tls_staple *s)
{
    return wolfSSL_CTX_set_tlsext_status_cb(library, on_status) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_tlsext_status_arg(library, s) == WOLFSSL_SUCCESS;
}

/* A handshake
 * -------------------------------------------------------------------------------------- */

int tls_workshop_init(struct tls_workshop *w, const uint8_t seed[TLS_TICKET_SEED_BYTES],
                      uint64_t start_ns, uint64_t lifetime_ns)
{
    memset(w, 0, sizeof(*w));
    w->has_tickets = lifetime_ns != 0;
    w->now_ns = start_ns;
    return w->has_tickets ? tls_ticket_init(&w->tickets, seed, start_ns, lifetime_ns) : 0;
}

void tls_workshop_deinit(struct tls_workshop *w)
{
    tls_ticket_wipe(&w->tickets);
    wc_ecc_fp_free(); /* tables of this thread */
    wolfSSL_ERR_clear_error();
}

static void verify_by_other(struct tls_handshake *hs, WOLFSSL_CTX *other)
{
    hs->other = other;
    hs->awaits_verify = true;
    wolfSSL_set_verify(hs->ssl, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       on_verify);
}

struct tls_handshake *tls_handshake_new(struct tls_workshop *w, struct tls_context *ctx,
                                        const struct tls_identity *id, bool staples)
{
    static char http[] = "http/1.1";
    struct tls_handshake *hs = calloc(1, sizeof(*hs));

    if (hs == NULL)
        return NULL;
    hs->workshop = w;
    hs->context = tls_context_ref(ctx);
    hs->due = staples ? tls_identity_staple(id) : NULL;
    if (w->is_crowded)
        tls_heap_watch();
    hs->ssl = wolfSSL_new(tls_identity_library(id, staples));
    if (w->is_crowded)
        tls_heap_slim();
    if (hs->ssl == NULL || wolfSSL_UseALPN(hs->ssl, http, sizeof(http) - 1,
                                           WOLFSSL_ALPN_FAILED_ON_MISMATCH) != WOLFSSL_SUCCESS) {
        tls_handshake_free(hs);
        return NULL;
    }
    wolfSSL_SetIOReadCtx(hs->ssl, hs);
    wolfSSL_SetIOWriteCtx(hs->ssl, hs);
    if (w->is_trial)
        wolfSSL_set_verify(hs->ssl, WOLFSSL_VERIFY_NONE, NULL);
    else if (staples && tls_context_wants_client(ctx))
        verify_by_other(hs, tls_identity_library(id, false));
    return hs;
}

static int on_session_ticket(WOLFSSL *ssl, const unsigned char *ticket, int len, void *ctx)
{
    (void)ssl;
    (void)ticket;
    (void)len;
    ((struct tls_handshake *)ctx)->await_ticket = false;
    return 0;
}

struct tls_handshake *tls_handshake_new_client(void *library, bool await_ticket)
{
    struct tls_handshake *hs = calloc(1, sizeof(*hs));

    if (hs == NULL) {
        wolfSSL_free(library);
        return NULL;
    }
    hs->ssl = library;
    hs->is_client = true;
    hs->await_ticket = await_ticket;
    wolfSSL_SetIOReadCtx(hs->ssl, hs);
    wolfSSL_SetIOWriteCtx(hs->ssl, hs);
    wolfSSL_set_SessionTicket_cb(hs->ssl, on_session_ticket, hs);
    return hs;
}

bool tls_handshake_is_resumed(const struct tls_handshake *hs)
{
    return wolfSSL_session_reused(hs->ssl) != 0;
}

void *tls_handshake_session(const struct tls_handshake *hs)
{
    return wolfSSL_get1_session(hs->ssl);
}

void tls_handshake_free(struct tls_handshake *hs)
{
    wolfSSL_free(hs->ssl); /* wipes its keys; NULL is allowed */
    if (hs->context != NULL)
        tls_context_unref(hs->context);
    free(hs->out);
    explicit_bzero(hs, sizeof(*hs));
    free(hs);
}

/* The alert that the library sent tells most. */
static enum tls_failure failure_of_alert(int code)
{
    switch (code) {
    case 70: /* protocol_version */
        return TLS_FAILURE_PROTOCOL_VERSION;
    case 40:  /* handshake_failure */
    case 71:  /* insufficient_security */
    case 109: /* missing_extension */
        return TLS_FAILURE_NO_SHARED;
    case 120: /* no_application_protocol */
        return TLS_FAILURE_NO_ALPN;
    case 42: /* bad_certificate and its kin, certificate_required */
    case 43:
    case 44:
    case 45:
    case 46:
    case 48:
    case 116:
        return TLS_FAILURE_CLIENT_CERTIFICATE;
    default:
        return TLS_FAILURE_PROTOCOL;
    }
}

static enum tls_failure failure_of(const struct tls_handshake *hs, int error)
{
    WOLFSSL_ALERT_HISTORY h = {0};

    switch (error) {
    case MEMORY_E:
        return TLS_FAILURE_NO_MEMORY;
    case MATCH_SUITE_ERROR:
    case ECC_CURVE_ERROR:
        return TLS_FAILURE_NO_SHARED;
    case VERSION_ERROR:
        return TLS_FAILURE_PROTOCOL_VERSION;
    case UNKNOWN_ALPN_PROTOCOL_NAME_E:
        return TLS_FAILURE_NO_ALPN;
    case NO_PEER_CERT:
        return TLS_FAILURE_CLIENT_CERTIFICATE;
    default:
        break;
    }
    wolfSSL_get_alert_history(hs->ssl, &h);
    if (h.last_rx.level == alert_fatal)
        return TLS_FAILURE_PEER_ALERT;
    return h.last_tx.level == alert_fatal ? failure_of_alert(h.last_tx.code) : TLS_FAILURE_PROTOCOL;
}

/* A client that gets no answer at all waits for one. Before our first word nothing is encrypted. */
static void say_something(struct tls_handshake *hs)
{
    uint8_t alert[] = {21, 3, 3, 0, 2, 2, 40}; /* fatal, handshake_failure */

    if (hs->failure == TLS_FAILURE_PROTOCOL_VERSION)
        alert[6] = 70;
    if (hs->failure == TLS_FAILURE_NO_ALPN)
        alert[6] = 120;
    if (hs->failure != TLS_FAILURE_PEER_ALERT && !hs->has_sent)
        (void)on_send(hs->ssl, (char *)alert, sizeof(alert), hs);
}

/* The ticket follows the server's Finished (RFC 8446 4.6.1), before any data that we have not asked
 * for yet. */
static int connect_step(struct tls_handshake *hs)
{
    uint8_t none;
    int r = wolfSSL_connect(hs->ssl);

    if (r != WOLFSSL_SUCCESS || !hs->await_ticket || wolfSSL_GetVersion(hs->ssl) != WOLFSSL_TLSV1_3)
        return r;
    r = wolfSSL_peek(hs->ssl, &none, sizeof(none));
    return hs->await_ticket ? r : WOLFSSL_SUCCESS;
}

enum tls_handshake_status tls_handshake_step(struct tls_handshake *hs, struct bytes *in)
{
    int r, error = 0;

    hs->in = *in;
    if (hs->taken)
        hs->out_len = 0;
    hs->taken = false; /* else what nobody has taken yet is followed by more */
    under_way = hs;
    r = hs->is_client ? connect_step(hs) : wolfSSL_accept(hs->ssl);
    if (r != WOLFSSL_SUCCESS)
        error = wolfSSL_get_error(hs->ssl, r);
    under_way = NULL;
    *in = hs->in;
    hs->in = (struct bytes){0};
    if (r == WOLFSSL_SUCCESS)
        return TLS_HANDSHAKE_DONE;
    wolfSSL_ERR_clear_error();
    if (error == WOLFSSL_ERROR_WANT_READ)
        return TLS_HANDSHAKE_MORE;
    hs->error = error;
    hs->failure = (uint8_t)failure_of(hs, error);
    if (!hs->is_client)
        say_something(hs);
    return TLS_HANDSHAKE_FAILED;
}

struct bytes tls_handshake_output(struct tls_handshake *hs)
{
    struct bytes out = {hs->out, hs->taken ? 0 : hs->out_len};

    hs->taken = true;
    return out;
}

void tls_handshake_drop_output(struct tls_handshake *hs)
{
    free(hs->out);
    hs->out = NULL;
    hs->out_len = hs->out_cap = 0;
}

enum tls_failure tls_handshake_failure(const struct tls_handshake *hs)
{
    return (enum tls_failure)hs->failure;
}

int tls_handshake_error(const struct tls_handshake *hs)
{
    return hs->error;
}

const char *tls_handshake_problem(const struct tls_handshake *hs)
{
    return wolfSSL_ERR_reason_error_string((unsigned long)(unsigned int)-hs->error);
}

uint8_t tls_handshake_peer_alert(const struct tls_handshake *hs)
{
    WOLFSSL_ALERT_HISTORY h = {0};

    wolfSSL_get_alert_history(hs->ssl, &h);
    return (uint8_t)h.last_rx.code;
}

/* Export
 * ------------------------------------------------------------------------------------------- */

/* By the numbers of the IANA, which no version of the library names otherwise. */
static bool suite_of(const struct tls_handshake *hs, enum tls_version *version, enum tls_aead *aead)
{
    static const struct {
        uint16_t suite;
        uint8_t version;
        uint8_t aead;
    } rows[] = {
        {0x1301, TLS_VERSION_1_3, TLS_AEAD_AES_128_GCM},
        {0x1302, TLS_VERSION_1_3, TLS_AEAD_AES_256_GCM},
        {0x1303, TLS_VERSION_1_3, TLS_AEAD_CHACHA20_POLY1305},
        {0xc02b, TLS_VERSION_1_2, TLS_AEAD_AES_128_GCM},
        {0xc02f, TLS_VERSION_1_2, TLS_AEAD_AES_128_GCM},
        {0xc02c, TLS_VERSION_1_2, TLS_AEAD_AES_256_GCM},
        {0xc030, TLS_VERSION_1_2, TLS_AEAD_AES_256_GCM},
        {0xcca9, TLS_VERSION_1_2, TLS_AEAD_CHACHA20_POLY1305},
        {0xcca8, TLS_VERSION_1_2, TLS_AEAD_CHACHA20_POLY1305},
    };
    int suite = wolfSSL_get_current_cipher_suite(hs->ssl);
    int library = wolfSSL_GetVersion(hs->ssl);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].suite != suite)
            continue;
        *version = (enum tls_version)rows[i].version;
        *aead = (enum tls_aead)rows[i].aead;
        return library == (*version == TLS_VERSION_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2);
    }
    return false;
}

size_t tls_handshake_record_bytes(const struct tls_handshake *hs)
{
    enum tls_version version;
    enum tls_aead aead;

    return suite_of(hs, &version, &aead) ? tls_record_bytes(version, aead) : 0;
}

/* Whether the library holds what its getters would give, in the sizes that we expect. */
static bool is_exportable(const struct tls_handshake *hs, const struct tls_record_params *p)
{
    bool gcm_12 = p->version == TLS_VERSION_1_2 && p->aead != TLS_AEAD_CHACHA20_POLY1305;

    return wolfSSL_GetKeySize(hs->ssl) == (int)tls_aead_key_bytes(p->aead) &&
           wolfSSL_GetIVSize(hs->ssl) == (gcm_12 ? 4 : TLS_AEAD_NONCE_BYTES) &&
           wolfSSL_GetAeadMacSize(hs->ssl) == TLS_AEAD_TAG_BYTES && wolfSSL_pending(hs->ssl) == 0 &&
           p->read_key != NULL && p->write_key != NULL && p->read_iv != NULL &&
           p->write_iv != NULL && (p->version != TLS_VERSION_1_3 || hs->secrets == HAVE_SECRETS) &&
           (!gcm_12 || (hs->has_nonce && p->write_seq == 1));
}

static void swap_directions(struct tls_record_params *p)
{
    const uint8_t *key = p->read_key, *iv = p->read_iv, *secret = p->read_secret;

    p->read_key = p->write_key;
    p->read_iv = p->write_iv;
    p->read_secret = p->write_secret;
    p->write_key = key;
    p->write_iv = iv;
    p->write_secret = secret;
}

static bool export(struct tls_handshake *hs, struct tls_record *r, struct tls_handshake_info *info)
{
    int fragment_max = wolfSSL_GetMaxOutputSize(hs->ssl);
    word64 read_seq = 0, write_seq = 0;
    struct tls_record_params p = {
        .is_client = hs->is_client,
        .read_key = wolfSSL_GetClientWriteKey(hs->ssl),
        .write_key = wolfSSL_GetServerWriteKey(hs->ssl),
        .read_iv = wolfSSL_GetClientWriteIV(hs->ssl),
        .write_iv = wolfSSL_GetServerWriteIV(hs->ssl),
        .read_secret = hs->client_secret,
        .write_secret = hs->server_secret,
        .explicit_nonce = hs->explicit_nonce + 1, /* of the one after Finished */
    };

    if (!suite_of(hs, &p.version, &p.aead) || fragment_max <= 0 || hs->awaits_verify)
        return false;
    if (hs->is_client)
        swap_directions(&p);
    (void)wolfSSL_GetPeerSequenceNumber(hs->ssl, &read_seq); /* returns whether it is 0 */
    (void)wolfSSL_GetSequenceNumber(hs->ssl, &write_seq);
    p.read_seq = read_seq;
    p.write_seq = write_seq;
    p.fragment_max = (uint16_t)min_size((size_t)fragment_max, TLS_RECORD_PLAIN_MAX);
    if (!is_exportable(hs, &p) || tls_record_init(r, &p) != 0)
        return false;
    info->version = p.version;
    info->aead = p.aead;
    return true;
}

static void read_subject(const struct tls_handshake *hs, struct tls_handshake_info *info)
{
    WOLFSSL_X509 *x;

    if (hs->is_client || !tls_context_wants_client(hs->context))
        return;
    x = wolfSSL_get_peer_certificate(hs->ssl);
    if (x == NULL)
        return;
    (void)wolfSSL_X509_NAME_oneline(wolfSSL_X509_get_subject_name(x), info->subject,
                                    sizeof(info->subject));
    wolfSSL_X509_free(x);
}

/* Without a certificate nothing is. In 1.3 it is encrypted, and the library, which keeps it once it
 * has asked, does not call back each time; but tls_self_test() has seen that it is sent. */
static bool is_stapled(const struct tls_handshake *hs, const struct tls_handshake_info *info)
{
    return !info->is_resumed &&
           (info->version == TLS_VERSION_1_3 ? hs->due != NULL : hs->has_stapled);
}

bool tls_handshake_finish(struct tls_handshake *hs, struct tls_record *r,
                          struct tls_handshake_info *info)
{
    bool ok;

    memset(info, 0, sizeof(*info));
    info->is_resumed = tls_handshake_is_resumed(hs);
    read_subject(hs, info);
    ok = export(hs, r, info);
    info->is_stapled = is_stapled(hs, info);
    tls_handshake_free(hs);
    return ok;
}
