/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Certificates, keys and the library's set-up. Loading on main, choosing on any thread. */

#include "net/tls_context.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "net/tls_file.h"
#include "net/tls_handshake.h"
#include "net/tls_pem.h"
#include "net/tls_staple.h"

/* AEAD and ephemeral keys only. AES-128 first: with AES instructions it is the fastest, and its
 * margin is ample. */
#define SUITES                                                                                     \
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

#define NAMES_MAX 256
#define RSA_BITS_MIN 2048
#define ECC_BITS_MIN 256

struct tls_identity {
    WOLFSSL_CTX *library;
    WOLFSSL_CTX *stapling; /* the same for clients that get `staple`; NULL: there is none */
    char *file;
    char *names[NAMES_MAX]; /* DNS names, lower case; "*." in front of wildcards */
    uint32_t name_count;
    int64_t expiry_s;
    struct tls_staple *staple; /* NULL: none */
    struct tls_file chain;     /* as it was read; only until everything is loaded */
    bool is_rsa;
};

struct tls_context {
    _Atomic uint32_t refs;
    uint32_t count;
    bool has_tickets;
    bool wants_client;
    enum tls_staples_13 staples_13;
    struct tls_identity *identities[TLS_IDENTITIES_MAX];
};

/* What a certificate says
 * -------------------------------------------------------------------------- */

static void add_name(struct tls_identity *id, const char *name)
{
    char *copy = id->name_count == NAMES_MAX ? NULL : strdup(name);

    if (copy == NULL)
        return; /* an unknown name leads to the first certificate */
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    id->names[id->name_count++] = copy;
}

/* RFC 6125 6.4.4: the common name counts only where there are no others. */
static void read_names(struct tls_identity *id, WOLFSSL_X509 *x)
{
    const char *name;

    while ((name = wolfSSL_X509_get_next_altname(x)) != NULL)
        add_name(id, name);
    name = wolfSSL_X509_get_subjectCN(x);
    if (id->name_count == 0 && name != NULL)
        add_name(id, name);
}

static int check_times(struct tls_identity *id, WOLFSSL_X509 *x, int64_t now_s, char *complaint)
{
    int64_t from_s = tls_pem_time_s(wolfSSL_X509_get_notBefore(x));
    char day[32];
    struct tm tm;
    time_t when;

    id->expiry_s = tls_pem_time_s(wolfSSL_X509_get_notAfter(x));
    if (id->expiry_s < 0 || from_s < 0)
        return tls_complain(complaint, "%s: its dates can't be read; get another certificate",
                            id->file);
    if (now_s >= from_s && now_s <= id->expiry_s)
        return 0;
    when = now_s < from_s ? from_s : id->expiry_s;
    strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&when, &tm));
    if (now_s < from_s)
        return tls_complain(complaint, "%s: not valid before %s; check this host's clock", id->file,
                            day);
    return tls_complain(complaint, "%s: expired on %s; renew the certificate", id->file, day);
}

static int read_leaf(struct tls_identity *id, const struct tls_file *pem, int64_t now_s,
                     char *complaint)
{
    WOLFSSL_X509 *x =
        wolfSSL_X509_load_certificate_buffer(pem->bytes, (int)pem->len, WOLFSSL_FILETYPE_PEM);
    int err;

    if (x == NULL)
        return tls_complain(complaint, "%s: holds no PEM certificate; give the chain, leaf first",
                            id->file);
    read_names(id, x);
    id->is_rsa = wolfSSL_X509_get_pubkey_type(x) == RSAk;
    err = check_times(id, x, now_s, complaint);
    wolfSSL_X509_free(x);
    return err;
}

/* Set-up of the library
 * ---------------------------------------------------------------------------- */

