/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* OCSP responses: loading, finding their certificate, handing them to the library. */

#include "net/tls_staple.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <wolfssl/ocsp.h>
#include <wolfssl/wolfcrypt/asn.h>

#include "net/tls_handshake.h"
#include "net/tls_pem.h"

#define BEGIN_CERTIFICATE "-----BEGIN CERTIFICATE-----"

struct tls_staple {
    char *file;
    struct tls_file der;
    int64_t from_s;  /* thisUpdate */
    int64_t until_s; /* nextUpdate */
    bool is_good;    /* neither revoked nor unknown */
};

/* NULL: it can't be read, or its times are not now. */
static OcspResponse *parse(const struct tls_file *der)
{
    const unsigned char *at = der->bytes;

    return wolfSSL_d2i_OCSP_RESPONSE(NULL, &at, (int)der->len);
}

static int read_response(struct tls_staple *s, char *complaint)
{
    int err = tls_file_read(s->file, &s->der, complaint);
    OcspResponse *response;

    if (err != 0)
        return err;
    response = parse(&s->der);
    if (response == NULL)
        return tls_complain(complaint, TLS_STAPLE_NOT_NOW, s->file);
    wolfSSL_OCSP_RESPONSE_free(response);
    return 0;
}

int tls_staple_load(const char *file, struct tls_staple **out, char complaint[TLS_COMPLAINT_MAX])
{
    struct tls_staple *s = calloc(1, sizeof(*s));
    int err;

    if (s == NULL)
        return tls_complain(complaint, "%s: out of memory; free some", file);
    s->file = strdup(file);
    err = s->file == NULL ? tls_complain(complaint, "%s: out of memory; free some", file)
                          : read_response(s, complaint);
    if (err != 0)
        tls_staple_free(s);
    else
        *out = s;
    return err;
}

void tls_staple_free(struct tls_staple *s)
{
    if (s == NULL)
        return;
    tls_file_free(&s->der);
    free(s->file);
    free(s);
}

/* What a chain has behind its leaf; len 0: nothing. */
static struct tls_file behind_leaf(const struct tls_file *chain)
{
    const size_t mark = sizeof(BEGIN_CERTIFICATE) - 1;
    uint8_t *end = chain->bytes + chain->len;
    uint8_t *at = memmem(chain->bytes, chain->len, BEGIN_CERTIFICATE, mark);

    if (at != NULL)
        at = memmem(at + mark, (size_t)(end - at) - mark, BEGIN_CERTIFICATE, mark);
    return at == NULL ? (struct tls_file){0} : (struct tls_file){at, (size_t)(end - at)};
}

static WOLFSSL_X509 *first_of(const struct tls_file *pem)
{
    return pem->len == 0 ? NULL
                         : wolfSSL_X509_load_certificate_buffer(pem->bytes, (int)pem->len,
                                                                WOLFSSL_FILETYPE_PEM);
}

/* RFC 6960 4.2.1: the answer for that certificate. False: there is none, or it has no nextUpdate.
 */
static bool find_answer(struct tls_staple *s, WOLFSSL_OCSP_BASICRESP *basic,
                        WOLFSSL_OCSP_CERTID *id)
{
    WOLFSSL_ASN1_TIME *revoked = NULL, *from = NULL, *until = NULL;
    int status, reason;

    if (wolfSSL_OCSP_resp_find_status(basic, id, &status, &reason, &revoked, &from, &until) !=
        WOLFSSL_SUCCESS)
        return false;
    s->from_s = tls_pem_time_s(from);
    s->until_s = tls_pem_time_s(until);
    if (s->from_s < 0 || s->until_s < 0)
        return false;
    s->is_good = status == CERT_GOOD;
    return true;
}

bool tls_staple_fits(struct tls_staple *s, const struct tls_file *chain)
{
    struct tls_file rest = behind_leaf(chain);
    WOLFSSL_X509 *leaf = first_of(chain), *issuer = first_of(&rest);
    WOLFSSL_OCSP_CERTID *id =
        leaf != NULL && issuer != NULL ? wolfSSL_OCSP_cert_to_id(NULL, leaf, issuer) : NULL;
    OcspResponse *response = id != NULL ? parse(&s->der) : NULL;
    WOLFSSL_OCSP_BASICRESP *basic =
        response != NULL ? wolfSSL_OCSP_response_get1_basic(response) : NULL;
    bool fits = basic != NULL && find_answer(s, basic, id);

    wolfSSL_OCSP_BASICRESP_free(basic);
    wolfSSL_OCSP_RESPONSE_free(response);
    wolfSSL_OCSP_CERTID_free(id);
    wolfSSL_X509_free(issuer);
    wolfSSL_X509_free(leaf);
    return fits;
}

bool tls_staple_give(const struct tls_staple *s, void *library)
{
    uint8_t *copy = XMALLOC(s->der.len, NULL, DYNAMIC_TYPE_OCSP);

    if (copy == NULL)
        return false;
    memcpy(copy, s->der.bytes, s->der.len);
    if (wolfSSL_set_tlsext_status_ocsp_resp(library, copy, (int)s->der.len) == WOLFSSL_SUCCESS)
        return true;
    XFREE(copy, NULL, DYNAMIC_TYPE_OCSP);
    return false;
}

bool tls_staple_install(struct tls_staple *s, const struct tls_file *chain, void *library)
{
    struct tls_file rest = behind_leaf(chain);

    return rest.len > 0 &&
           wolfSSL_CTX_load_verify_buffer(library, rest.bytes, (long)rest.len,
                                          WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_EnableOCSPStapling(library) == WOLFSSL_SUCCESS &&
           tls_handshake_set_up_staple(library, s);
}

bool tls_staple_is_in(const struct tls_staple *s, struct bytes flight)
{
    return flight.len > 0 && memmem(flight.ptr, flight.len, s->der.bytes, s->der.len) != NULL;
}

size_t tls_staple_bytes(const struct tls_staple *s)
{
    return s->der.len;
}

const char *tls_staple_file(const struct tls_staple *s)
{
    return s->file;
}

bool tls_staple_is_good(const struct tls_staple *s)
{
    return s->is_good;
}

int64_t tls_staple_expiry_s(const struct tls_staple *s)
{
    return s->until_s;
}

bool tls_staple_is_valid(const struct tls_staple *s, int64_t now_s)
{
    return s->from_s <= now_s && now_s < s->until_s;
}
