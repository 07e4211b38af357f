/*
 * What wrk lacks as a client of TLS, put under it by LD_PRELOAD: a client certificate, a protocol to ask for, trust in
 * what the server shows, and a say in whether sessions are taken up again. wrk itself is as Debian packages it.
 *
 *     cc -O2 -shared -fPIC -o wrk_tls.so wrk_tls.c -ldl
 *     WRK_TLS_TRUST=ca.pem WRK_TLS_PAIR=client.pem WRK_TLS_KEY=client.key WRK_TLS_PROTOCOL=http/1.1 \
 *     WRK_TLS_RESUMES=1 LD_PRELOAD=$PWD/wrk_tls.so wrk https://...
 *
 * TLS 1.3 with one cipher suite and one group, so that all servers do the same work. In the end it writes one line
 * to stderr: how many handshakes there were, and of which kind. The functions of OpenSSL are declared here: their
 * headers are not needed to build this.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ssl SSL;
typedef struct context SSL_CTX;
typedef struct session SSL_SESSION;
typedef struct method SSL_METHOD;

extern int SSL_CTX_use_certificate_chain_file(SSL_CTX *, const char *);
extern int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *, int type);
extern int SSL_CTX_load_verify_locations(SSL_CTX *, const char *file, const char *folder);
extern int SSL_CTX_set_alpn_protos(SSL_CTX *, const unsigned char *, unsigned int);
extern int SSL_CTX_set_ciphersuites(SSL_CTX *, const char *);
extern long SSL_CTX_ctrl(SSL_CTX *, int command, long, void *);
extern void SSL_CTX_sess_set_new_cb(SSL_CTX *, int (*)(SSL *, SSL_SESSION *));
extern int SSL_set_session(SSL *, SSL_SESSION *);
extern int SSL_session_reused(const SSL *);
extern int SSL_in_before(const SSL *);
extern const char *SSL_get_version(const SSL *);
extern const void *SSL_get_current_cipher(const SSL *);
extern const char *SSL_CIPHER_get_name(const void *);
extern void SSL_get0_alpn_selected(const SSL *, const unsigned char **, unsigned int *);
extern void SSL_SESSION_free(SSL_SESSION *);
extern SSL_SESSION *SSL_SESSION_dup(const SSL_SESSION *);

enum { PEM = 1, SET_MIN_PROTO_VERSION = 123, SET_GROUPS_LIST = 92, TLS_1_3 = 0x0304, VERIFY_PEER = 1 };

static long handshakes, resumed; /* one thread: wrk -t1 */
static SSL_SESSION *newest;
static char kind[200] = "";

static void need(int is_done, const char *what) {
  if (!is_done) {
    fprintf(stderr, "wrk_tls: cannot set %s\n", what);
    exit(2);
  }
}

/* Copies on both ways: OpenSSL forbids the session of a connection that it sees end without `close_notify`. */
static int on_session(SSL *ssl, SSL_SESSION *session) {
  (void)ssl;
  if (newest) SSL_SESSION_free(newest);
  newest = SSL_SESSION_dup(session);
  return 0; /* theirs is not kept */
}

static void begin_with(SSL *ssl, const SSL_SESSION *session) {
  SSL_SESSION *copy = session ? SSL_SESSION_dup(session) : NULL;
  SSL_set_session(ssl, copy);
  SSL_SESSION_free(copy);
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method) {
  SSL_CTX *(*real)(const SSL_METHOD *) = dlsym(RTLD_NEXT, "SSL_CTX_new");
  SSL_CTX *context = real(method);
  const char *pair = getenv("WRK_TLS_PAIR"), *key = getenv("WRK_TLS_KEY"), *protocol = getenv("WRK_TLS_PROTOCOL");
  if (!context) return context;
  need(SSL_CTX_ctrl(context, SET_MIN_PROTO_VERSION, TLS_1_3, NULL) == 1, "the version");
  need(SSL_CTX_ctrl(context, SET_GROUPS_LIST, 0, "X25519") == 1, "the group");
  need(SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1, "the cipher suite");
  need(SSL_CTX_load_verify_locations(context, getenv("WRK_TLS_TRUST"), NULL) == 1, "WRK_TLS_TRUST");
  if (pair && *pair) {
    need(SSL_CTX_use_certificate_chain_file(context, pair) == 1, "WRK_TLS_PAIR");
    need(SSL_CTX_use_PrivateKey_file(context, key, PEM) == 1, "WRK_TLS_KEY");
  }
  if (protocol && *protocol) {
    unsigned char list[256];
    size_t length = strlen(protocol);
    need(length < sizeof list, "WRK_TLS_PROTOCOL");
    list[0] = (unsigned char)length;
    memcpy(list + 1, protocol, length);
    need(SSL_CTX_set_alpn_protos(context, list, (unsigned int)length + 1) == 0, "WRK_TLS_PROTOCOL");
  }
  SSL_CTX_sess_set_new_cb(context, on_session);
  return context;
}

/* wrk verifies nothing; we do, and its connection then fails and is counted. */
void SSL_CTX_set_verify(SSL_CTX *context, int mode, void *callback) {
  void (*real)(SSL_CTX *, int, void *) = dlsym(RTLD_NEXT, "SSL_CTX_set_verify");
  (void)mode;
  real(context, VERIFY_PEER, callback);
}

int SSL_connect(SSL *ssl) {
  static int (*real)(SSL *);
  static int resumes = -1;
  int done;
  if (!real) real = dlsym(RTLD_NEXT, "SSL_connect");
  if (resumes < 0) resumes = getenv("WRK_TLS_RESUMES") && *getenv("WRK_TLS_RESUMES") == '1';
  if (SSL_in_before(ssl)) begin_with(ssl, resumes ? newest : NULL);
  done = real(ssl);
  if (done == 1) {
    const unsigned char *protocol = NULL;
    unsigned int length = 0;
    handshakes++;
    resumed += SSL_session_reused(ssl) != 0;
    if (!*kind) {
      SSL_get0_alpn_selected(ssl, &protocol, &length);
      snprintf(kind, sizeof kind, "%s %s %.*s", SSL_get_version(ssl), SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)),
               (int)length, protocol ? (const char *)protocol : "");
    }
  }
  return done;
}

__attribute__((destructor)) static void report(void) {
  fprintf(stderr, "TLS {\"handshakes\": %ld, \"resumed\": %ld, \"kind\": \"%s\"}\n", handshakes, resumed, kind);
}