static bool set_up_protocol(WOLFSSL_CTX *library)
{
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

    return wolfSSL_CTX_SetMinVersion(library, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_cipher_list(library, SUITES) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_groups(library, groups, ARRAY_LEN(groups)) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_SetMinRsaKey_Sz(library, RSA_BITS_MIN) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_SetMinEccKey_Sz(library, ECC_BITS_MIN) == WOLFSSL_SUCCESS;
}

/* Without tickets the library's own, which has keys of its own, must not stand in. */
static void set_up_tickets(WOLFSSL_CTX *library, const struct tls_files *files)
{
    bool on = files->ticket_lifetime_ns != 0 && files->client_ca_count == 0;

    /* OFF alone keeps sessions that have a ticket, behind a lock of all threads. */
    wolfSSL_CTX_set_session_cache_mode(library, WOLFSSL_SESS_CACHE_OFF);
    wolfSSL_CTX_set_session_cache_mode(library, WOLFSSL_SESS_CACHE_NO_INTERNAL);
    if (on) {
        unsigned int seconds = (unsigned int)(files->ticket_lifetime_ns / NS_PER_SEC);

        wolfSSL_CTX_set_timeout(library, seconds);
        wolfSSL_CTX_set_TicketHint(library, (int)seconds);
    } else {
        wolfSSL_CTX_NoTicketTLSv12(library);
        wolfSSL_CTX_no_ticket_TLSv13(library);
    }
}

static int add_authority(WOLFSSL_CTX *library, const char *file, char *complaint)
{
    struct tls_file ca = {0};
    int err = tls_file_read(file, &ca, complaint);

    if (err == 0 && wolfSSL_CTX_load_verify_buffer(library, ca.bytes, (long)ca.len,
                                                   WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        err =
            tls_complain(complaint,
                         "%s: holds no PEM certificates of authorities that are valid; give those "
                         "that sign your clients' certificates",
                         file);
    tls_file_free(&ca);
    return err;
}

static int set_up_clients(WOLFSSL_CTX *library, const struct tls_files *files, char *complaint)
{
    for (uint32_t i = 0; i < files->client_ca_count; i++) {
        int err = add_authority(library, files->client_cas[i], complaint);

        if (err != 0)
            return err;
    }
    if (files->client_ca_count > 0)
        wolfSSL_CTX_set_verify(library, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                               NULL);
    return 0;
}

static int set_up_key(const struct tls_identity *id, WOLFSSL_CTX *library,
                      const struct tls_file *chain, const char *key_file, char *complaint)
{
    struct tls_file key = {0};
    int err = tls_file_read(key_file, &key, complaint);

    if (err != 0)
        return err;
    if (wolfSSL_CTX_use_certificate_chain_buffer(library, chain->bytes, (long)chain->len) !=
        WOLFSSL_SUCCESS)
        err = tls_complain(complaint,
                           "%s: its chain can't be used; give the leaf first, then what signed it, "
                           "with keys of at least 2048 bits (RSA) or 256 (ECDSA)",
                           id->file);
    else if (wolfSSL_CTX_use_PrivateKey_buffer(library, key.bytes, (long)key.len,
                                               WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        err =
            tls_complain(complaint,
                         "%s: holds no private key in PEM, or an encrypted one; give it without a "
                         "passphrase",
                         key_file);
    else if (wolfSSL_CTX_check_private_key(library) != WOLFSSL_SUCCESS ||
             !tls_pem_key_fits(chain, &key))
        err = tls_complain(
            complaint, "%s: is not the key of %s; give --tls-cert and --tls-key in the same order",
            key_file, id->file);
    tls_file_free(&key);
    return err;
}

static void identity_free(struct tls_identity *id)
{
    if (id == NULL)
        return;
    if (id->library != NULL)
        wolfSSL_CTX_free(id->library);
    if (id->stapling != NULL)
        wolfSSL_CTX_free(id->stapling);
    for (uint32_t i = 0; i < id->name_count; i++)
        free(id->names[i]);
    tls_staple_free(id->staple);
    tls_file_free(&id->chain);
    free(id->file);
    free(id);
}

/* The certificate with its key becomes the library's to use. */
static int set_up_library(const struct tls_identity *id, WOLFSSL_CTX *library,
                          const struct tls_files *files, const struct tls_file *chain,
                          const char *key_file, char *complaint)
{
    int err = 0;

    if (!set_up_protocol(library))
        err = tls_complain(complaint,
                           "%s: the linked wolfSSL lacks a suite or group that is needed; "
                           "install the one that this program was built with",
                           id->file);
    if (err == 0)
        err = set_up_key(id, library, chain, key_file, complaint);
    if (err == 0)
        err = set_up_clients(library, files, complaint);
    if (err != 0)
        return err;
    set_up_tickets(library, files);
    tls_handshake_set_up(library);
    return 0;
}

static int identity_set_up(struct tls_identity *id, const struct tls_files *files, uint32_t i,
                           int64_t now_s, char *complaint)
{
    int err = tls_file_read(files->certs[i], &id->chain, complaint);

    if (err == 0)
        err = read_leaf(id, &id->chain, now_s, complaint);
    if (err == 0)
        err = set_up_library(id, id->library, files, &id->chain, files->keys[i], complaint);
    return err;
}

static int identity_new(const struct tls_files *files, uint32_t i, int64_t now_s,
                        struct tls_identity **out, char *complaint)
{
    struct tls_identity *id = calloc(1, sizeof(*id));
    int err;

    if (id != NULL) {
        id->file = strdup(files->certs[i]);
        id->library = wolfSSL_CTX_new(wolfSSLv23_server_method());
    }
    if (id == NULL || id->file == NULL || id->library == NULL)
        err = tls_complain(complaint, "%s: out of memory; free some", files->certs[i]);
    else
        err = identity_set_up(id, files, i, now_s, complaint);
    wolfSSL_ERR_clear_error();
    if (err != 0)
        identity_free(id);
    else
        *out = id;
    return err;
}

/* OCSP responses
 * ----------------------------------------------------------------------------------- */

/* What is wrong with a staple of that certificate. */
static int check_staple(const struct tls_identity *id, const struct tls_staple *s, int64_t now_s,
                        char *complaint)
{
    const char *file = tls_staple_file(s);

    if (!tls_staple_is_good(s))
        return tls_complain(complaint,
                            "%s: says that %s is revoked or unknown; get another certificate", file,
                            id->file);
    if (!tls_staple_is_valid(s, now_s))
        return tls_complain(complaint, TLS_STAPLE_NOT_NOW, file);
    if (id->staple != NULL)
        return tls_complain(complaint, "%s: %s is for the same certificate; give one of them", file,
                            tls_staple_file(id->staple));
    return 0;
}

/* Makes the context that staples s: by the chain that the other has, since its file may have been
 * renewed meanwhile. A key that was does not fit, and is refused. */
static int set_up_stapling(struct tls_identity *id, const struct tls_files *files, uint32_t i,
                           struct tls_staple *s, char *complaint)
{
    int err;

    id->stapling = wolfSSL_CTX_new(wolfSSLv23_server_method());
    if (id->stapling == NULL)
        return tls_complain(complaint, "%s: out of memory; free some", id->file);
    err = set_up_library(id, id->stapling, files, &id->chain, files->keys[i], complaint);
    if (err == 0 && !tls_staple_install(s, &id->chain, id->stapling))
        err = tls_complain(complaint,
                           "%s: %s can't take it; give its chain with the issuer's certificate",
                           tls_staple_file(s), id->file);
    return err;
}

/* Whether the i-th certificate is the one that a staple speaks of, which then is taken. 0: it is
 * not; 1; -EINVAL. */
static int attach_staple(struct tls_identity *id, const struct tls_files *files, uint32_t i,
                         int64_t now_s, struct tls_staple *s, char *complaint)
{
    int err;

    if (!tls_staple_fits(s, &id->chain))
        return 0;
    err = check_staple(id, s, now_s, complaint);
    if (err == 0)
        err = set_up_stapling(id, files, i, s, complaint);
    if (err != 0)
        return err;
    id->staple = s;
    return 1;
}

static int load_staple(struct tls_context *ctx, const struct tls_files *files, int64_t now_s,
                       const char *file, char *complaint)
{
    struct tls_staple *s;
    int r = tls_staple_load(file, &s, complaint);

    if (r != 0)
        return r;
    for (uint32_t i = 0; i < ctx->count && r == 0; i++)
        r = attach_staple(ctx->identities[i], files, i, now_s, s, complaint);
    if (r == 1)
        return 0;
    tls_staple_free(s);
    if (r == 0)
        r = tls_complain(complaint,
                         "%s: speaks of none of the certificates, or has no nextUpdate; fetch the "
                         "OCSP response of one, and give its chain with the issuer's certificate",
                         file);
    return r;
}

int tls_context_load(const struct tls_files *files, int64_t now_s, struct tls_context **out,
                     char complaint[TLS_COMPLAINT_MAX])
{
    struct tls_context *ctx = calloc(1, sizeof(*ctx));
    int err = 0;

    CHECK(files->count > 0 && files->count <= TLS_IDENTITIES_MAX);
    if (ctx == NULL)
        return tls_complain(complaint, "out of memory; free some");
    atomic_init(&ctx->refs, 1);
    ctx->wants_client = files->client_ca_count > 0;
    ctx->has_tickets = files->ticket_lifetime_ns != 0 && !ctx->wants_client;
    for (uint32_t i = 0; i < files->count && err == 0; i++) {
        err = identity_new(files, i, now_s, &ctx->identities[i], complaint);
        ctx->count += err == 0;
    }
    for (uint32_t i = 0; i < files->staple_count && err == 0; i++)
        err = load_staple(ctx, files, now_s, files->staples[i], complaint);
    for (uint32_t i = 0; i < ctx->count; i++)
        tls_file_free(&ctx->identities[i]->chain);
    wolfSSL_ERR_clear_error();
    wc_ecc_fp_free(); /* the library's tables of this thread */
    if (err != 0)
        tls_context_unref(ctx);
    else
        *out = ctx;
    return err;
}

struct tls_context *tls_context_ref(struct tls_context *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void tls_context_unref(struct tls_context *ctx)
{
    /* Release and acquire: what others did with it is done before it is freed. */
    if (ctx == NULL || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (uint32_t i = 0; i < ctx->count; i++)
        identity_free(ctx->identities[i]);
    free(ctx);
}

/* Choice
 * ------------------------------------------------------------------------------------------- */

enum match { MATCH_NONE, MATCH_WILDCARD, MATCH_EXACT };

/* RFC 6125 6.4.3: the wildcard stands for the whole leftmost label. */
static enum match match_name(const char *own, const char *name, size_t len)
{
    const char *dot;

    if (strlen(own) == len && strncasecmp(own, name, len) == 0)
        return MATCH_EXACT;
    if (strncmp(own, "*.", 2) != 0)
        return MATCH_NONE;
    dot = memchr(name, '.', len);
    if (dot == NULL || dot == name)
        return MATCH_NONE;
    len -= (size_t)(dot - name);
    return strlen(own + 1) == len && strncasecmp(own + 1, dot, len) == 0 ? MATCH_WILDCARD
                                                                         : MATCH_NONE;
}

static enum match match_identity(const struct tls_identity *id, const char *name, size_t len)
{
    enum match best = MATCH_NONE;

    for (uint32_t i = 0; i < id->name_count && best != MATCH_EXACT; i++) {
        enum match m = match_name(id->names[i], name, len);

        if (m > best)
            best = m;
    }
    return best;
}

/* Of the certificates that match as well as `wanted`, the one that suits the client's kind best. */
static const struct tls_identity *choose_kind(const struct tls_context *ctx,
                                              const struct tls_hello *hello, const char *name,
                                              size_t len, enum match wanted)
{
    const struct tls_identity *any = NULL, *rsa = NULL;

    for (uint32_t i = 0; i < ctx->count; i++) {
        const struct tls_identity *id = ctx->identities[i];

        if (match_identity(id, name, len) != wanted)
            continue;
        if (!id->is_rsa && hello->can_ecdsa)
            return id;
        if (id->is_rsa && hello->can_rsa && rsa == NULL)
            rsa = id;
        if (any == NULL)
            any = id;
    }
    return rsa != NULL ? rsa : any;
}

const struct tls_identity *tls_context_choose(const struct tls_context *ctx,
                                              const struct tls_hello *hello)
{
    const struct tls_identity *first = ctx->identities[0];
    const struct tls_identity *id = NULL;

    if (hello->server_name != NULL) {
        size_t len = hello->server_name_len;

        id = choose_kind(ctx, hello, hello->server_name, len, MATCH_EXACT);
        if (id == NULL)
            id = choose_kind(ctx, hello, hello->server_name, len, MATCH_WILDCARD);
    }
    if (id == NULL && first->name_count > 0) /* its name may have one of the other kind, too */
        id = choose_kind(ctx, hello, first->names[0], strlen(first->names[0]), MATCH_EXACT);
    return id != NULL ? id : first;
}

bool tls_context_staples(const struct tls_context *ctx, const struct tls_identity *id,
                         const struct tls_hello *hello, int64_t now_s)
{
    return id->staple != NULL && hello->wants_staple &&
           (!hello->is_13 || ctx->staples_13 == TLS_STAPLES_13_YES) &&
           tls_staple_is_valid(id->staple, now_s);
}

void *tls_identity_library(const struct tls_identity *id, bool staples)
{
    return staples ? id->stapling : id->library;
}

const char *tls_identity_file(const struct tls_identity *id)
{
    return id->file;
}

bool tls_identity_is_rsa(const struct tls_identity *id)
{
    return id->is_rsa;
}

uint32_t tls_context_count(const struct tls_context *ctx)
{
    return ctx->count;
}

const struct tls_identity *tls_context_at(const struct tls_context *ctx, uint32_t i)
{
    return ctx->identities[i];
}

int64_t tls_context_expiry_s(const struct tls_context *ctx, const char **file)
{
    const struct tls_identity *first = ctx->identities[0];

    for (uint32_t i = 1; i < ctx->count; i++) {
        if (ctx->identities[i]->expiry_s < first->expiry_s)
            first = ctx->identities[i];
    }
    *file = first->file;
    return first->expiry_s;
}

const struct tls_staple *tls_identity_staple(const struct tls_identity *id)
{
    return id->staple;
}

int64_t tls_context_staple_expiry_s(const struct tls_context *ctx, const char **file)
{
    int64_t first_s = 0;

    for (uint32_t i = 0; i < ctx->count; i++) {
        const struct tls_staple *s = ctx->identities[i]->staple;

        if (s != NULL && (first_s == 0 || tls_staple_expiry_s(s) < first_s)) {
            first_s = tls_staple_expiry_s(s);
            *file = tls_staple_file(s);
        }
    }
    return first_s;
}

void tls_context_set_staples_13(struct tls_context *ctx, enum tls_staples_13 answer)
{
    ctx->staples_13 = answer;
}

enum tls_staples_13 tls_context_staples_13(const struct tls_context *ctx)
{
    return ctx->staples_13;
}

bool tls_context_has_tickets(const struct tls_context *ctx)
{
    return ctx->has_tickets;
}

bool tls_context_wants_client(const struct tls_context *ctx)
{
    return ctx->wants_client;
}

/* Sharing
 * ------------------------------------------------------------------------------------------ */

void tls_shared_init(struct tls_shared *s, struct tls_context *first,
                     const uint8_t ticket_seed[TLS_TICKET_SEED_BYTES])
{
    pthread_mutex_init(&s->lock, NULL);
    s->current = first;
    atomic_init(&s->generation, 1);
    memcpy(s->ticket_seed, ticket_seed, sizeof(s->ticket_seed));
}

void tls_shared_deinit(struct tls_shared *s)
{
    tls_context_unref(s->current);
    explicit_bzero(s->ticket_seed, sizeof(s->ticket_seed));
    pthread_mutex_destroy(&s->lock);
}

void tls_shared_swap(struct tls_shared *s, struct tls_context *next)
{
    struct tls_context *old;

    pthread_mutex_lock(&s->lock);
    old = s->current;
    s->current = next;
    atomic_fetch_add_explicit(&s->generation, 1, memory_order_release);
    pthread_mutex_unlock(&s->lock);
    tls_context_unref(old);
}

void tls_shared_renew(struct tls_shared *s, struct tls_context **mine, uint32_t *generation)
{
    uint32_t now = atomic_load_explicit(&s->generation, memory_order_acquire);

    if (likely(*mine != NULL && *generation == now))
        return;
    tls_context_unref(*mine);
    pthread_mutex_lock(&s->lock);
    *generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
    *mine = tls_context_ref(s->current);
    pthread_mutex_unlock(&s->lock);
}
